"""Slices: accuracy, time and memory against M, the smallest M that is equivalent to the largest, and what it saves."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Heading, Items, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Study, encoder_names
from reports.sections import step_cost
from reports.sections.enough_slices import Finding, answer, findings, sweeps_slices, three
from reports.sections.factor import (
    EXACT,
    SLICES,
    difference_value,
    estimate_value,
    levels,
    lines,
    mean_value,
    raw_frame,
    seeds_text,
    selected_head,
    series,
    tally,
    y_label,
)
from reports.sections.step_cost import Cost, geometric
from reports.spoken import spoken
from reports.wording import (
    amount,
    difference_unit,
    factor_text,
    name_text,
    unit,
    value_text,
)

VARIANCE, COSINE = "diag/slices_variance", "diag/slices_cosine"
_MOST_LINES = 6  # in a figure


# -- the section ------------------------------------------------------------------------------------------------------


def sections(study: Study) -> list[Section]:
    """One per arm and encoder that compares numbers of slices."""
    return [_section(study, arm, rank) for rank, arm in enumerate(arm for arm in study.arms if sweeps_slices(arm))]


def _section(study: Study, arm: Arm, rank: int) -> Section:
    slug, found = f"slices-{rank}", findings(study, arm)
    time, memory = step_cost.time(study, arm.cells), step_cost.memory(study, arm.cells)
    said = [answer(study, one, time) for one in found]
    blocks: list[Block] = [Prose(said) if len(said) == 1 else Items(said)]
    blocks += [_accuracy(study, arm, slug), _cells(study, arm, found, slug)]
    if costs := [cost for cost in (time, memory) if cost.known]:
        blocks += [Heading("What more slices cost"), *(_cost_figure(study, arm, cost, slug) for cost in costs)]
        blocks.append(_cost_table(study, arm, found, time, memory, slug))
    if sketch := _sketching(study, arm, slug):
        blocks += [Heading("What fewer slices lose"), *sketch]
    title = f"Slices in {name_text(arm.name)}"
    if len(study.encoders) > 1:
        title += f", {encoder_names(study)[arm.encoder]}"
    return Section(slug, title, blocks)


# -- figures ----------------------------------------------------------------------------------------------------------


def _accuracy(study: Study, arm: Arm, slug: str) -> Figure:
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} against the number of slices M"
    said = [f"{cell.text}: {amount(cell.judged.mean(), study.judge)}" for cell in arm.cells if len(cell.finished)]
    text = figures.Text(
        slug,
        f"{what} in {name_text(arm.name)}, {seeds_text(arm.cells)}; dots are seeds, bars 95 % intervals; the ringed "
        f"point was selected {study.selected_on}.{_apart(arm)}{_shown(arm)}",
        f"{what}. {spoken(said)}.", raw_frame(study, arm.cells), wide=True,
    )  # fmt: skip
    return figures.curve(
        text, series(study, arm, SLICES)[:_MOST_LINES], _X, y_label(study), log=True,
        levels=levels(study, arm.encoder), infinity=EXACT,
    )  # fmt: skip


_X = "slices M (log scale)"


def _apart(arm: Arm) -> str:
    return " exact, the limit of infinitely many, stands apart." if any(_m(c) == math.inf for c in arm.cells) else ""


def _shown(arm: Arm) -> str:
    n = len(lines(arm, SLICES))
    return f" The first {_MOST_LINES} of {n} lines are drawn; the table has all." if n > _MOST_LINES else ""


def _m(cell: Cell) -> float:
    return math.inf if cell.values[SLICES] == EXACT else float(cell.values[SLICES])


def _points(
    study: Study, arm: Arm, values: Callable[[Cell], pd.Series], estimate: Callable[[Cell], st.Estimate | None]
) -> list[figures.Series]:
    place = study.colours[arm.name]
    return [
        figures.Series(
            text or arm.name, place + rank,
            [figures.Point(_m(cell), values(cell).tolist(), estimate(cell)) for cell in cells],
        )
        for rank, (text, cells) in enumerate(lines(arm, SLICES)[:_MOST_LINES])
    ]  # fmt: skip


def _cost_figure(study: Study, arm: Arm, cost: Cost, slug: str) -> Figure:
    of = "peak memory" if cost.unit == "MB" else f"time of a training {cost.name}"
    what = f"{of[0].upper()}{of[1:]} against the number of slices M"
    frame = pd.concat(
        [cell.finished[["key", "arm", "seed"]].assign(**{SLICES: cell.values[SLICES], f"{of} ({cost.unit})":
         cost.of(cell).reindex(cell.finished["seed"]).to_numpy()}) for cell in arm.cells], ignore_index=True,
    )  # fmt: skip
    means = [(cell.text, geometric(cost.of(cell))) for cell in arm.cells]
    said = spoken([f"{text}: {three(mean.mean)} {cost.unit}" for text, mean in means if mean is not None])
    middle = "median of the epochs, the first of three or more left out"
    how = "the highest of all epochs" if cost.unit == "MB" else middle
    text = figures.Text(
        f"{slug}-{'memory' if cost.unit == 'MB' else 'time'}",
        f"{what} in {name_text(arm.name)}, {how}, {seeds_text(arm.cells)}; bars 95 % intervals by "
        f"logarithms, cut at the panel's edge.{_beside(study)}", f"{what}. {said}.", frame,
    )  # fmt: skip
    return figures.curve(
        text, _points(study, arm, cost.of, cost.estimate), _X, f"{of} ({cost.unit})", log=True, infinity=EXACT
    )


def _beside(study: Study) -> str:
    n = (study.sweep.spec.get("pool") or {}).get("max_concurrent") or 1
    return f" Up to {n} trials ran beside each other." if n > 1 else ""


def _sketching(study: Study, arm: Arm, slug: str) -> list[Block]:
    """What the trainer measured of the estimate: its variance and the cosine of its gradient."""
    found: list[Block] = []
    if _measured(arm, VARIANCE, positive=True):
        what = "Variance of the SIGReg estimate over draws of its directions"
        text = _sketch_text(study, arm, VARIANCE, f"{slug}-variance", what, ", in units of the exact value's square")
        lines_of = _points(study, arm, partial(_last, name=VARIANCE), partial(_last_estimate, name=VARIANCE))
        finite = [figures.Series(s.label, s.place, [p for p in s.points if p.x < math.inf]) for s in lines_of]
        found.append(figures.decay(text, finite, _X, "variance / exact value² (log scale)"))
    if _measured(arm, COSINE):
        what = "Mean cosine of the estimate's gradient to the exact one"
        text = _sketch_text(study, arm, COSINE, f"{slug}-cosine", what, "; 1 is the exact direction")
        points = _points(study, arm, partial(_last, name=COSINE), partial(_last_estimate, name=COSINE))
        found.append(figures.curve(text, points, _X, "cosine to the exact gradient", log=True, infinity=EXACT))
    return found


def _measured(arm: Arm, name: str, positive: bool = False) -> bool:
    values = [value for cell in arm.cells if _m(cell) < math.inf for value in _last(cell, name)]
    return any(value > 0 for value in values) if positive else bool(values)


def _last(cell: Cell, name: str) -> pd.Series:
    if name not in cell.finished:
        return pd.Series(dtype=float)
    return cell.finished.set_index("seed")[name].astype(float).dropna()


def _last_estimate(cell: Cell, name: str) -> st.Estimate | None:
    values = _last(cell, name)
    return st.mean_interval(values.to_numpy()) if cell.complete and len(values) == cell.planned else None


def _sketch_text(study: Study, arm: Arm, name: str, slug: str, what: str, how: str) -> figures.Text:
    names = ["key", "arm", *study.sweep.factors, "seed", name]
    frame = pd.concat([cell.finished.reindex(columns=names) for cell in arm.cells], ignore_index=True)
    means = [(cell.text, _last(cell, name).mean()) for cell in arm.cells if len(_last(cell, name))]
    return figures.Text(
        slug, f"{what}{how}, on the projections of the last epoch in {name_text(arm.name)}, {seeds_text(arm.cells)}; "
        "dots are seeds.", f"{what}. {spoken([f'{text}: {three(mean)}' for text, mean in means])}.", frame,
    )  # fmt: skip


# -- tables -----------------------------------------------------------------------------------------------------------


def _cells(study: Study, arm: Arm, found: list[Finding], slug: str) -> Table:
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    percent = f" ({unit(study.judge)})" if unit(study.judge) else ""
    others = _others(arm)
    columns = [
        *(factor_text(path) for path in others), "M", "n", selected_head(study),
        f"mean{percent} [95 % interval]", f"difference to the most slices{points} [95 % interval]", "verdict",
        "collapsed", "diverged", "",
    ]  # fmt: skip
    rows = [_cell_row(study, one, cell, others) for one in found for cell in one.cells]
    caption = (
        f"Numbers of slices in {name_text(arm.name)}, judged on {study.judge_text}; differences are paired by seed, "
        f"verdicts for a ROPE of ±{study.rope:g}{points.replace('(', '').replace(')', '')}, not corrected for their "
        "number."
    )
    return Table(f"{slug}-cells", caption, columns, rows, provenance=True)


def _others(arm: Arm) -> list[str]:
    return [path for path in dict.fromkeys(p for cell in arm.cells for p in cell.values) if path != SLICES]


def _head(found: Finding, cell: Cell, others: Sequence[str]) -> list[Value]:
    chosen = cell is found.smallest
    raw = cell.values[SLICES]
    rest = [plain(cell.values.get(path), value_text(cell.values.get(path))) for path in others]
    return [*rest, Value(raw, value_text(raw), cell.keys, strong=chosen)]


def _cell_row(study: Study, found: Finding, cell: Cell, others: Sequence[str]) -> list[Value]:
    contrast = found.contrasts.get(id(cell))
    said = contrast.verdict if contrast else "—"
    if contrast and contrast.verdict in (st.DECIDED, st.LEANING):
        lost = contrast.estimate is not None and study.sign * contrast.estimate.mean < 0
        said += ", worse" if lost else ", better"
    remark = "smallest that is as good" if cell is found.smallest else cell.losses
    return [
        *_head(found, cell, others), plain(len(cell.finished)), mean_value(cell.val, study.metric),
        estimate_value(cell.estimate, study.judge, cell),
        difference_value(contrast.estimate if contrast else None, study.judge, contrast.keys if contrast else ()),
        plain("reference" if cell is found.largest else said), tally(cell, "collapsed"), tally(cell, "diverged"),
        plain(remark),
    ]  # fmt: skip


def _cost_table(study: Study, arm: Arm, found: list[Finding], time: Cost, memory: Cost, slug: str) -> Table:
    others = _others(arm)
    columns = [
        *(factor_text(path) for path in others), "M", "n", f"time of a {time.name} ({time.unit}) [95 % interval]",
        "times that of the most slices [95 % interval]", "peak memory (MB)", "times that of the most slices",
        "variance / exact²", "cosine of the gradient",
    ]  # fmt: skip
    rows = [
        [
            *_head(one, cell, others), plain(len(cell.finished)), _shown_estimate(time.estimate(cell), cell),
            _shown_estimate(None if cell is one.largest else time.ratio(cell, one.largest), cell),
            _shown_center(geometric(memory.of(cell)), cell),
            _shown_center(None if cell is one.largest else memory.ratio(cell, one.largest), cell),
            _shown_mean(_last(cell, VARIANCE), cell), _shown_mean(_last(cell, COSINE), cell),
        ]
        for one in found for cell in one.cells
    ]  # fmt: skip
    caption = f"What slices cost and what they estimate in {name_text(arm.name)}; ratios are paired by seed."
    caption += " Times, memory and ratios are geometric means, their intervals those of logarithms."
    return Table(f"{slug}-cost", caption, columns, rows, provenance=True)


def _shown_estimate(estimate: st.Estimate | None, cell: Cell) -> Value:
    if estimate is None:
        return Value(None, "—", tone="muted")
    shown = three(estimate.mean)
    if estimate.low is not None and estimate.high is not None:
        shown += f" [{three(estimate.low)}, {three(estimate.high)}]"
    return Value(estimate.mean, shown, cell.keys)


def _shown_center(estimate: st.Estimate | None, cell: Cell) -> Value:
    if estimate is None:
        return Value(None, "—", tone="muted")
    return Value(estimate.mean, three(estimate.mean), cell.keys)


def _shown_mean(values: pd.Series, cell: Cell) -> Value:
    if not len(values):
        return Value(None, "—", tone="muted")
    mean = float(values.mean())
    return Value(mean, three(mean), cell.keys)
