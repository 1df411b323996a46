"""Where attempts run: in this process, or on Ray. One interface, the same messages, the same records."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from harness.attempt import Cramped, Listener, Order, TrainerFactory, attempt, hear, lejepa_trainer, order
from harness.ledger import canonical
from harness.pool import Node, Placement, PoolError, Shape, alone, granted, places, places_of, shape_in, visible_gpus
from harness.pool_config import cores
from harness.queues import Queues
from harness.search import Search
from harness.spec import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.attempt import Message
    from harness.trials import TrialSpec

StopRequest = Callable[[], str | None]  # the reason to stop, or None: go on


def never() -> None:
    """No reason to stop."""


class Executor(Protocol):
    """A context manager that holds what its trials run on."""

    name: str

    def __enter__(self) -> Self:
        """Raises PoolError where the pool cannot be had."""

    def __exit__(self, *exc: object) -> None: ...

    def run(self, search: Search, listener: Listener, folder: Path, stop: StopRequest = never) -> None:
        """Run what the search suggests until it is exhausted, or until `stop` gives a reason.

        The listener hears each message first. Trials that a stop cuts short are not told as ended: whoever asked for
        the stop knows. An exception of the listener or the search stops everything and is raised here.
        """


class LocalExecutor:
    """One process, one trial after the other, here. A stop waits for the end of the epoch that runs."""

    name = "local"

    def __init__(self, pool: Pool | Placement, trainer: TrainerFactory = lejepa_trainer) -> None:
        self._placement, self._trainer = alone(pool) if isinstance(pool, Pool) else pool, trainer

    def __enter__(self) -> Self:
        shapes = {name: shape_in(pool, _at_least(pool)) for name, pool in self._placement.pools.items()}
        places_of(self._placement, shapes, [this_machine()])
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def run(self, search: Search, listener: Listener, folder: Path, stop: StopRequest = never) -> None:
        while not stop() and (trial := search.suggest()) is not None:
            pool = self._placement.pool_of(trial.config, trial.arm)
            try:
                here = granted(trial.config, pool)
            except PoolError as error:
                refuse(trial, str(error), search, listener)
                continue
            ordered: Order | None = order(trial, here, pool.ranks, folder, pool.gpus)
            while ordered is not None:
                ordered = self._attempt(ordered, trial, search, listener, stop)

    def _attempt(
        self, ordered: Order, trial: TrialSpec, search: Search, listener: Listener, stop: StopRequest
    ) -> Order | None:
        """Another order, where the trial asks for a larger part of its GPU."""
        messages = attempt(ordered, self._trainer)
        try:
            while not stop():
                message = _next_message(messages, ordered)
                if hear(trial, message, search, listener):
                    return replace(ordered, gpus=message.gpus) if isinstance(message, Cramped) else None
            return None
        finally:
            messages.close()


def refuse(trial: TrialSpec, reason: str, search: Search, listener: Listener) -> None:
    """End a trial that no place can take."""
    listener.ended(trial, "failed", {"traceback": reason})
    search.ended(trial, "failed")


def _next_message(messages: Iterator[Message], ordered: Order) -> Message:
    log = Path(ordered.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        return next(messages)


class RayExecutor:
    """Ray Tune, with actors that are reused from trial to trial.

    Uses the Ray that this process is connected to where there is one; else joins the one at the placement's address, or
    starts one here and shuts it down at exit.
    """

    name = "ray"

    def __init__(self, pool: Pool | Placement, trainer: TrainerFactory = lejepa_trainer) -> None:
        self._placement, self._trainer = alone(pool) if isinstance(pool, Pool) else pool, trainer
        self._owns_ray = False
        self._found_small: dict[tuple[str, str], float] = {}  # pool, what memory depends on → part of a GPU instead

    def __enter__(self) -> Self:
        os.environ.update(_QUIET)
        import ray

        if not ray.is_initialized():
            connect(self._placement.address)
            self._owns_ray = True
        try:
            self._nodes = list(nodes_of(ray.nodes()))
            pools = self._placement.pools
            self._gpu_bytes = {name: gpu_bytes(pool) for name, pool in pools.items() if pool.gpus and pool.memory}
            smallest = {name: self._shape(name, _at_least(pool)) for name, pool in pools.items()}
            self.places = places_of(self._placement, smallest, self._nodes)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        import ray

        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False

    def run(self, search: Search, listener: Listener, folder: Path, stop: StopRequest = never) -> None:
        from ray import tune

        from harness.trainable import resources, trainable
        from harness.tuning import Asker, Hearer, Sweep, Undertaker

        # "Trials did not complete", it says also where one of Tune's died and another of its completed ours
        logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
        queues = Queues(
            search, self._placement, self.places, self._capacity(), self._shape_of,
            lambda trial, reason: refuse(trial, reason, search, listener),
        )  # fmt: skip
        sweep = Sweep(
            search, queues, listener, lambda trial, shape: self._order(trial, shape, folder), self._larger, stop
        )
        scratch = tempfile.mkdtemp(prefix="harness-tune-")  # for Tune's own records, which nobody reads
        try:
            tune.Tuner(
                tune.with_resources(trainable(self._trainer), resources),
                tune_config=tune.TuneConfig(
                    search_alg=Asker(sweep),
                    num_samples=-1,
                    # without it, Tune starts one at a time (ray#63770)
                    max_concurrent_trials=min(self._placement.most, sum(self.places.values())),
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=scratch,
                    name=folder.name,
                    stop=Hearer(sweep),
                    callbacks=[Undertaker(sweep)],
                    failure_config=tune.FailureConfig(max_failures=0),  # the Undertaker tries again
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if sweep.error is not None:
            raise sweep.error

    def _order(self, trial: TrialSpec, shape: Shape, folder: Path) -> Order:
        pool = self._placement.pool_of(trial.config, trial.arm)
        return order(trial, granted(trial.config, pool), shape.ranks, folder, shape.gpus)

    def _shape_of(self, trial: TrialSpec) -> Shape:
        """What the trial is granted. PoolError where its pool cannot take it."""
        shape = self._packed(trial)
        if not self._found_small or not shape.shares_a_gpu:
            return shape
        return replace(shape, gpus=max(shape.gpus, self._found_small.get(self._what_takes_memory(trial), 0)))

    def _packed(self, trial: TrialSpec) -> Shape:
        name = self._placement.name_of(trial.config, trial.arm)
        pool = self._placement.pools[name]
        here = granted(trial.config, pool)
        if pool.memory != "measured":
            return self._shape(name, pool.memory)
        from harness.memory import MeasurementError, peak_bytes

        try:
            needed = peak_bytes(here)
        except MeasurementError as error:
            raise PoolError(f"{name}: {error}") from error
        shape = self._shape(name, needed)
        if not places(shape, self._nodes):
            raise PoolError(f"{name}: the trial takes {shape.memory / 1e9:.2f} GB, and no node has as much")
        return shape

    def _larger(self, trial: TrialSpec, gpus: float) -> Shape:
        """The shape of a trial whose part of a GPU is too small; from now on of all that take as much memory."""
        what = self._what_takes_memory(trial)
        self._found_small[what] = max(gpus, self._found_small.get(what, 0))
        return self._shape_of(trial)

    def _what_takes_memory(self, trial: TrialSpec) -> tuple[str, str]:
        from harness.memory import shape

        name = self._placement.name_of(trial.config, trial.arm)
        return name, canonical(shape(granted(trial.config, self._placement.pools[name])))

    def _shape(self, name: str, needed: int | None) -> Shape:
        from harness.memory import MeasurementError

        try:
            return shape_in(self._placement.pools[name], needed, self._gpu_bytes.get(name))
        except MeasurementError as error:
            raise PoolError(f"{name}: {error}") from error

    def _capacity(self) -> dict[str, float]:
        nodes = self._nodes
        have = {"CPU": [n.cpus for n in nodes], "GPU": [n.gpus for n in nodes], "memory": [n.memory for n in nodes]}
        return {what: sum(amounts) for what, amounts in have.items()}


def _at_least(pool: Pool) -> int | None:
    """Bytes that a trial takes; what is measured is not known before there is a trial."""
    return 1 if pool.memory == "measured" else pool.memory


def connect(address: str) -> None:
    """PoolError where no Ray answers."""
    import ray

    before = signal.getsignal(signal.SIGTERM)
    # "local", where no other is asked for: a RAY_ADDRESS in the environment must not send a sweep to somebody's cluster
    own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except ConnectionError as error:
        raise PoolError(
            f"cluster.address {address}: no Ray answers ({' '.join(str(error).split())[:200]}); start one on this "
            f"machine (`ray start --head`, or `ray start --address=HOST:PORT` to join one), or take address: local"
        ) from error
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)  # ray.init put its own there, which would skip our last words


def this_machine() -> Node:
    """As torch would find it."""
    import psutil

    return Node(cores(), visible_gpus(), psutil.virtual_memory().total)


def nodes_of(told: list[dict[str, Any]]) -> Iterator[Node]:
    """From what `ray.nodes()` tells."""
    for node in told:
        if node["Alive"]:
            have = node["Resources"]
            yield Node(have.get("CPU", 0), have.get("GPU", 0), have.get("memory", 0), node.get("Labels") or {})


def gpu_bytes(pool: Pool) -> int:
    """The size of a GPU of the pool. PoolError where none can be had, or torch does not see it."""
    import ray

    asked = ray.remote(num_cpus=0, num_gpus=1, label_selector=dict(pool.labels))(_size_of_gpu).remote()
    try:
        size: int = ray.get(asked, timeout=_PATIENCE)
    except ray.exceptions.GetTimeoutError as error:
        ray.cancel(asked)
        raise PoolError(f"pool.memory: no GPU was free within {_PATIENCE:.0f} s to learn its size") from error
    if not size:
        raise PoolError("pool.memory: torch sees no GPU on the node, so its size is not known; set pool.gpus instead")
    return size


def _size_of_gpu() -> int:
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0


_PATIENCE = 120.0  # seconds for the first process on a node

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints tables at verbose=0, too
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, JSON and TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # run.py has its own
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the ledger and the trial's log have them
    "TUNE_WARN_THRESHOLD_S": "10",  # a commit of the ledger is a step that Tune finds slow
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # its snapshots are never restored
}
