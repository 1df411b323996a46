"""A scientific factor within one arm: a curve where it is numeric, a dot plot where it is not."""

import math
from collections.abc import Collection, Sequence

import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Study, encoder_names
from reports.sections.design import colour_class
from reports.wording import (
    amount,
    cell_text,
    difference_unit,
    factor_text,
    minus,
    name_text,
    unit,
    value_text,
    with_interval,
)

LAMBDA = "method.lamb"
SLICES = "method.slices"
EXACT = "exact"  # slices: all of them
LOG_FROM = 20.0  # ratio of the largest to the smallest value from which an axis is logarithmic


def sections(study: Study, told: Collection[str] = ()) -> list[Section]:
    """One per arm and encoder that compares cells by anything but λ or slices, which have their own; not for the arms
    that are told of elsewhere."""
    swept = [arm for arm in study.arms if len(arm.cells) > 1 and axis(arm) not in (LAMBDA, SLICES)]
    swept = [arm for arm in swept if arm.name not in told]
    return [_section(study, arm, number) for number, arm in enumerate(swept)]


def _section(study: Study, arm: Arm, number: int) -> Section:
    path = axis(arm)
    slug, title = f"factor-{number}", f"{factor_text(path)} in {name_text(arm.name)}"
    if len(study.encoders) > 1:
        title += f", {encoder_names(study)[arm.encoder]}"
    chart = _curve(study, arm, path, slug) if numeric(arm, path) else _dots(study, arm, path, slug)
    blocks: list[Block] = [chart, cell_table(study, arm, slug)]
    return Section(slug, title, blocks)


def axis(arm: Arm) -> str:
    """The factor on the x axis: λ, else the number of slices, else the numeric factor with most values, else the first;
    a factor that stands still only where there is no other."""
    paths = list(dict.fromkeys(path for cell in arm.cells for path in cell.values))
    tried = {path: len({str(cell.values.get(path)) for cell in arm.cells}) for path in paths}
    own = {LAMBDA: 0, SLICES: 1}
    ranked = sorted(paths, key=lambda p: (tried[p] < 2, own.get(p, 2), not numeric(arm, p), -tried[p]))
    return ranked[0] if ranked else ""


def numeric(arm: Arm, path: str) -> bool:
    values = [cell.values.get(path) for cell in arm.cells]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def lines(arm: Arm, path: str) -> list[tuple[str, list[Cell]]]:
    """Cells by the values of the other factors: one line of a curve each."""
    grouped: dict[str, list[Cell]] = {}
    for cell in arm.cells:
        rest = {name: value for name, value in cell.values.items() if name != path}
        grouped.setdefault(cell_text(rest), []).append(cell)
    return list(grouped.items())


def line_of(arm: Arm, path: str, cell: Cell) -> list[Cell]:
    """The cells that differ from this one in that factor alone."""
    return next(cells for _, cells in lines(arm, path) if any(other is cell for other in cells))


def series(study: Study, arm: Arm, path: str) -> list[figures.Series]:
    place = study.colours[arm.name]
    return [
        figures.Series(rest or arm.name, place + rank, [_point(cell, path, cell is arm.selected) for cell in cells])
        for rank, (rest, cells) in enumerate(lines(arm, path))
    ]


def _point(cell: Cell, path: str, chosen: bool) -> figures.Point:
    collapsed = (cell.finished["outcome"] == "collapsed").tolist()
    x = math.inf if cell.values[path] == EXACT else float(cell.values[path])
    return figures.Point(x, cell.judged.tolist(), cell.estimate, collapsed, cell.count("diverged"), chosen)


def levels(study: Study, encoder: str) -> list[figures.Level]:
    floors = [(arm, arm.selected) for arm in study.floors(encoder)]
    return [
        figures.Level(f"{name_text(arm.name)} (floor) {amount(cell.judged.mean(), study.judge)}", cell.judged.mean())
        for arm, cell in floors
        if cell is not None
    ]


def y_label(study: Study) -> str:
    return study.judge_text + (f" ({unit(study.judge)})" if unit(study.judge) else "")


def seeds_text(cells: Sequence[Cell]) -> str:
    """`n = 3 seeds per cell`, or the range."""
    n = sorted({len(cell.finished) for cell in cells if len(cell.rows)})
    if not n:
        return "no evidence yet"
    return f"n = {n[0]} seeds per cell" if len(n) == 1 else f"n = {n[0]} to {n[-1]} seeds per cell"


def raw_frame(study: Study, cells: Sequence[Cell]) -> pd.DataFrame:
    """The evidence behind a figure, one row per trial."""
    names = ["key", "arm", *study.sweep.factors, "seed", "outcome", *dict.fromkeys([study.metric, study.judge])]
    frames = [cell.rows.reindex(columns=names) for cell in cells if len(cell.rows)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)


