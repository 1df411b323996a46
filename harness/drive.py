"""The driver: from a sweep whose folder is open to a ledger in which every trial has ended, or can go on.

`harness run` makes a folder and comes here; `harness resume` opens one and comes here.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from harness.attempt import DiskFull, NodesLost, TrainerFactory
from harness.budget import EVENT as BUDGET_SPENT
from harness.budget import Purse
from harness.checkpoints import drop_pruned
from harness.executors import Executor, LocalExecutor, RayExecutor
from harness.folder import RunError
from harness.importance import weigh
from harness.ledger import Ledger, LedgerError
from harness.lock import marked
from harness.mlflow_store import made_up_for
from harness.plan import plan
from harness.pool import granted, placement
from harness.progress import Progress
from harness.recommend import recommend
from harness.reuse import Library, Reusing, conditions, told
from harness.search import Search, search_for
from harness.spec import SweepSpec
from harness.tracking import MirrorThread
from harness.trials import Fingerprint, TrialSpec

if TYPE_CHECKING:
    from lejepa.trainer import EpochReport

EXECUTORS: dict[str, type[LocalExecutor] | type[RayExecutor]] = {"ray": RayExecutor, "local": LocalExecutor}


@dataclass(frozen=True)
class RunSummary:
    counts: Mapping[str, int]  # state → trials
    interrupted: bool
    folder: Path


@dataclass(frozen=True)
class Means:
    """With what a sweep is driven."""

    executor: str  # a key of EXECUTORS
    trainer: TrainerFactory
    fingerprint: Fingerprint
    tracking_uri: str  # of MLflow
    library: Library = field(default_factory=lambda: Library({}))  # finished trials of earlier sweeps


def drive(spec: SweepSpec, ledger: Ledger, means: Means, resumed: Mapping[str, Any] | None = None) -> RunSummary:
    """Run what is left of a sweep, and leave the ledger in order however that ends.

    resumed: payload of the event that says so; None: the sweep is new. Raises PoolError before anything is written
    where the pool cannot be had, RunError where the sweep had to stop.
    """
    folder, progress = ledger.path.parent, _progress(spec, ledger)
    purse = Purse(spec, ledger) if spec.budget else None
    recorder = Recorder(ledger, progress, purse)
    search = search_for(spec, ledger, means.fingerprint, purse)
    if means.library.ledgers:
        search = Reusing(search, means.library, recorder, partial(conditions, where=placement(spec)))
    with marked(folder), StopSignals(progress) as stop, _places(spec, means) as where, told(search, ledger, recorder):
        if resumed is not None:
            ledger.add_event("sweep_resumed", **resumed)
        mirror = MirrorThread(folder, spec.name, means.tracking_uri)
        ending = _run(where, search, recorder, stop, mirror, spec, made_up_for(folder, means.tracking_uri))
    drop_pruned(ledger)
    return RunSummary(Counter(ledger.states().values()), bool(ending), folder)


def _run(
    where: Executor,
    search: Search,
    recorder: Recorder,
    stop: StopSignals,
    mirror: MirrorThread,
    spec: SweepSpec,
    remedy: str,
) -> str:
    """Why it stopped early; empty where it did not. remedy: of an MLflow that lags."""
    folder, ending = recorder.ledger.path.parent, "the driver failed"  # until we know better
    mirror.start()
    try:
        with recorder.progress:
            where.run(search, recorder, folder, stop)
        reason = stop.reason
        if not reason:
            recorder.tell_budget()
            weigh(spec, recorder.ledger)
            recommend(spec, recorder.ledger)
            recorder.ledger.add_event("sweep_finished")
        ending = reason or ""
    except KeyboardInterrupt:
        ending = stop.reason or "interrupted"
    except (DiskFull, LedgerError, OSError) as error:
        ending = " ".join(str(error).split())
        raise RunError(
            f"the sweep has stopped, as it cannot write: {ending}. What has finished is kept; when there is room "
            f"again, `harness resume {folder}` goes on"
        ) from error
    except NodesLost as error:
        ending = str(error)
        raise RunError(f"the sweep has stopped: {ending}. `harness resume {folder}` goes on from here") from error
    finally:
        if ending:
            recorder.close(ending)
        mirror.close()
        if mirror.trouble:
            recorder.note(f"MLflow lags behind the ledger, which has everything: {mirror.trouble}; {remedy}")
    return ending


@contextmanager
def _places(spec: SweepSpec, means: Means) -> Iterator[Executor]:
    """The executor, once it is sure that it can run every cell. Raises PoolError."""
    pools = placement(spec)
    for cell in spec.cells():
        config = spec.config(cell, spec.seeds[0], spec.corners(cell)[0])
        granted(config, pools.pool_of(config, cell.arm))
    with EXECUTORS[means.executor](pools, means.trainer) as where:
        yield where


def _progress(spec: SweepSpec, ledger: Ledger) -> Progress:
    """The live line, with what earlier drivers have done in it."""
    planned, trained = plan(spec), Counter(row.key for row in ledger.epochs())
    progress, lengths = Progress(planned.trials, planned.epochs), {row.key: row.epochs for row in ledger.trials()}
    for key, state in ledger.states().items():
        if state != "waiting" or trained[key]:
            progress.started(key, trained[key])
            progress.ended(key, state, lengths[key])
    return progress


class Recorder:
    """The listener that writes the ledger: on disk first, then anywhere else."""

    def __init__(self, ledger: Ledger, progress: Progress, purse: Purse | None = None) -> None:
        self.ledger, self.progress, self._purse = ledger, progress, purse
        self._restored: dict[str, int] = {}  # key → epochs that the running attempt had from a checkpoint
        self._running: dict[str, TrialSpec] = {}
        self._attempts = Counter(event.key for event in ledger.events() if event.kind == "started")
        self._known: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)  # key → epoch → metrics
        for row in ledger.epochs():
            self._known[row.key][row.epoch] = row.metrics

    def started(self, trial: TrialSpec, epoch: int, info: dict[str, Any]) -> None:
        key, attempt = trial.key, self._attempts[trial.key] + 1
        with self.ledger.transaction():
            self.ledger.add_event("started", key, attempt=attempt, epoch=epoch, info=info)
            if epoch < (known := len(self._known[key])):
                self.noted(trial, f"its checkpoint holds {epoch} of {known} known epochs; the others are trained again")
        self._attempts[key], self._restored[key] = attempt, epoch
        self._running[key] = trial
        if self._purse:
            self._purse.began(trial, info.get("gpus", 0.0))
        self.progress.started(key, epoch)

    def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
        known = self._known[trial.key]
        is_new = self.ledger.add_epoch(trial.key, report.epoch, report.metrics, report.timing)
        if not is_new and report.metrics != known[report.epoch]:
            self.noted(trial, f"epoch {report.epoch} trained again gave other metrics; the first ones stay")
        known.setdefault(report.epoch, report.metrics)
        if self._purse and not is_new and report.epoch > self._restored[trial.key]:
            self._purse.again(trial, report)
        self.progress.epoch(trial.key, report.epoch)
        return is_new

    def noted(self, trial: TrialSpec, text: str) -> None:
        self.ledger.add_event("note", trial.key, text=text)
        self.progress.say(f"{trial.key}: {text}")

    def ended(self, trial: TrialSpec, state: str, payload: dict[str, Any]) -> None:
        if state == "failed":
            payload = {**payload, "attempt": max(1, self._attempts[trial.key])}
        self.ledger.add_event(state, trial.key, **payload)
        if self._purse and state == "interrupted":
            self._purse.interrupted(trial)
        self._running.pop(trial.key, None)
        self.progress.ended(trial.key, state, trial.length)

    def note(self, text: str) -> None:
        """Something of the sweep as a whole."""
        self.progress.say(text)
        with suppress(LedgerError):  # it has been said
            self.ledger.add_event("note", text=text)

    def tell_budget(self) -> None:
        """Write down that the budget has ended the sweep, where it has."""
        if self._purse is None or not self._purse.refused:
            return
        payload = self._purse.told()
        self.ledger.add_event(BUDGET_SPENT, **payload)
        self.progress.say(f"{payload['budget']}: {payload['used']:,.6g} of {payload['limit']:,.6g} are used, and no "
                          f"further trial fits; `harness extend {self.ledger.path.parent}` raises it")  # fmt: skip

    def close(self, reason: str) -> None:
        """The last events of a sweep that stopped early, and why."""
        with suppress(LedgerError), self.ledger.transaction():  # told already; who opens the folder next settles it
            for trial in self._running.values():
                self.ledger.add_event("interrupted", trial.key, reason=reason)
            self.ledger.add_event("sweep_interrupted", reason=reason)
        self.progress.say(f"Stopped: {reason}. `harness resume {self.ledger.path.parent}` goes on from here.")


class StopSignals:
    """Ctrl-C and SIGTERM become a reason to stop, which the executor asks for. A second one interrupts at once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.reason: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> str | None:
        return self.reason

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt
        self.reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._progress.say(f"{self.reason}: stopping; once more to stop at once.")
