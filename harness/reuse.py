"""Trials that an earlier sweep has finished are taken from its ledger instead of being trained again.

Only what would come out the same: the same key (config, seed, data, length) under the same trainer code, torch version,
kind of device, threads and ranks, each batch in the parts that the config says. What is taken is told like an attempt,
so that ledger, early stopping and budgets see no difference; `reused` in the trial's last event says where it is from.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.attempt import Ended, Listener, Started, hear
from harness.ledger import ENDED, STATE_AFTER, Ledger, LedgerError
from harness.pool import PoolError, granted
from harness.record import once, recorded
from harness.search import Search
from harness.trials import code_hash

if TYPE_CHECKING:
    from harness.attempt import Message
    from harness.pool import Placement
    from harness.trials import TrialSpec
    from lejepa.trainer import EpochReport

_UNCHANGED = ("torch", "threads", "ranks")  # of what a trainer tells of itself, besides the kind of device

NOWHERE = "no earlier sweep has it"


class ReuseError(Exception):
    """There is nothing to reuse where it was looked for; the message says where."""


@dataclass(frozen=True)
class Held:
    """A trial in a ledger of an earlier sweep."""

    ledger: Path
    why_not: str = ""  # what keeps it from being taken, whatever asks for it


@dataclass(frozen=True)
class Library:
    """Trials of earlier sweeps: key → where they are, in the order in which the folders were named."""

    ledgers: Mapping[str, Sequence[Held]]
    unread: Sequence[str] = ()  # why other ledgers could not be read
    beside: Path | None = None  # folder of the sweep that takes them; what it records of a source is relative to that

    def messages(self, trial: TrialSpec, here: dict[str, Any]) -> list[Message] | str:
        """What an attempt would tell, told by the first ledger that has such a trial; or why none does."""
        why = NOWHERE
        for held in self.ledgers.get(trial.key, ()):
            try:
                told = held.why_not or self._told(trial, here, held.ledger)
            except LedgerError:
                told = "its record is damaged"
            if not isinstance(told, str):
                return told
            why = told if why == NOWHERE or not held.why_not else why  # what comes nearest says most
        return why

    def _told(self, trial: TrialSpec, here: dict[str, Any], path: Path) -> list[Message] | str:
        with Ledger.read(path) as ledger:
            ended = [event.payload for event in ledger.events(trial.key) if event.kind == "finished"][-1]
            rows = ledger.epochs(trial.key)
        info, test = ended.get("info") or {}, ended.get("test") or {}
        if other := [name for name in _UNCHANGED if info.get(name) != here[name]]:
            return f"other {' and '.join(other)}"
        if _kind(info) != _kind(here):
            return "another kind of device"
        if info.get("accumulate", trial.config.accumulate) != trial.config.accumulate:  # other rounding
            return "its batches were cut finer, as memory ran out"
        if [row.epoch for row in rows] != list(range(1, trial.length + 1)) or (trial.reads_test and not test):
            return "its record is not whole"
        from lejepa.trainer import EpochReport  # torch

        reports = tuple(EpochReport(row.epoch, row.metrics, row.timing) for row in rows)
        seen = test if trial.reads_test else {}  # what selects must not see it
        return [Started(reports, info), Ended("finished", {"test": seen, "info": info, "reused": self._source(path)})]

    def _source(self, path: Path) -> str:
        """Relative, so that it holds where all runs are moved together."""
        source = path.parent.resolve()
        return str(source) if self.beside is None else os.path.relpath(source, self.beside.resolve())


def source_of(reused: str, sweep: Path) -> Path:
    """The folder that a trial's `reused` names, in the sweep that took it; older ledgers have it as it was given."""
    beside = (sweep.resolve() / reused).resolve()
    return beside if (beside / "ledger.db").is_file() else Path(reused)


