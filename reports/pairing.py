"""Two sweeps: which of their cells are the same question, whether they may be compared, and by how much they differ."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.ledger import canonical
from reports import statistics as st
from reports.evidence import Cell, Study
from reports.unpaired import unpaired_interval
from reports.wording import count, encoder_text, listing, metric_text, name_text

SAME_TRIALS = "same trials"
MARKS = ("a:", "b:")  # before the keys of the first and the second sweep, where they share a page


@dataclass(frozen=True)
class Pair:
    """A cell that both sweeps have: same arm, same values of the scientific factors."""

    a: Cell
    b: Cell
    refusal: str  # why the two may not be compared; "" where they may
    rope: float

    @property
    def text(self) -> str:
        return f"{name_text(self.a.arm)}, {self.a.text}" if self.a.text else name_text(self.a.arm)

    @property
    def same_trials(self) -> bool:
        """One record, copied: equal keys and equal values (a key does not know the code that it was trained by)."""
        return len(self.a.keys) > 0 and set(self.a.keys) == set(self.b.keys) and self._same_values

    @property
    def _same_values(self) -> bool:
        return bool(self.a.judged.sort_index().equals(self.b.judged.sort_index()))

    @property
    def paired(self) -> bool:
        """Whether seed meets the same seed (on the same data: otherwise the pair is refused)."""
        return set(self.a.judged.index) == set(self.b.judged.index)

    @cached_property
    def estimate(self) -> st.Estimate | None:
        """b − a; None where the pair is refused, or a seed is missing on either side."""
        if self.refusal or not (self.a.complete and self.b.complete):
            return None
        a, b = self.a.judged.sort_index(), self.b.judged.sort_index()
        if self.paired:
            return st.paired_interval(b.to_numpy(), a.to_numpy())
        return unpaired_interval(b.to_numpy(), a.to_numpy())

    @property
    def how(self) -> str:
        return "" if self.estimate is None else "paired by seed" if self.paired else "unpaired: the seeds differ"

    @property
    def verdict(self) -> str:
        if self.refusal:
            return "not comparable"
        if self.estimate is None:
            return "no interval"
        return SAME_TRIALS if self.same_trials else st.verdict(self.estimate, self.rope)


@dataclass(frozen=True)
class Pairing:
    a: Study
    b: Study
    pairs: list[Pair]
    only_a: list[Cell]
    only_b: list[Cell]
    refusal: str  # why nothing of the two may be compared; "" where something may

    @property
    def usable(self) -> list[Pair]:
        return [] if self.refusal else [pair for pair in self.pairs if not pair.refusal]

    @cached_property
    def primary(self) -> Pair | None:
        """The cell that a's validation selected, else the first trained one that can be compared."""
        chosen = self.a.leads.selected if self.a.leads is not None else None
        trained = [pair for pair in self.usable if pair.a.arm not in _floor_arms(self.a)]
        known = [pair for pair in trained or self.usable if pair.estimate is not None]
        return next((pair for pair in known if pair.a is chosen), next(iter(known), None))


def pair_up(a: Study, b: Study) -> Pairing:
    ours, theirs = _by_place(a), _by_place(b)
    pairs = [Pair(cell, theirs[place], _cell_refusal(a, b, cell, theirs[place]), a.rope)
             for place, cell in ours.items() if place in theirs]  # fmt: skip
    only_a = [cell for place, cell in ours.items() if place not in theirs]
    only_b = [cell for place, cell in theirs.items() if place not in ours]
    return Pairing(a, b, pairs, only_a, only_b, _refusal(a, b, pairs))


def _by_place(study: Study) -> dict[tuple[str, str], Cell]:
    """(arm, values) → cell; an arm that sweeps encoders names them among its values, so places are one to one."""
    return {(cell.arm, canonical(cell.values)): cell for cell in study.cells}


def _floor_arms(study: Study) -> set[str]:
    return {arm.name for arm in study.arms if arm.is_floor}


def _refusal(a: Study, b: Study, pairs: Sequence[Pair]) -> str:
    reasons = []
    if a.judge != b.judge:
        reasons.append(f"the first is judged by {metric_text(a.judge)}, the second by {metric_text(b.judge)}")
    if a.sign != b.sign:
        reasons.append(f"more is better in one, less in the other ({metric_text(a.metric)})")
    if not pairs:
        reasons.append("no arm with the same values is in both")
    elif all(pair.refusal for pair in pairs):
        reasons += list(dict.fromkeys(pair.refusal for pair in pairs))[:3]
    return "; ".join(reasons)


def _cell_refusal(a: Study, b: Study, x: Cell, y: Cell) -> str:
    """Why two cells measure different things: data, evaluation or encoder. A difference in training is no reason: it is
    what a comparison is for."""
    if not len(x.rows) or not len(y.rows):
        return "one of them has no evidence"
    reasons = []
    data = set(x.rows["data"]), set(y.rows["data"])
    if data[0] != data[1]:
        reasons.append(f"data differ ({_hashes(data[0])} and {_hashes(data[1])})")
    if x.encoder != y.encoder:
        encoders = [encoder_text(json.loads(cell.encoder)) for cell in (x, y)]
        reasons.append(f"encoders differ ({listing(encoders)})")
    versions = set(x.rows["protocol"].dropna()), set(y.rows["protocol"].dropna())
    if versions[0] != versions[1]:
        reasons.append(f"versions of the evaluation differ ({_words(versions[0])} and {_words(versions[1])})")
    if _probes(a, x) != _probes(b, y):
        reasons.append("settings of the evaluation differ")
    return "; ".join(reasons)


def _probes(study: Study, cell: Cell) -> set[str]:
    return {canonical(study.sweep.configs[key].get("probe", {})) for key in cell.keys}


def _hashes(values: set[str]) -> str:
    shown = ", ".join(sorted(value[:12] for value in values)[:2])
    return shown if len(values) <= 2 else f"{shown} and {count(len(values) - 2, 'more')}"


def _words(values: set[str]) -> str:
    return listing(sorted(values)) or "unknown"
