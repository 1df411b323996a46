"""What to train next. A Search is asked by one thread, the driver's; the same object serves every executor."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Protocol

from harness.confirm import Confirmed, confirmation
from harness.ledger import ENDED, Ledger
from harness.record import once, recorded
from harness.rungs import Halving, Stopped

if TYPE_CHECKING:
    from harness.spec import SweepSpec
    from harness.trials import Fingerprint, TrialSpec
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
    search is exhausted. `trained`: key → epochs, of each trial that earlier drivers of the sweep have started; such a
    trial goes on at the price of what is left of it.
    """

    def __init__(
        self, search: Search, trials: int | None, epochs: int | None, trained: Mapping[str, int] | None = None
    ) -> None:
        self._search, self._trained = search, dict(trained or {})
        self._trials_left = float("inf") if trials is None else trials - len(self._trained)
        self._epochs_left = float("inf") if epochs is None else epochs - sum(self._trained.values())
        self._reserved: dict[str, int] = {}  # key of a running trial → epochs it may still train
        self._held: TrialSpec | None = None

    def suggest(self) -> TrialSpec | None:
        trial = self._held or self._search.suggest()
        if trial is None:
            return None
        epochs = trial.length - self._trained.get(trial.key, 0)
        fits = epochs <= self._epochs_left - sum(self._reserved.values())
        self._held = None if fits and (trial.key in self._trained or self._trials_left >= 1) else trial
        if self._held:
            return None
        self._trials_left -= trial.key not in self._trained
        self._reserved[trial.key] = epochs
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


def search_for(spec: SweepSpec, ledger: Ledger, fingerprint: Fingerprint) -> Search:
    """The search of a sweep, as far as its ledger has come: on a new one that is the start, on an old one the resume.

    Trials that are in the ledger and have not ended come first, in the order in which they were asked for; one that
    has ended never comes again. `fingerprint` is of the data of trials that are still to be asked for.
    """
    halving = Halving(spec, ledger) if spec.stopping else None  # first: it may end a trial
    states = ledger.states()
    unfinished = [trial for trial in once(recorded(ledger)) if states[trial.key] not in ENDED]
    search: Search = Enumerated(trial for trial in unfinished if trial.purpose != "confirm")
    if spec.search.sampler == "tpe" and any(arm.nuisance for arm in spec.arms.values()):
        from harness.adaptive import Adaptive  # Optuna: a second, only where it is asked

        search = Adaptive(search, spec, ledger, cache(fingerprint))
    if spec.budget:
        search = _within_budget(search, spec, ledger)
    if spec.confirm:
        search = Confirmed(search, spec, ledger)
    return Stopped(search, halving) if halving else search


def _within_budget(search: Search, spec: SweepSpec, ledger: Ledger) -> Search:
    """A search held to the sweep's budget, less what the confirmation of every cell will take."""
    if spec.budget is None:
        return search
    begun = {event.key for event in ledger.events() if event.kind == "started"}
    rows = Counter(row.key for row in ledger.epochs())
    trained = {t.key: rows[t.key] for t in once(recorded(ledger)) if t.key in begun and t.purpose != "confirm"}
    confirm_trials, confirm_epochs = confirmation(spec)
    trials, epochs = spec.budget.trials, spec.budget.epochs
    return Budgeted(
        search,
        None if trials is None else trials - confirm_trials,
        None if epochs is None else epochs - confirm_epochs - _trained_twice(ledger),
        trained,
    )


def _trained_twice(ledger: Ledger) -> int:
    """Epochs that an attempt trained although the ledger had them: the trial's checkpoint was lost."""
    times: dict[str, list[float]] = {}
    for row in ledger.epochs():
        times.setdefault(row.key, []).append(row.time)
    return sum(
        max(0, sum(at <= event.time for at in times.get(event.key, [])) - event.payload["epoch"])
        for event in ledger.events()
        if event.kind == "started" and event.key
    )