def _curve(study: Study, arm: Arm, path: str, slug: str) -> Figure:
    values = [float(cell.values[path]) for cell in arm.cells]
    log = min(values) > 0 and max(values) / min(values) >= LOG_FROM
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} against {factor_text(path)}"
    text = figures.Text(
        slug, f"{what}, {seeds_text(arm.cells)}; dots are seeds, bars 95 % intervals; the ringed point was selected "
        f"{study.selected_on}.", _alt(study, arm, what), raw_frame(study, arm.cells), wide=True,
    )  # fmt: skip
    return figures.curve(
        text, series(study, arm, path), factor_text(path), y_label(study), log=log, levels=levels(study, arm.encoder)
    )


def _dots(study: Study, arm: Arm, path: str, slug: str) -> Figure:
    place = study.colours[arm.name]
    rows = [
        figures.Row(", ".join(value_text(v) for v in cell.values.values()), place, cell.judged.tolist(), cell.estimate,
                    diverged=cell.count("diverged"))
        for cell in arm.cells
    ]  # fmt: skip
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} by {factor_text(path)}"
    caption = f"{what}, {seeds_text(arm.cells)}; small dots are seeds, bars 95 % intervals."
    return figures.dots(
        figures.Text(slug, caption, _alt(study, arm, what), raw_frame(study, arm.cells)), rows, y_label(study)
    )


def _alt(study: Study, arm: Arm, what: str) -> str:
    said = [f"{cell.text}: {amount(cell.judged.mean(), study.judge)}" for cell in arm.cells[:12] if len(cell.finished)]
    return f"{what}. " + "; ".join(said)


def cell_table(study: Study, arm: Arm, slug: str, note: str = "") -> Table:
    """Every cell with its n, its selecting and judging means, what it lost, and its distance to the selected one."""
    points = difference_unit(study.judge)
    rows = [_cell_row(study, arm, cell) for cell in arm.cells]
    paths = list(dict.fromkeys(path for cell in arm.cells for path in cell.values))
    columns = [
        *(factor_text(path) for path in paths), "n", selected_head(study),
        f"{_head(study.judge)} [95 % interval]",
        f"difference to the selected [95 % interval]{f' ({points})' if points else ''}", "collapsed", "diverged", "",
    ]  # fmt: skip
    caption = f"Cells of {name_text(arm.name)}; differences are paired by seed. {note}".strip()
    return Table(f"{slug}-cells", caption, columns, rows, provenance=True)


def selected_head(study: Study) -> str:
    """Of a column with the means by which cells were selected."""
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    return f"{study.selecting_text}, mean{of}"


def _head(metric: str) -> str:
    split = metric.partition("/")[0]
    word = {"val": "validation mean", "test": "test mean"}.get(split, metric)
    return f"{word} ({unit(metric)})" if unit(metric) else word


def _cell_row(study: Study, arm: Arm, cell: Cell) -> list[Value]:
    chosen = cell is arm.selected
    paths = list(dict.fromkeys(path for c in arm.cells for path in c.values))
    colour = colour_class(study, arm.name) if chosen else ""
    heads = []
    for rank, path in enumerate(paths):
        value, dot = cell.values.get(path), colour if rank == 0 else ""
        heads.append(Value(value, "—" if value is None else value_text(value), cell.keys, colour=dot, strong=chosen))
    difference = None if arm.selected is None or chosen else study.compare(cell, arm.selected, "", "").estimate
    remark = f"selected {study.selected_on}" if chosen else ("no evidence" if not len(cell.rows) else cell.losses)
    return [
        *heads,
        plain(len(cell.finished)),
        mean_value(cell.val, study.metric),
        estimate_value(cell.estimate, study.judge, cell),
        difference_value(difference, study.judge),
        tally(cell, "collapsed"),
        tally(cell, "diverged"),
        plain(remark),
    ]


def mean_value(values: pd.Series, metric: str) -> Value:
    if not len(values):
        return Value(None, "—", tone="muted")
    return plain(float(values.mean()), minus(amount(float(values.mean()), metric)))


def estimate_value(estimate: st.Estimate | None, metric: str, cell: Cell) -> Value:
    if estimate is None:
        return Value(None, "— " + (cell.losses or "no evidence"), cell.keys, tone="muted")
    return Value(estimate.mean, with_interval(estimate.mean, estimate.low, estimate.high, metric), cell.keys)


def difference_value(estimate: st.Estimate | None, metric: str, keys: tuple[str, ...] = ()) -> Value:
    if estimate is None or math.isnan(estimate.mean):
        return Value(None, "—", keys, tone="muted")
    return Value(estimate.mean, with_interval(estimate.mean, estimate.low, estimate.high, metric, sign=True), keys)


def tally(cell: Cell, outcome: str) -> Value:
    n = cell.count(outcome)
    return Value(n, f"{n} of {cell.planned}", tone="fail" if n else "muted")
