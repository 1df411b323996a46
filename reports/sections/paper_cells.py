"""A table of the paper, cell by cell: what is published, what this sweep has for it, and whether that is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from reports import statistics as st
from reports.content import Table, Value, plain
from reports.evidence import Cell, Study
from reports.placing import agrees, at_path, coordinate, metric_of, published_setting, reaches
from reports.published import UNKNOWN, PublishedCell, PublishedTable
from reports.wording import is_percent, metric_text, minus, name_text, value_text

REPRODUCED, CLOSE, NOT_REPRODUCED = "reproduced", "close", "not reproduced"
OTHER_SETTING, NOT_ATTEMPTED, NOT_FINISHED = "other setting", "not attempted", "not finished"
JUDGED = (REPRODUCED, CLOSE, NOT_REPRODUCED)
_TONES = {REPRODUCED: "pass", CLOSE: "warn", NOT_REPRODUCED: "fail"}
_CALLED = {"data.name": "data", "data.limit": "images", "encoder.name": "encoder", "method.name": "method"}
_NULL = {"data.limit": "all"}
_SECONDS = 3600


@dataclass(frozen=True)
class Difference:
    """A setting in which a run is not what is published."""

    name: str
    ours: str
    published: str

    @property
    def text(self) -> str:
        return f"{self.name} {self.ours} (published: {self.published})"


@dataclass(frozen=True)
class Comparison:
    """A published cell and what this sweep has for it."""

    cell: PublishedCell
    tolerance: float | None
    ours: Cell | None
    values: pd.Series  # seed → ours, of the seeds that finished
    differences: tuple[Difference, ...]
    cost: str  # of a cell that was not attempted
    hours: float | None = None  # the same, of one seed on a device

    @property
    def attempted(self) -> bool:
        return self.ours is not None

    @property
    def complete(self) -> bool:
        return self.ours is not None and self.ours.complete and len(self.values) == self.ours.planned

    @cached_property
    def estimate(self) -> st.Estimate | None:
        return st.mean_interval(self.values.to_numpy()) if self.complete else None

    @property
    def gap(self) -> float | None:
        return None if self.estimate is None else self.estimate.mean - self.cell.value

    @property
    def status(self) -> str:
        if not self.attempted:
            return NOT_ATTEMPTED
        if self.differences:
            return OTHER_SETTING
        if self.estimate is None:
            return NOT_FINISHED
        return judged(self.estimate, self.cell.value, self.tolerance)


def judged(ours: st.Estimate, published: float, tolerance: float | None) -> str:
    """At the published setting: reproduced where the mean lies within the tolerance; close where the interval reaches
    it or, with one seed, within twice of it; else not."""
    reach = tolerance or 0.0
    gap = abs(ours.mean - published)
    if gap <= reach:
        return REPRODUCED
    if ours.low is None or ours.high is None:
        return CLOSE if gap <= 2 * reach else NOT_REPRODUCED
    return CLOSE if ours.low <= published + reach and ours.high >= published - reach else NOT_REPRODUCED


# -- which of our cells is which ---------------------------------------------------------------------------------------


def comparisons(study: Study, table: PublishedTable) -> list[Comparison]:
    """Every published cell, in the table's order, with the cell of ours that has the fewest differences."""
    ours = [(cell, config_of(study, cell)) for cell in candidates(study, table)]
    return [_comparison(study, table, cell, ours) for cell in table.cells]


def candidates(study: Study, table: PublishedTable) -> list[Cell]:
    """Cells trained by the table's method."""
    wanted = table.setting.get("method.name", "lejepa")
    return [cell for arm in study.arms if agrees(arm.method, wanted) for cell in arm.cells]


def config_of(study: Study, cell: Cell) -> Mapping[str, Any]:
    rows = cell.rows if len(cell.rows) else cell.everything
    return study.sweep.configs.get(str(rows["key"].iloc[0]), {})


