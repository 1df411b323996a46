"""Optuna's TPE, multiplexed: an in-memory study for each arm, cell and study of the sweep, at the same budget.

Four things that a plain Optuna search under early stopping gets wrong, and that are done here: a trial that was
stopped early is told as PRUNED with its curve, never as a result; one that diverged or failed as FAIL, never as NaN;
no two studies share a name; and trials that still run count as bad ones (the constant liar), or parallel suggestions
would coincide.

Optuna keeps nothing: the studies are rebuilt from the ledger. The sampler of each suggestion has a seed of its own,
made from the names of the group and the number of the suggestion, so a search that goes on after a crash asks for
what it would have asked for without one, and not for its first points again.
"""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState
from pydantic import ValidationError

from harness.conditions import applying, in_order
from harness.ledger import ENDED, Ledger, canonical
from harness.record import record, recorded
from harness.selecting import curve
from harness.source import SpecError
from harness.space import seed_of
from harness.trials import default_point, resolved, search_trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.search import Search
    from harness.spec import Cell, SweepSpec
    from harness.trials import Fingerprint, TrialSpec
    from lejepa.trainer import EpochReport

optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line for every study

_MOST_REFUSED = 100  # points in a row that no training takes, before the space is taken to hold no other


class Group:
    """The trials of one study of one cell. A trial's place in the group is its ordinal."""

    def __init__(self, spec: SweepSpec, cell: Cell, number: int, fingerprint: Fingerprint) -> None:
        self._spec, self._cell, self._number, self._fingerprint = spec, cell, number, fingerprint
        self._nuisance = spec.searched(cell)
        self._spaces = {path: space.distribution() for path, space in self._nuisance.items()}
        self._conditional = any(space.when for space in self._nuisance.values())
        self._names = [spec.name, cell.arm, dict(cell.values), number]
        direction = StudyDirection.MAXIMIZE if spec.metric.mode == "max" else StudyDirection.MINIMIZE
        self.study = optuna.create_study(study_name=canonical(self._names), direction=direction)
        self._asked: list[optuna.Trial | None] = []  # by ordinal; None: a default outside the space

    def __len__(self) -> int:
        return len(self._asked)

    @property
    def arm(self) -> str:
        return self._cell.arm

    def ask(self) -> tuple[dict[str, Any], TrialSpec]:
        """A new point and its trial. Points that the config refuses do not count; SpecError after too many of them."""
        if self._spec.search.defaults_first and not self._asked:
            return self._ask_default()
        refused = 0
        while True:
            self.study.sampler = self._sampler(refused)
            asked = self._draw()
            try:
                trial = search_trial(self._spec, self._cell, self._number, len(self), asked.params, self._fingerprint)
            except ValidationError as error:
                self.study.tell(asked, state=TrialState.FAIL)
                refused += 1
                if refused == _MOST_REFUSED:
                    why = error.errors()[0]["msg"]
                    raise SpecError(f"nuisance: no point that arm {self._cell.arm!r} can train: {why}") from None
            else:
                self._asked.append(asked)
                return asked.params, trial

    def _ask_default(self) -> tuple[dict[str, Any], TrialSpec]:
        point = default_point(self._spec, self._cell)
        trial = search_trial(self._spec, self._cell, self._number, 0, {}, self._fingerprint)
        self.replay(point)
        return point, trial

    def replay(self, point: Mapping[str, Any]) -> None:
        """A trial that is not drawn: an earlier driver asked for it, or it is the default. It runs until it is told."""
        if not all(self._nuisance[path].holds(value) for path, value in point.items()):
            self._asked.append(None)  # Optuna would take it for a point of the space
            return
        self.study.sampler = RandomSampler(seed=0)  # has nothing to draw
        self.study.enqueue_trial(dict(point))
        self._asked.append(self._draw())

    def _draw(self) -> optuna.Trial:
        """A trial of Optuna with a value for every parameter that applies, given those drawn before."""
        if not self._conditional:
            return self.study.ask(self._spaces)
        asked = self.study.ask()
        for path in in_order(self._nuisance):
            drawn = asked.params
            if path in applying(self._nuisance, {other: drawn.get(other) for other in self._nuisance}):
                _suggest(asked, path, self._spaces[path])
        return asked

    def tell(self, ordinal: int, state: str, values: Mapping[int, float]) -> None:
        """How a trial ended, with its curve: epoch → value."""
        asked = self._asked[ordinal]
        if asked is None:
            return
        for epoch, value in values.items():
            asked.report(value, epoch)
        if state == "finished" and values:
            self.study.tell(asked, values[max(values)])
        elif state == "pruned":
            self.study.tell(asked, state=TrialState.PRUNED)
        else:
            self.study.tell(asked, state=TrialState.FAIL)

    def _sampler(self, refused: int) -> TPESampler:
        trials = self._spec.search.trials or 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of `group`
            return self._tpe(trials, refused)

    def _tpe(self, trials: int, refused: int) -> TPESampler:
        return TPESampler(
            n_startup_trials=min(10, max(4, trials // 4)),  # 10 is Optuna's; of 16 trials that would be most
            multivariate=len(self._spaces) > 1,
            group=self._conditional and len(self._spaces) > 1,  # what applies together is learnt together
            constant_liar=True,
            seed=seed_of([*self._names, len(self), refused]) % 2**32,
        )


class Adaptive:
    """After another search's suggestions, trials that TPE asks for: the group with the fewest goes first.

    A point that was asked for before is not trained again: it counts as a trial of its group, and is told what the
    trial is known to have come to, or will.
    """

    def __init__(self, search: Search, spec: SweepSpec, ledger: Ledger, fingerprint: Fingerprint) -> None:
        self._search, self._ledger, self._metric = search, ledger, spec.metric
        self._trials = spec.search.trials or 0
        self._groups: dict[str, Group] = {}
        for cell in spec.cells():
            for number in range(spec.search.studies if spec.arms[cell.arm].nuisance else 0):
                self._groups[_name(cell.arm, resolved(spec, cell), number)] = Group(spec, cell, number, fingerprint)
        self._states = ledger.states()
        self._places: dict[str, list[TrialSpec]] = defaultdict(list)  # key → search trials that are this training
        points: dict[str | None, deque[dict[str, Any]]] = defaultdict(deque)  # key → where it was asked for, in order
        for event in ledger.events():
            if event.kind == "suggested":
                points[event.key].append(event.payload["point"])
        for trial in recorded(ledger):
            if trial.purpose == "search":
                self._group(trial).replay(points[trial.key].popleft())
                self._take(trial)

    @property
    def studies(self) -> list[optuna.Study]:
        """Optuna's, by arm, cell and study."""
        return [group.study for group in self._groups.values()]

    def suggest(self) -> TrialSpec | None:
        return self._search.suggest() or self.ask()

    def ask(self, arm: str | None = None) -> TrialSpec | None:
        """A new trial, of any arm or of one; None where all places are filled."""
        while open_ := [group for group in self._groups.values() if self._has_room(group, arm)]:
            point, trial = min(open_, key=len).ask()
            with self._ledger.transaction():
                record(self._ledger, [trial])
                self._ledger.add_event("suggested", trial.key, point=point)
            is_new = trial.key not in self._states
            self._take(trial)
            if is_new:
                return trial
        return None

    def _take(self, trial: TrialSpec) -> None:
        """Note that a trial fills a place of its group, and tell Optuna if it is known what became of it."""
        self._places[trial.key].append(trial)
        state = self._states.setdefault(trial.key, "waiting")
        if state in ENDED:
            self._tell(trial, state)

    def _tell(self, trial: TrialSpec, state: str) -> None:
        self._group(trial).tell(trial.ordinal, state, curve(self._ledger, trial.key, self._metric, trial.config))

    def _group(self, trial: TrialSpec) -> Group:
        return self._groups[_name(trial.arm, trial.cell, trial.study)]

    def _has_room(self, group: Group, arm: str | None = None) -> bool:
        return len(group) < self._trials and arm in (None, group.arm)

    @property
    def _full(self) -> bool:
        return not any(self._has_room(group) for group in self._groups.values())

    @property
    def exhausted(self) -> bool:
        return self._search.exhausted and self._full

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        return self._search.observe(trial, report)

    def ended(self, trial: TrialSpec, state: str) -> None:
        self._states[trial.key] = state
        for place in self._places[trial.key]:
            self._tell(place, state)
        self._search.ended(trial, state)


def _name(arm: str, cell: Mapping[str, Any], number: int) -> str:
    return canonical([arm, dict(cell), number])


def _suggest(trial: optuna.Trial, path: str, space: BaseDistribution) -> None:
    match space:
        case IntDistribution():
            trial.suggest_int(path, space.low, space.high, log=space.log)
        case FloatDistribution():
            trial.suggest_float(path, space.low, space.high, log=space.log)
        case CategoricalDistribution():
            trial.suggest_categorical(path, space.choices)
