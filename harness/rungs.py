"""Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934), with rungs of their own for every scope.

A trial that reaches a rung goes on where it is among the best 1/reduction of those that reached it before; epochs are
the time. The decisions are those of Ray's AsyncHyperBandScheduler with one bracket, which cannot be used itself: it
knows one set of rungs, and a search over several cells needs one each, rebuilt after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.ledger import Ledger, canonical
from harness.record import once, recorded
from harness.selecting import lambda_of, worth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.search import Search
    from harness.spec import SweepSpec
    from harness.trials import TrialSpec
    from lejepa.trainer import EpochReport


_LOWEST = -1e300  # for what ranks last: a percentile of infinities is NaN


class Rungs:
    """The rungs of one scope: at first, first·reduction, first·reduction², … epochs, up to the longest trial."""

    def __init__(self, first: int, reduction: int, longest: int, mode: str) -> None:
        self._sign = 1.0 if mode == "max" else -1.0
        self._percentile = (1 - 1 / reduction) * 100
        self._rungs: list[tuple[int, dict[str, float]]] = []  # the highest first: epoch, key → value
        while first <= longest:
            self._rungs.insert(0, (first, {}))
            first *= reduction

    def report(self, key: str, epoch: int, value: float) -> bool:
        """Hear a trial's value after so many epochs, always more than before. True: it is not worth going on."""
        for rung, values in self._rungs:
            if epoch >= rung and key not in values:
                gain, others = max(self._sign * value, _LOWEST), list(values.values())
                values[key] = gain
                return bool(others) and bool(gain < np.percentile(others, self._percentile))
        return False


class Halving:
    """The rungs of a sweep's search trials, one set for each scope. Trials that are evidence do not compete.

    What the ledger holds is replayed in the order of time. A trial that was to be stopped when its driver died is
    written down as pruned then.
    """

    def __init__(self, spec: SweepSpec, ledger: Ledger) -> None:
        if spec.stopping is None:
            raise ValueError("the sweep has no `stopping`")
        self._stopping, self._metric = spec.stopping, spec.metric
        self._rungs: dict[str, Rungs] = {}
        self._replay(ledger)

    def report(self, trial: TrialSpec, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Hear an epoch. True: stop the trial. An epoch in which the metric was not measured decides nothing."""
        if trial.purpose != "search" or (value := worth(self._metric, metrics, lambda_of(trial.config))) is None:
            return False
        scope = self._scope(trial)
        if scope not in self._rungs:
            first, reduction = self._stopping.grace, self._stopping.reduction
            self._rungs[scope] = Rungs(first, reduction, trial.length, self._metric.mode)
        return self._rungs[scope].report(trial.key, epoch, value) and epoch < trial.length

    def _scope(self, trial: TrialSpec) -> str:
        names = {"cell": [trial.arm, dict(trial.cell)], "arm": [trial.arm], "sweep": []}
        return canonical(names[self._stopping.scope])

    def _replay(self, ledger: Ledger) -> None:
        trials, states = {trial.key: trial for trial in once(recorded(ledger))}, ledger.states()
        condemned: dict[str, int] = {}  # trials whose latest epoch was a reason to stop them → that epoch
        for row in sorted(ledger.epochs(), key=lambda row: row.time):  # stable: a trial's own epochs stay in order
            condemned.pop(row.key, None)
            if self.report(trials[row.key], row.epoch, row.metrics):
                condemned[row.key] = row.epoch
        for key, epoch in condemned.items():
            if states[key] == "running":
                ledger.add_event("pruned", key, epoch=epoch)


class Stopped:
    """Another search, whose search trials are stopped early where they fall behind."""

    def __init__(self, search: Search, halving: Halving) -> None:
        self._search, self._halving = search, halving

    def suggest(self) -> TrialSpec | None:
        return self._search.suggest()

    @property
    def exhausted(self) -> bool:
        return self._search.exhausted

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        told = self._search.observe(trial, report)
        return self._halving.report(trial, report.epoch, report.metrics) or told

    def ended(self, trial: TrialSpec, state: str) -> None:
        self._search.ended(trial, state)
