"""The second half of a search: the best configs of each cell, trained again on fresh seeds. They are the evidence."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.folder import EXTENDED
from harness.ledger import ENDED, Ledger, canonical
from harness.recommend import by_fit
from harness.record import once, record, recorded
from harness.selecting import curve
from harness.trials import confirm_trials, resolved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.budget import Purse
    from harness.search import Search
    from harness.spec import SweepSpec
    from harness.trials import TrialSpec
    from lejepa.config import TrainConfig
    from lejepa.trainer import EpochReport

_CONFIRMED = "confirmed"  # event of an extended sweep: a cell has all of its confirmation


class Confirmed:
    """Another search, and the confirmation of what it finds, cell by cell.

    A cell is confirmed when all trials of all its studies have ended; or as it is, once the other search has come to
    its end (its budget is spent). The trials are written down at that moment and go before all others.
    """

    def __init__(self, search: Search, spec: SweepSpec, ledger: Ledger, purse: Purse | None = None) -> None:
        """purse: pays for the confirmation; the other search pays for itself."""
        if spec.confirm is None:
            raise ValueError("the sweep has no `confirm`")
        self._purse = purse
        self._search, self._spec, self._ledger, self._top = search, spec, ledger, spec.confirm.top
        self._by_fit = spec.confirm.by == "fit"
        places, states = recorded(ledger), ledger.states()
        begun, self._extended = _begun(ledger, places)
        self._open = {place: size for place, size in _searched_cells(spec).items() if place not in begun}
        unfinished = [trial for trial in once(places) if states[trial.key] not in ENDED]
        self._waiting = deque(trial for trial in unfinished if trial.purpose == "confirm")
        self._running: set[str] = set()  # keys of the other search's trials
        self._settled = False  # nothing has ended since the cells were looked through

    def suggest(self) -> TrialSpec | None:
        self._settle()
        if confirming := self._next():
            return confirming
        trial = self._search.suggest()
        if trial is not None:
            self._running.add(trial.key)
            return trial
        self._settled = False  # asked in vain, the other search may have found out that it is at its end
        self._settle()
        return self._next()

    def _next(self) -> TrialSpec | None:
        if not self._waiting or (self._purse and not self._purse.start(self._waiting[0])):
            return None
        return self._waiting.popleft()

    @property
    def exhausted(self) -> bool:
        unpaid = self._purse and self._purse.idle and self._waiting and self._waiting[0].key in self._purse.refused
        return self._search.exhausted and not self._open and (not self._waiting or bool(unpaid))

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        if trial.key in self._running:
            return self._search.observe(trial, report)
        if self._purse:
            self._purse.observe(trial, report)
        return False

    def ended(self, trial: TrialSpec, state: str) -> None:
        self._settled = False
        if trial.key in self._running:
            self._running.discard(trial.key)
            self._search.ended(trial, state)
        elif self._purse:
            self._purse.ended(trial, state)

    def _settle(self) -> None:
        """Write down the confirmation of every cell whose search has come to its end."""
        if self._settled or not self._open:
            return
        self._settled = True
        states, searched = self._ledger.states(), defaultdict(list)
        for row in self._ledger.assignments():
            if row.purpose == "search":
                searched[_cell(row.arm, row.cell)].append(states[row.key] in ENDED)
        over = self._search.exhausted and not self._running
        for place, size in list(self._open.items()):
            if over or (len(searched[place]) == size and all(searched[place])):
                del self._open[place]
                self._confirm(place, states)

    def _confirm(self, place: str, states: Mapping[str, str]) -> None:
        best = self._best(place, states)
        trials = [trial for rank, winner in enumerate(best) for trial in confirm_trials(self._spec, winner, rank)]
        with self._ledger.transaction():
            if self._extended:
                trials = self._missing(place, trials)
                self._ledger.add_event(_CONFIRMED, place=place)
            record(self._ledger, trials)
        self._waiting.extend(trial for trial in once(trials) if trial.key not in states)  # others have it already
        note = f"no search trial of {place} has finished: it has no config to confirm"
        if not best and not any(event.payload.get("text") == note for event in self._ledger.events()):
            self._ledger.add_event("note", text=note)

    def _missing(self, place: str, trials: Sequence[TrialSpec]) -> list[TrialSpec]:
        """Those that the cell has not got, behind those that it has."""
        there = [
            trial
            for trial in recorded(self._ledger)
            if trial.purpose == "confirm" and _cell(trial.arm, trial.cell) == place
        ]
        known, free = {trial.key for trial in there}, max([trial.ordinal for trial in there], default=-1) + 1
        fresh = [trial for trial in trials if trial.key not in known]
        return [replace(trial, ordinal=free + i) for i, trial in enumerate(fresh)]

    def _best(self, place: str, states: Mapping[str, str]) -> list[TrialSpec]:
        """The `confirm.top` best configs of a cell, by last value or by the fit, each as the trial in which it did
        best; of equals the earlier."""
        metric = self._spec.metric
        results: list[tuple[float, TrialSpec]] = []
        for trial in recorded(self._ledger):
            finished = trial.purpose == "search" and states[trial.key] == "finished"
            if finished and _cell(trial.arm, trial.cell) == place:
                values = curve(self._ledger, trial.key, metric, trial.config)
                results += [(values[max(values)], trial)] if values else []
        results.sort(key=lambda result: result[0], reverse=metric.mode == "max")  # stable, also in reverse
        configs: dict[TrainConfig, TrialSpec] = {}
        for _, trial in results:
            configs.setdefault(trial.config.model_copy(update={"seed": 0}), trial)
        ranked = list(configs.values())
        if self._by_fit:
            ranked = by_fit(self._spec, self._ledger, ranked)
        return ranked[: self._top]


def confirmation(spec: SweepSpec) -> list[tuple[str, TrainConfig, int]]:
    """What the confirmation of every searched cell takes, at most: arm, a config of the cell, trials."""
    if spec.confirm is None:
        return []
    each = spec.confirm.top * len(spec.confirm.seeds)
    return [
        (cell.arm, spec.config(cell, spec.seeds[0], spec.corners(cell)[0]), each)
        for cell in spec.cells()
        if spec.arms[cell.arm].nuisance
    ]


def _begun(ledger: Ledger, places: Sequence[TrialSpec]) -> tuple[set[str], bool]:
    """Cells whose confirmation is written down, and whether the sweep was extended, which opens all of them again."""
    begun = {_cell(trial.arm, trial.cell) for trial in places if trial.purpose == "confirm"}
    extended = False
    for event in ledger.events():
        if event.kind == EXTENDED:
            begun, extended = set(), True
        elif event.kind == _CONFIRMED:
            begun.add(event.payload["place"])
    return begun, extended


def _searched_cells(spec: SweepSpec) -> dict[str, int]:
    """Cell → how many search trials it has in the design."""
    sizes = ((cell, spec.search_size(cell)) for cell in spec.cells())
    return {_cell(cell.arm, resolved(spec, cell)): size for cell, size in sizes if size}


def _cell(arm: str, values: Mapping[str, Any]) -> str:
    return canonical([arm, dict(values)])
