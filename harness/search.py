"""What to train next. A Search is asked by one thread, the driver's; the same object serves every executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Protocol

from harness.budget import Budgeted, Purse
from harness.confirm import Confirmed
from harness.ledger import ENDED, Ledger
from harness.record import once, recorded
from harness.rungs import Halving, Stopped

if TYPE_CHECKING:
    from harness.adaptive import Adaptive
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


def search_for(spec: SweepSpec, ledger: Ledger, fingerprint: Fingerprint, purse: Purse | None = None) -> Search:
    """The search of a sweep, as far as its ledger has come: on a new one that is the start, on an old one the resume.

    Trials that are in the ledger and have not ended come first, in the order in which they were asked for; one that
    has ended never comes again. `fingerprint` is of the data of trials that are still to be asked for. `purse`: of the
    sweep's budget, where others are to see it.
    """
    halving = Halving(spec, ledger) if spec.stopping else None  # first: it may end a trial
    states = ledger.states()
    unfinished = [trial for trial in once(recorded(ledger)) if states[trial.key] not in ENDED]
    listed = [trial for trial in unfinished if trial.purpose != "confirm"]
    if spec.budget:
        purse = purse or Purse(spec, ledger)
        search: Search = Budgeted(listed, _asking(Enumerated([]), spec, ledger, fingerprint), purse)
    else:
        search = Enumerated(listed)
        search = _asking(search, spec, ledger, fingerprint) or search
    if spec.confirm:
        search = Confirmed(search, spec, ledger, purse)
    return Stopped(search, halving) if halving else search


def _asking(search: Search, spec: SweepSpec, ledger: Ledger, fingerprint: Fingerprint) -> Adaptive | None:
    """The search that asks for trials after another one's, where the sweep has such a sampler."""
    if spec.search.sampler != "tpe" or not any(arm.nuisance for arm in spec.arms.values()):
        return None
    from harness.adaptive import Adaptive  # Optuna: a second, only where it is asked

    return Adaptive(search, spec, ledger, cache(fingerprint))
