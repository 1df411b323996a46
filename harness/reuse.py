"""Trials that an earlier sweep has finished are taken from its ledger instead of being trained again.

Only what would come out the same: the same key (config, seed, data, length) under the same trainer code, torch version,
kind of device, threads and ranks, each batch in the parts that the config says. What is taken is told like an attempt,
so that ledger, early stopping and budgets see no difference; `reused` in the trial's last event says where it is from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.attempt import Ended, Listener, Started, hear
from harness.ledger import Ledger, LedgerError
from harness.pool import PoolError, granted
from harness.search import Search
from harness.trials import code_hash

if TYPE_CHECKING:
    from harness.attempt import Message
    from harness.pool import Placement
    from harness.trials import TrialSpec
    from lejepa.trainer import EpochReport

_UNCHANGED = ("torch", "threads", "ranks")  # of what a trainer tells of itself, besides the kind of device


class ReuseError(Exception):
    """There is nothing to reuse where it was looked for; the message says where."""


@dataclass(frozen=True)
class Library:
    """Finished trials of earlier sweeps: key → the ledger that has it."""

    ledgers: dict[str, Path]

    def messages(self, trial: TrialSpec, here: dict[str, Any]) -> list[Message] | None:
        """What an attempt would tell, told by the ledger; None where no such trial was trained so."""
        if trial.key not in self.ledgers:
            return None
        with Ledger.read(self.ledgers[trial.key]) as ledger:
            ended = [event.payload for event in ledger.events(trial.key) if event.kind == "finished"][-1]
            rows = ledger.epochs(trial.key)
        info = ended.get("info") or {}
        if _kind(info) != _kind(here) or any(info.get(name) != here[name] for name in _UNCHANGED):
            return None
        if info.get("accumulate", trial.config.accumulate) != trial.config.accumulate:  # memory ran out: other rounding
            return None
        if [row.epoch for row in rows] != list(range(1, trial.length + 1)) or (trial.reads_test and not ended["test"]):
            return None
        from lejepa.trainer import EpochReport  # torch

        reports = tuple(EpochReport(row.epoch, row.metrics, row.timing) for row in rows)
        test = ended["test"] if trial.reads_test else {}  # what selects must not see it
        source = str(self.ledgers[trial.key].parent)
        told: list[Message] = [Started(reports, info)]
        return [*told, Ended("finished", {"test": test, "info": info, "reused": source})]


def library(folders: Sequence[Path]) -> Library:
    """Of sweeps' folders, and of folders that hold some. ReuseError where one holds none."""
    ledgers: dict[str, Path] = {}
    for folder in folders:
        found = [path for path in (folder / "ledger.db", *sorted(folder.glob("*/ledger.db"))) if path.is_file()]
        if not found:
            raise ReuseError(f"{folder}: no sweep lies here; name a sweep's folder, or one that holds sweeps")
        for path in found:
            ledgers |= {key: path for key in _usable(path)}
    return Library(ledgers)


def _usable(path: Path) -> list[str]:
    """Keys of what finished under this trainer code. A sweep whose code changed on the way tells of none."""
    code = code_hash()
    try:
        with Ledger.read(path) as ledger:
            if any(event.kind == "code_changed" for event in ledger.events()):
                return []
            states = ledger.states()
            return [row.key for row in ledger.trials() if row.code == code and states[row.key] == "finished"]
    except LedgerError as error:
        raise ReuseError(str(error)) from error


class Reusing:
    """Another search, whose trials are taken from a library where it has them."""

    def __init__(
        self, search: Search, source: Library, listener: Listener, here: Callable[[TrialSpec], dict[str, Any]]
    ) -> None:
        """here: trial → the `conditions` in which it would be trained."""
        self._search, self._source, self._listener, self._here = search, source, listener, here

    def suggest(self) -> TrialSpec | None:
        while (trial := self._search.suggest()) is not None:
            try:
                messages = self._source.messages(trial, self._here(trial))
            except PoolError:  # who runs it will refuse it, and say so with the trial
                return trial
            if messages is None:
                return trial
            any(hear(trial, message, self._search, self._listener) for message in messages)
        return None

    @property
    def exhausted(self) -> bool:
        return self._search.exhausted

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        return self._search.observe(trial, report)

    def ended(self, trial: TrialSpec, state: str) -> None:
        self._search.ended(trial, state)


def conditions(trial: TrialSpec, where: Placement) -> dict[str, Any]:
    """What a trainer of the trial would tell of where it runs, in a place of its pool. PoolError: no place takes it."""
    import torch

    pool = where.pool_of(trial.config, trial.arm)
    here = granted(trial.config, pool)
    return {"device": here.device, "threads": here.threads, "ranks": pool.ranks, "torch": torch.__version__}


def _kind(info: dict[str, Any]) -> str:
    """Of the device: a GPU tells its model's name."""
    return "cpu" if info.get("device") == "cpu" else "gpu"
