"""What to train next. A Search is asked by one thread, the driver's; the same object serves every executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.trials import TrialSpec
    from lejepa.trainer import EpochReport


class Search(Protocol):
    """Suggests trials and hears what becomes of them, after the ledger has it."""

    def suggest(self) -> TrialSpec | None:
        """The next trial to start; None where there is nothing to start now."""

    @property
    def exhausted(self) -> bool:
        """No suggestion will ever come again, given what has ended so far."""

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        """Hear one new epoch of a running trial. True: stop it early; the executor ends it as pruned."""

    def ended(self, trial: TrialSpec, state: str) -> None:
        """Hear the state in which a trial ended: finished, pruned, diverged or failed."""


class Enumerated:
    """A list of trials in the order given, each key once."""

    def __init__(self, trials: Iterable[TrialSpec]) -> None:
        self._waiting = deque({trial.key: trial for trial in trials}.values())

    def suggest(self) -> TrialSpec | None:
        return self._waiting.popleft() if self._waiting else None

    @property
    def exhausted(self) -> bool:
        return not self._waiting

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        return False

    def ended(self, trial: TrialSpec, state: str) -> None:
        pass


class Budgeted:
    """Another search, held to a budget of trials started and of epochs trained.

    A trial that starts reserves its full length and gives back what it did not train when it ends, so the budget is
    never exceeded. A trial that does not fit waits until one that runs gives back enough; with nothing running, the
    search is exhausted. `spent_trials` and `spent_epochs` carry what an earlier driver of the sweep has used.
    """

    def __init__(
        self, search: Search, trials: int | None, epochs: int | None, spent_trials: int = 0, spent_epochs: int = 0
    ) -> None:
        self._search = search
        self._trials_left = float("inf") if trials is None else trials - spent_trials
        self._epochs_left = float("inf") if epochs is None else epochs - spent_epochs
        self._reserved: dict[str, int] = {}  # key of a running trial → epochs it may still train
        self._held: TrialSpec | None = None

    def suggest(self) -> TrialSpec | None:
        trial = self._held or self._search.suggest()
        if trial is None:
            return None
        free = self._epochs_left - sum(self._reserved.values())
        self._held = None if self._trials_left >= 1 and trial.length <= free else trial
        if self._held:
            return None
        self._trials_left -= 1
        self._reserved[trial.key] = trial.length
        return trial

    @property
    def exhausted(self) -> bool:
        return not self._reserved if self._held else self._search.exhausted

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        self._epochs_left -= 1
        self._reserved[trial.key] -= 1
        return self._search.observe(trial, report)

    def ended(self, trial: TrialSpec, state: str) -> None:
        self._reserved.pop(trial.key, None)
        self._search.ended(trial, state)
