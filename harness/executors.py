"""Where attempts run: in this process, or on Ray. One interface, the same messages, the same records."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from harness.attempt import Listener, Order, TrainerFactory, attempt, hear, lejepa_trainer, order
from harness.pool import granted, places
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

    def __init__(self, pool: Pool, trainer: TrainerFactory = lejepa_trainer) -> None:
        self._pool, self._trainer = pool, trainer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def run(self, search: Search, listener: Listener, folder: Path, stop: StopRequest = never) -> None:
        while not stop() and (trial := search.suggest()) is not None:
            ordered = order(trial, granted(trial.config, self._pool), self._pool.ranks, folder)
            messages = attempt(ordered, self._trainer)
            try:
                while not stop() and not hear(trial, _next_message(messages, ordered), search, listener):
                    pass
            finally:
                messages.close()


def _next_message(messages: Iterator[Message], ordered: Order) -> Message:
    log = Path(ordered.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        return next(messages)


class RayExecutor:
    """Ray Tune on this machine, with actors that are reused from trial to trial.

    Uses the Ray that this process is connected to where there is one; else starts one and shuts it down at exit.
    """

    name = "ray"

    def __init__(self, pool: Pool, trainer: TrainerFactory = lejepa_trainer) -> None:
        self._pool, self._trainer = pool, trainer
        self._owns_ray = False

    def __enter__(self) -> Self:
        os.environ.update(_QUIET)
        import ray

        if not ray.is_initialized():
            before = signal.getsignal(signal.SIGTERM)
            # "local": a RAY_ADDRESS in the environment must not send a sweep to somebody's cluster
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            if before is not None:
                signal.signal(signal.SIGTERM, before)  # ray.init put its own there, which would skip our last words
            self._owns_ray = True
        try:
            have = ray.cluster_resources()
            self._places = places(self._pool, have.get("CPU", 0), have.get("GPU", 0))
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

        from harness.trainable import trainable
        from harness.tuning import Asker, Hearer, Sweep, Undertaker

        def order_of(trial: TrialSpec) -> Order:
            return order(trial, granted(trial.config, self._pool), self._pool.ranks, folder)

        sweep = Sweep(search, listener, order_of, stop)
        scratch = tempfile.mkdtemp(prefix="harness-tune-")  # for Tune's own records, which nobody reads
        try:
            tune.Tuner(
                tune.with_resources(trainable(self._trainer), {"cpu": self._pool.cpus, "gpu": self._pool.gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=Asker(sweep),
                    num_samples=-1,
                    max_concurrent_trials=self._places,  # without it, Tune starts one at a time (ray#63770)
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=scratch,
                    name=folder.name,
                    stop=Hearer(sweep),
                    callbacks=[Undertaker(sweep)],
                    failure_config=tune.FailureConfig(max_failures=_DEATHS),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if sweep.error is not None:
            raise sweep.error


_DEATHS = 2  # of a trial's worker, after which another attempt is made; exceptions of the trainer are not tried again

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints tables at verbose=0, too
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, JSON and TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # run.py has its own
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the ledger and the trial's log have them
    "TUNE_WARN_THRESHOLD_S": "10",  # a commit of the ledger is a step that Tune finds slow
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # its snapshots are never restored
}
