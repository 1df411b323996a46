"""From frames to what is compared: cells, the arms that own them, and the contrasts between cells.

Selection reads validation only; judgement reads test. A cell whose seeds did not all finish has no interval and no
comparison: an average over the seeds that survived would flatter what diverges.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from reports import statistics as st
from reports.load import EVIDENCE, Sweep
from reports.selecting import Selection, selected_by
from reports.wording import cell_text, encoder_text, metric_text, name_text, number

FLOOR_METHODS = frozenset({"random", "pixels"})  # nothing is trained


@dataclass(frozen=True)
class Cell:
    """One arm at one value of every scientific factor, in one configuration, over its seeds."""

    arm: str
    values: dict[str, Any]  # scientific factor → value
    encoder: str  # canonical JSON of config.encoder
    rows: pd.DataFrame  # evidence: one row per seed, sorted by seed
    everything: pd.DataFrame  # every trial of the cell, search included
    candidates: int  # configurations that were confirmed, of which `rows` is the one with the best validation mean
    metric: str  # selects
    judge: str  # judges
    label_free: bool = False  # a seed without a selecting value has collapsed: it ranks last, and is judged

    @property
    def text(self) -> str:
        return cell_text(self.values)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.rows["key"])

    @property
    def planned(self) -> int:
        return len(self.rows)

    @cached_property
    def searched(self) -> pd.DataFrame:
        """Search trials, one row each, in the order of their studies; pruned and diverged ones among them."""
        rows = self.everything[self.everything["purpose"] == "search"].drop_duplicates("key")
        return rows.sort_values(["study", "ordinal"]).reset_index(drop=True)

    def count(self, outcome: str) -> int:
        return int((self.rows["outcome"] == outcome).sum())

    @cached_property
    def finished(self) -> pd.DataFrame:
        """Seeds that ended with both a selecting and a judging value; collapsed ones among them."""
        rows = self.rows[self.rows["state"] == "finished"]
        needed = [self.judge] if self.label_free else [self.metric, self.judge]
        return rows.dropna(subset=[name for name in needed if name in rows])

    @property
    def complete(self) -> bool:
        return 0 < len(self.finished) == self.planned

    @property
    def val(self) -> pd.Series:
        """Seed → selecting value; without labels −∞ for one that has collapsed, whose cell then ranks last."""
        values = self.finished.set_index("seed")[self.metric].astype(float)
        return values.fillna(-np.inf) if self.label_free else values

    @property
    def judged(self) -> pd.Series:
        """Seed → judging value."""
        return self.finished.set_index("seed")[self.judge].astype(float)

    @cached_property
    def estimate(self) -> st.Estimate | None:
        """Mean of the judging values with its interval; None unless every seed finished."""
        return st.mean_interval(self.judged.to_numpy()) if self.complete else None

    @property
    def losses(self) -> str:
        """What became of the seeds that did not finish; empty where all did."""
        left = self.rows.loc[~self.rows["key"].isin(self.finished["key"]), "state"].replace("finished", "unmeasured")
        counts = left.value_counts()
        return ", ".join(f"{n} of {self.planned} {state}" for state, n in counts.items())


@dataclass(frozen=True)
class Arm:
    """An arm within one encoder; an arm that sweeps encoders appears once per encoder."""

    name: str
    method: str
    encoder: str
    cells: list[Cell]
    sign: int  # +1 where a larger metric is better

    @property
    def is_floor(self) -> bool:
        return self.method in FLOOR_METHODS

    @cached_property
    def selected(self) -> Cell | None:
        """The complete cell with the best validation mean. Where no cell is complete, the best of those with anything
        finished, so that it can be shown (never judged); None where nothing finished."""
        usable = [c for c in self.cells if c.complete] or [c for c in self.cells if len(c.finished)]
        return max(usable, key=lambda c: self.sign * c.val.mean(), default=None)


@dataclass(frozen=True)
class Contrast:
    """a − b over the seeds that both have, in the metric's unit."""

    a: Cell
    b: Cell
    a_text: str
    b_text: str
    differences: pd.Series  # seed → difference
    estimate: st.Estimate | None  # None where a seed is missing on either side, or no seed is shared
    superiority: float | None  # share of all pairs of a seed of A and one of B in which A is better, ties ½
    verdict: str

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.a.keys, *self.b.keys)

    @property
    def text(self) -> str:
        return f"{self.a_text} − {self.b_text}"

    @property
    def wins(self) -> str:
        """`7.5 of 9`: the superiority as a count of pairs; empty where nothing is compared."""
        if self.superiority is None:
            return ""
        pairs = len(self.a.judged) * len(self.b.judged)
        return f"{number(self.superiority * pairs)} of {pairs}"