def library(folders: Sequence[Path], beside: Path | None = None) -> Library:
    """Of sweeps' folders, and of folders that hold some; without `beside`, which is the folder of who asks.

    ReuseError where one holds no sweep, or none whose ledger can be read.
    """
    ledgers, unread = defaultdict[str, list[Held]](list), dict[str, None]()
    for folder in folders:
        found = [path for path in (folder / "ledger.db", *sorted(folder.glob("*/ledger.db"))) if path.is_file()]
        if not found:
            raise ReuseError(f"{folder}: no sweep lies here; name a sweep's folder, or one that holds sweeps")
        wrong = []
        for path in found:
            if beside is not None and path.parent.resolve() == beside.resolve():
                continue
            try:
                for key, held in _held(path):
                    ledgers[key].append(held)
            except LedgerError as error:
                wrong.append(str(error))
        if len(wrong) == len(found):
            raise ReuseError(wrong[0])
        unread |= dict.fromkeys(wrong)
    return Library(ledgers, tuple(unread), beside)


def _held(path: Path) -> list[tuple[str, Held]]:
    """A sweep whose code changed on the way gives none: which trial ran under which is not known."""
    code = code_hash()
    with Ledger.read(path) as ledger, ledger.snapshot():
        mixed = any(ledger.select("SELECT 1 FROM events WHERE kind = 'code_changed'"))
        codes = dict(ledger.select("SELECT key, code FROM trials ORDER BY rowid"))
        states = dict.fromkeys(codes, "waiting")
        for key, kind in ledger.select("SELECT key, kind FROM events JOIN trials USING (key) ORDER BY id"):
            states[key] = STATE_AFTER.get(kind, states[key])
    held = []
    for key, state in states.items():
        why = "" if state == "finished" else f"it is {state} there"
        why = "the trainer's code changed during its sweep" if mixed else why
        held.append((key, Held(path, "other trainer code" if codes[key] != code else why)))
    return held


class Reusing:
    """Another search, whose trials are taken from a library where it has them."""

    def __init__(
        self, search: Search, source: Library, listener: Listener, here: Callable[[TrialSpec], dict[str, Any]]
    ) -> None:
        """here: trial → the `conditions` in which it would be trained."""
        self._search, self._source, self._listener, self._here = search, source, listener, here
        self._why: dict[str, str] = {}  # key → why a trial of the outlook is not taken; empty: it is
        self._later: dict[str, str] = {}

    def suggest(self) -> TrialSpec | None:
        while (trial := self._search.suggest()) is not None:
            messages = self._messages(trial)
            if trial.key not in self._why:
                self._later[trial.key] = _why_not(messages)
            if isinstance(messages, str):
                return trial
            any(hear(trial, message, self._search, self._listener) for message in messages)
        return None

    def outlook(self, ledger: Ledger) -> list[str]:
        """What could not be read; and how many of the sweep's trials will be taken, and why others will not."""
        states = ledger.states()
        for trial in once(recorded(ledger)):
            if states[trial.key] not in ENDED:
                self._why[trial.key] = _why_not(self._messages(trial))
        passed = [f"--reuse: passed over: {reason}" for reason in self._source.unread]
        return [*passed, *([_counted(self._why.values(), "that wait")] if self._why else [])]

    def hindsight(self) -> list[str]:
        """The same of trials that the search asked for since."""
        return [_counted(self._later.values(), "that were asked for later")] if self._later else []

    def _messages(self, trial: TrialSpec) -> list[Message] | str:
        try:
            return self._source.messages(trial, self._here(trial))
        except PoolError:  # who runs it will refuse it, and say so with the trial
            return "its pool does not take it"

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


class Notes(Protocol):
    def note(self, text: str) -> None: ...


@contextmanager
def told(search: Search, ledger: Ledger, notes: Notes) -> Iterator[None]:
    """Says what a search takes from earlier sweeps: before it begins, and of what it asked for since when it ends."""
    if not isinstance(search, Reusing):
        yield
        return
    for text in search.outlook(ledger):
        notes.note(text)
    yield
    for text in search.hindsight():
        notes.note(text)


def _why_not(messages: list[Message] | str) -> str:
    return messages if isinstance(messages, str) else ""


def _counted(whys: Collection[str], which: str) -> str:
    others = Counter(why for why in whys if why)
    said = f"--reuse: of {len(whys)} trials {which}, {len(whys) - others.total()} are taken from earlier sweeps"
    return said + (f", and not {'; '.join(f'{n}: {why}' for why, n in others.most_common())}" if others else "")