def _comparison(
    study: Study, table: PublishedTable, cell: PublishedCell, ours: Sequence[tuple[Cell, Mapping[str, Any]]]
) -> Comparison:
    metric = measured_by(study, table, metric_of(cell, table))
    reached = [(mine, config) for mine, config in ours if metric is not None and reaches(cell, table, config)]
    tolerance = None if table.tolerance is None else table.tolerance.points
    if metric is None or not reached:
        cost, hours = ("nothing in a trial measures it", None) if metric is None else _cost(study, table, cell, ours)
        return Comparison(cell, tolerance, None, pd.Series(dtype=float), (), cost, hours)
    found = [(mine, differences(table, cell, config)) for mine, config in reached]
    mine, apart = min(found, key=lambda pair: len(pair[1]))
    if metric != metric_of(cell, table):
        apart = (*apart, Difference("measure", metric_text(metric), str(cell.about["metric"])))
    return Comparison(cell, tolerance, mine, values_of(mine, metric), apart, "")


def measured_by(study: Study, table: PublishedTable, metric: str | None) -> str | None:
    """The metric, or what this sweep is judged by where it is an accuracy, too, and the table's was not recorded; None
    where the table has several metrics, of which another would be another cell's."""
    if metric is None or metric in study.sweep.trials:
        return metric
    one = not any(axis.metric for axis in table.axes)
    return study.judge if one and is_percent(study.judge) else None


def values_of(cell: Cell, metric: str) -> pd.Series:
    """Seed → value, of the seeds that finished."""
    return cell.finished.set_index("seed")[metric].astype(float).dropna()


def differences(table: PublishedTable, cell: PublishedCell, config: Mapping[str, Any]) -> tuple[Difference, ...]:
    wanted = published_setting(cell, table)
    return tuple(
        Difference(_CALLED.get(path, path), _said(path, at_path(config, path)), _said(path, want))
        for path, want in wanted.items() if not agrees(at_path(config, path), want)
    )  # fmt: skip


def _said(path: str, value: Any) -> str:
    if isinstance(value, list):
        return name_text(value[0])
    if value is None:
        return _NULL.get(path, "none")
    return "not known" if value == UNKNOWN else value_text(value)


def _cost(
    study: Study, table: PublishedTable, cell: PublishedCell, ours: Sequence[tuple[Cell, Mapping[str, Any]]]
) -> tuple[str, float | None]:
    """From finished trainings that differ only in what costs no time; never from anything else. In words, in hours."""
    fixed = [axis for axis in table.axes if axis.name not in table.cost_neutral and (axis.paths or axis.choices)]
    alike = [
        (mine, config) for mine, config in ours
        if all(agrees(coordinate(axis, config), cell.at[axis.name]) for axis in fixed) and len(mine.finished)
    ]  # fmt: skip
    seconds = [value for mine, _ in alike for value in mine.finished["seconds"] if np.isfinite(value)]
    if not seconds:
        return "cost unknown", None
    settings = [differences(table, cell, config) for _, config in alike]
    where = "this sweep's" if any(settings) else "the published"
    hours = float(np.median(seconds)) / _SECONDS
    return f"costs {hours:.2g} device-hours a seed at {where} setting", hours


# -- as a table --------------------------------------------------------------------------------------------------------


def cell_table(table: PublishedTable, found: Sequence[Comparison], slug: str) -> Table:
    within = "within the tolerance" if table.tolerance is None else f"within ±{table.tolerance.points:g}"
    columns = [
        "cell", f"published ({table.unit})", f"ours ({table.unit}) [95 % interval]", "n", "Δ", within, "status",
        "differs in",
    ]  # fmt: skip
    caption = f"Every cell of {table.id}, {table.title}; Δ is ours − published. {_tolerance_text(table)}"
    return Table(f"{slug}-cells", caption, columns, [_row(one) for one in found], provenance=True)


def _tolerance_text(table: PublishedTable) -> str:
    seeds = "an unknown number of seeds" if table.seeds == UNKNOWN else f"seeds: {table.seeds}"
    if table.tolerance is None:
        return f"Published of {seeds}."
    return f"Published of {seeds}; the tolerance of ±{table.tolerance.points:g} is that {table.tolerance.why}."