@dataclass(frozen=True)
class Study:
    """All that the sections of a report read."""

    sweep: Sweep
    metric: str  # selects, e.g. val/shot1; without labels a column of its own, see reports/selecting.py
    judge: str  # judges, e.g. test/shot1; the selecting metric where no trial read test
    sign: int  # +1: larger is better
    rope: float
    arms: list[Arm]
    colours: dict[str, int] = field(default_factory=dict)  # arm → place in the palette
    focus: "Contrast | None" = None  # decides the sweep's question, where that is not one of arms
    together: tuple[Cell, ...] = ()  # decide it, where that is no question of two: there is no primary contrast then
    labels: str = ""  # val/… that selects, or would with labels
    label_free: bool = False

    @property
    def evidence(self) -> pd.DataFrame:
        trials = self.sweep.trials
        return trials[trials["purpose"].isin(EVIDENCE)]

    @property
    def cells(self) -> list[Cell]:
        return [cell for arm in self.arms for cell in arm.cells]

    @property
    def encoders(self) -> list[str]:
        return list(dict.fromkeys(arm.encoder for arm in self.arms))

    def within(self, encoder: str) -> list[Arm]:
        return [arm for arm in self.arms if arm.encoder == encoder]

    def floors(self, encoder: str) -> list[Arm]:
        return [arm for arm in self.within(encoder) if arm.is_floor]

    @property
    def judge_text(self) -> str:
        return metric_text(self.judge)

    @property
    def selecting_text(self) -> str:
        """The metric that selects: "validation k-NN accuracy"."""
        return metric_text(self.metric)

    @property
    def selected_on(self) -> str:
        """How what is selected was found best: "by validation k-NN accuracy"."""
        return f"by {self.selecting_text}"

    def compare(self, a: Cell, b: Cell, a_text: str, b_text: str) -> Contrast:
        shared = a.judged.index.intersection(b.judged.index)
        differences = a.judged.loc[shared] - b.judged.loc[shared]
        comparable = a.complete and b.complete and len(shared) > 0
        estimate = st.mean_interval(differences.to_numpy()) if comparable else None
        superiority = (
            st.probability_greater(self.sign * a.judged.to_numpy(), self.sign * b.judged.to_numpy())
            if comparable
            else None
        )
        said = st.UNDECIDED if estimate is None else st.verdict(estimate, self.rope)
        return Contrast(a, b, a_text, b_text, differences, estimate, superiority, said)

    @cached_property
    def asked(self) -> tuple[str, str] | None:
        """The declared contrast, else the first two trained arms of an encoder."""
        declared = self.sweep.spec.get("contrast")
        if declared:
            return str(declared[0]), str(declared[1])
        for encoder in self.encoders:
            trained = [arm.name for arm in self.within(encoder) if not arm.is_floor]
            if len(trained) > 1:
                return trained[0], trained[1]
        return None

    @cached_property
    def leads(self) -> Arm | None:
        """The arm that the answer is about: the first of the contrast, else the first that is trained."""
        if self.focus is not None:
            return next(arm for arm in self.arms if any(cell is self.focus.a for cell in arm.cells))
        wanted = [arm for arm in self.arms if self.asked and arm.name == self.asked[0]]
        trained = [arm for arm in self.arms if not arm.is_floor]
        order = wanted or trained or self.arms
        pair = set(self.asked or ())
        shared = [arm for arm in order if pair <= {other.name for other in self.within(arm.encoder)}]
        return next(iter(shared or order), None)

    @cached_property
    def primary(self) -> Contrast | None:
        """Between two arms where there are two, else between the two best cells (on validation) of the only one."""
        if self.focus is not None or self.together:
            return self.focus
        lead = self.leads
        if lead is None or lead.selected is None:
            return None
        if self.asked is not None:
            other = next((arm for arm in self._rivals if arm.name == self.asked[1]), None)
            if other is None or other.selected is None:
                return None
            return self.compare(lead.selected, other.selected, name_text(lead.name), name_text(other.name))
        rivals = [cell for cell in lead.cells if cell is not lead.selected and cell.complete]
        if not rivals:
            return None
        second = max(rivals, key=lambda cell: self.sign * cell.val.mean())
        return self.compare(lead.selected, second, lead.selected.text, second.text)

    @property
    def _rivals(self) -> list[Arm]:
        """Arms with the leading arm's encoder first: a contrast across encoders is found, and then refused."""
        return sorted(self.arms, key=lambda arm: self.leads is None or arm.encoder != self.leads.encoder)

    def reference(self, encoder: str) -> Arm | None:
        """The arm that the others of an encoder are compared with."""
        arms = self.within(encoder)
        if self.leads is not None and self.leads.encoder == encoder:
            return self.leads
        named = [arm for arm in arms if self.asked and arm.name in self.asked]
        trained = [arm for arm in arms if not arm.is_floor]
        subject = [arm for arm in trained if arm.method == "lejepa"]
        return next(iter(named or subject or trained or arms), None)

    def arm(self, name: str, encoder: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.name == name and arm.encoder == encoder), None)

    def judged_by(self, metric: str) -> "Study":
        """The same sweep with another metric (`val/knn`) selecting and judging, larger being better."""
        return study(replace(self.sweep, spec={**self.sweep.spec, "metric": {"name": metric, "mode": "max"}}))


