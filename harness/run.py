"""The driver: one sweep from its spec to a ledger in which every trial has ended, or can go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from harness.attempt import TrainerFactory, lejepa_trainer
from harness.environment import describe
from harness.executors import Executor, LocalExecutor, RayExecutor
from harness.ledger import Ledger, LedgerError
from harness.pool import PoolError, granted
from harness.progress import Progress
from harness.search import Budgeted, Enumerated, Search
from harness.spec import SweepSpec
from harness.tracking import MirrorThread, default_uri
from harness.trials import TrialSpec, code_hash, enumerate_trials

if TYPE_CHECKING:
    from lejepa.trainer import EpochReport

EXECUTORS: dict[str, type[LocalExecutor] | type[RayExecutor]] = {"ray": RayExecutor, "local": LocalExecutor}


class RunError(Exception):
    """The sweep cannot be run, or cannot go on; the message says why, and what to do."""


@dataclass(frozen=True)
class RunSummary:
    counts: Mapping[str, int]  # state → trials
    interrupted: bool
    folder: Path


def run_sweep(
    spec: SweepSpec,
    folder: Path,
    executor: str = "ray",
    tracking_uri: str | None = None,
    command: Sequence[str] = (),
    trainer: TrainerFactory = lejepa_trainer,
) -> RunSummary:
    """Run a sweep into a new folder. tracking_uri: of MLflow, None for mlflow.db beside the folder.

    Raises RunError before anything is trained where the folder exists or the pool cannot be had, and while training
    where the ledger cannot be written; DataError where the data cannot be used.
    """
    from lejepa.data import fingerprint  # torch

    folder = Path(folder).absolute()
    if folder.exists():
        raise RunError(_already_there(folder))
    trials = enumerate_trials(spec, fingerprint)
    search = search_for(spec, trials)
    try:
        for trial in trials:
            granted(trial.config, spec.pool)
        with EXECUTORS[executor](spec.pool, trainer) as where, _new_ledger(folder) as ledger:
            _write_down(ledger, spec, trials, describe(spec, executor, list(command)))
            mirror = MirrorThread(folder, spec.name, tracking_uri or default_uri(folder))
            ledger.add_event("sweep_started", command=list(command), pid=os.getpid())
            lengths = {trial.key: trial.length for trial in trials}
            return _drive(ledger, search, where, mirror, Progress(len(lengths), sum(lengths.values())))
    except PoolError as error:
        raise RunError(str(error)) from error


def search_for(spec: SweepSpec, trials: Sequence[TrialSpec]) -> Search:
    """What suggests the trials of a sweep. Raises RunError where the spec asks for what no search here does."""
    adaptive = any(arm.nuisance for arm in spec.arms.values()) and spec.search.sampler == "tpe"
    asked = {"search: {sampler: tpe}": adaptive, "stopping": spec.stopping, "confirm": spec.confirm}
    if missing := [key for key, is_asked in asked.items() if is_asked]:
        raise RunError(f"this version plans but does not run {' and '.join(missing)}; leave it out to run the rest")
    search: Search = Enumerated(trials)
    if spec.budget:
        search = Budgeted(search, spec.budget.trials, spec.budget.epochs)
    return search


def _drive(ledger: Ledger, search: Search, where: Executor, mirror: MirrorThread, progress: Progress) -> RunSummary:
    """Run what the search has, and leave the ledger in order however that ends."""
    folder = ledger.path.parent
    recorder, stop = Recorder(ledger, progress), StopSignals(progress)
    ending = "the driver failed"  # until we know better
    mirror.start()
    try:
        with stop, progress:
            where.run(search, recorder, folder, stop)
        ending = stop.reason or ""
    except KeyboardInterrupt:
        ending = stop.reason or "interrupted"
    except LedgerError as error:
        raise RunError(
            f"the ledger cannot be written, so the sweep has stopped: {error}. What has finished is kept; "
            f"when there is room again, `harness resume {folder}` goes on"
        ) from error
    finally:
        _close(ledger, recorder.running, ending, progress)
        mirror.close()
        if mirror.trouble:
            note = f"MLflow lags behind the ledger, which has everything: {mirror.trouble}"
            progress.say(note)
            with suppress(LedgerError):
                ledger.add_event("note", text=note)
    return RunSummary(Counter(ledger.states().values()), bool(ending), folder)


def _close(ledger: Ledger, running: Sequence[TrialSpec], reason: str, progress: Progress) -> None:
    """The sweep's last events. `reason`: why it stopped early, empty where it did not."""
    with suppress(LedgerError), ledger.transaction():  # told already; whoever resumes finds these trials running
        if not reason:
            ledger.add_event("sweep_finished")
            return
        for trial in running:
            ledger.add_event("interrupted", trial.key, reason=reason)
        ledger.add_event("sweep_interrupted", reason=reason)
    progress.say(f"Stopped: {reason}. `harness resume {ledger.path.parent}` goes on from here.")


@contextmanager
def _new_ledger(folder: Path) -> Iterator[Ledger]:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise RunError(_already_there(folder)) from None
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error}") from None
    try:
        ledger = Ledger(folder / "ledger.db")
    except LedgerError as error:
        shutil.rmtree(folder)
        raise RunError(str(error)) from error
    with ledger:
        yield ledger


def _write_down(ledger: Ledger, spec: SweepSpec, trials: Sequence[TrialSpec], environment: Mapping[str, Any]) -> None:
    """What is decided before the first trial starts: the spec, the surroundings, and which trial fills which place."""
    folder, code = ledger.path.parent, code_hash()
    (folder / "sweep.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
    with ledger.transaction():
        for trial in trials:
            config = trial.config.model_dump(mode="json")
            ledger.add_trial(trial.key, config, trial.config.seed, trial.length, trial.data, code)
            ledger.assign(trial.arm, trial.cell, trial.study, trial.ordinal, trial.purpose, trial.key)


class Recorder:
    """The listener that writes the ledger: on disk first, then anywhere else."""

    def __init__(self, ledger: Ledger, progress: Progress) -> None:
        self._ledger, self._progress = ledger, progress
        self._running: dict[str, TrialSpec] = {}
        self._attempts = Counter(event.key for event in ledger.events() if event.kind == "started")

    @property
    def running(self) -> list[TrialSpec]:
        return list(self._running.values())

    def started(self, trial: TrialSpec, epoch: int, info: dict[str, Any]) -> None:
        attempt = self._attempts[trial.key] + 1
        self._ledger.add_event("started", trial.key, attempt=attempt, epoch=epoch, info=info)
        self._attempts[trial.key] = attempt
        self._running[trial.key] = trial
        self._progress.started(trial.key, epoch)

    def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
        is_new = self._ledger.add_epoch(trial.key, report.epoch, report.metrics, report.timing)
        self._progress.epoch(trial.key, report.epoch)
        return is_new

    def ended(self, trial: TrialSpec, state: str, payload: dict[str, Any]) -> None:
        if state == "failed":
            payload = {**payload, "attempt": max(1, self._attempts[trial.key])}
        self._ledger.add_event(state, trial.key, **payload)
        self._running.pop(trial.key, None)
        self._progress.ended(trial.key, state, trial.length)


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


def _already_there(folder: Path) -> str:
    return (
        f"{folder} exists: `harness report {folder}` shows it, `harness resume {folder}` goes on with it; "
        f"another `name` in the sweep file (or --set name=…) makes a new one"
    )