def _row(one: Comparison) -> list[Value]:
    published = Value(one.cell.value, f"{one.cell.value:.2f}")
    if one.ours is None:
        why = plain(f"{NOT_ATTEMPTED}: {one.cost}")
        shown = [plain(one.cell.id), published, *[Value(None, "—")] * 4, why, plain("")]
        return [Value(value.raw, value.text, tone="muted") for value in shown]
    keys, estimate = one.ours.keys, one.estimate
    status = Value(one.status, one.status, tone=_TONES.get(one.status, ""))
    differs = Value("; ".join(d.text for d in one.differences) or None, ", ".join(d.name for d in one.differences))
    name, n = Value(one.cell.id, one.cell.id, keys), plain(len(one.values))
    if estimate is None or one.gap is None:
        lost = Value(None, f"— {one.ours.losses or 'no evidence'}", keys, tone="muted")
        return [name, published, lost, n, *[Value(None, "—", tone="muted")] * 2, status, differs]
    gap = Value(one.gap, minus(f"{one.gap:+.2f}"))
    return [name, published, Value(estimate.mean, two(estimate), keys), n, gap, _inside(one, estimate), status, differs]


def _inside(one: Comparison, estimate: st.Estimate) -> Value:
    """Whether the mean lies within the tolerance, and whether all of its interval does."""
    if one.tolerance is None or one.gap is None:
        return Value(None, "—", tone="muted")
    if abs(one.gap) > one.tolerance:
        return plain("no")
    if estimate.low is None or estimate.high is None:
        return plain("yes (no interval)")
    whole = max(abs(estimate.low - one.cell.value), abs(estimate.high - one.cell.value)) <= one.tolerance
    return plain("yes" if whole else "the mean")


def two(estimate: st.Estimate, sign: bool = False) -> str:
    """With the two decimals that the paper prints."""
    mean = f"{estimate.mean:+.2f}" if sign else f"{estimate.mean:.2f}"
    if estimate.low is None or estimate.high is None:
        return minus(mean)
    return f"{minus(mean)} [{minus(f'{estimate.low:.2f}')}, {minus(f'{estimate.high:.2f}')}]"


# -- as sentences ------------------------------------------------------------------------------------------------------


def setting_text(found: Sequence[Comparison]) -> str:
    """In what all attempted cells differ from what is published."""
    tried = [set(one.differences) for one in found if one.attempted]
    if not tried or not any(tried):
        return ""
    shared = [d.text for one in found if one.attempted for d in one.differences if all(d in each for each in tried)]
    some = any(each != tried[0] for each in tried)
    if not shared:
        return "The cells differ from what is published each in its own way: see the table's CSV file."
    rest = "; some cells differ in more" if some else ""
    return f"All attempted cells differ from what is published: {'; '.join(dict.fromkeys(shared))}{rest}."


def held_out_text(study: Study, found: Sequence[Comparison]) -> str:
    """What every run here leaves out of its training, and the paper does not say that it does."""
    ours = next((one.ours for one in found if one.ours is not None), None)
    share = None if ours is None else at_path(config_of(study, ours), "data.val_fraction")
    return f"Ours train without the {share:.0%} of the training images by which they are selected." if share else ""


def gap_text(found: Sequence[Comparison], explained: Mapping[str, float]) -> str:
    """explained: settings → the points that they add to ours, as measured."""
    at_setting = [one for one in found if one.status in JUDGED and one.gap is not None]
    if not at_setting:
        tried = any(one.attempted for one in found)
        return f"no gap can be told, as {'every attempted cell is of another setting' if tried else 'none was tried'}"
    worst = max(at_setting, key=lambda one: abs(one.gap or 0.0))
    gap = worst.gap or 0.0
    shown = f"{minus(f'{gap:+.2f}')} points at {worst.cell.id}"
    if worst.status == REPRODUCED:
        return f"the largest gap, {shown}, is within the tolerance"
    for names, points in explained.items():
        left = minus(f"{gap + points:+.2f}")
        return f"largest gap {shown}, of which {left} are unexplained once {names} is switched on"
    return f"largest unexplained gap: {shown}"