def study(sweep: Sweep) -> Study:
    sweep, by = selected_by(sweep)
    arms: list[Arm] = []
    for (name, encoder), rows in sweep.trials.groupby(["arm", "encoder"], sort=False):
        cells = [_cell(part, by) for _, part in rows.groupby("cell", sort=False)]
        cells.sort(key=lambda cell: _order(cell.values))
        arms.append(Arm(str(name), str(rows["method"].iloc[0]), str(encoder), cells, by.sign))
    named = list(sweep.spec.get("arms") or {})
    order = {name: place for place, name in enumerate(named)}
    arms.sort(key=lambda arm: (arm.is_floor, order.get(arm.name, len(named))))  # as the sweep file names them
    trained = list(dict.fromkeys(arm.name for arm in arms if not arm.is_floor))
    floors = list(dict.fromkeys(arm.name for arm in arms if arm.is_floor))
    colours = {name: place for group in (trained, floors) for place, name in enumerate(group)}
    rope = float(sweep.spec.get("rope", 1.0))
    return Study(sweep, by.metric, by.judge, by.sign, rope, arms, colours, labels=by.labels, label_free=by.label_free)


def _cell(rows: pd.DataFrame, by: Selection) -> Cell:
    """A cell's evidence. Several confirmed configurations: the one with the best validation mean represents it."""
    first = rows.iloc[0]
    evidence = rows[rows["purpose"].isin(EVIDENCE)]
    values: dict[str, Any] = json.loads(first["cell"])
    nothing = Cell(
        str(first["arm"]), values, str(first["encoder"]), evidence, rows, 0, by.metric, by.judge, by.label_free
    )
    variants = confirmed(nothing)
    if not variants:  # searched, but nothing confirmed yet
        return nothing
    usable = [v for v in variants if v.complete] or [v for v in variants if len(v.finished)]
    best = max(usable, key=lambda v: by.sign * v.val.mean(), default=variants[0])
    return replace(best, candidates=len(variants))


def confirmed(cell: Cell) -> list[Cell]:
    """A cell once per configuration that has evidence, in the order of the design."""
    evidence = cell.everything[cell.everything["purpose"].isin(EVIDENCE)]
    return [
        replace(cell, rows=rows.drop_duplicates("seed").sort_values("seed").reset_index(drop=True), candidates=1)
        for _, rows in evidence.groupby("variant", sort=False)
    ]


def _order(values: Mapping[str, Any]) -> tuple[tuple[int, float, str], ...]:
    """Numbers by size, before words by the alphabet."""
    return tuple(
        (0, float(v), "") if isinstance(v, int | float) and not isinstance(v, bool) else (1, 0.0, str(v))
        for v in values.values()
    )


def encoder_names(study: Study) -> dict[str, str]:
    return {encoder: encoder_text(json.loads(encoder)) for encoder in study.encoders}
