"""The paper's tables beside ours: every cell with its verdict, the shapes that smaller scale can test, what known
differences do, and what others got.
"""

from collections.abc import Sequence
from functools import lru_cache

from reports import figures
from reports.content import Block, Figure, Heading, Items, Prose, Section, Table, Value, plain
from reports.evidence import Study
from reports.figures.paper import Twin, twins
from reports.published import Published, PublishedTable, Reproduction, load_published
from reports.sections import paper_cells, paper_effects, paper_shapes
from reports.sections.factor import raw_frame, y_label
from reports.sections.paper_cells import NOT_ATTEMPTED, REPRODUCED, Comparison, judged
from reports.sections.paper_finding import Finding, shape_table
from reports.shapes import HOLDS
from reports.spoken import spoken
from reports.statistics import Estimate
from reports.wording import count, listing, minus, name_text, value_text


def sections(study: Study) -> list[Section]:
    """One for each table that the sweep runs, and one for the settings that it switches."""
    known = _published()
    found = [_section(study, table, f"paper-{n}") for n, table in enumerate(tables_of(study, known))]
    switched = known.switched_in(study.sweep.name)
    if switched and (blocks := paper_effects.blocks(study, switched[0], "paper-switches")):
        names = listing([table.id for table in switched])
        found.append(Section("paper-switches", f"Launch settings behind {names}", blocks[1:]))
    return found


def tables_of(study: Study, known: Published) -> list[PublishedTable]:
    """Those that name the sweep; else those with two axes or more, all of which the sweep compares."""
    named = known.of_sweep(study.sweep.name)
    factors = set(study.sweep.factors)
    return list(named) or [table for table in known.tables if _compared(table, factors)]


def _compared(table: PublishedTable, factors: set[str]) -> bool:
    """An axis may have several paths, and two axes may share one: each needs a factor of its own."""
    swept = factors & {path for axis in table.axes for path in axis.paths}
    every = all(factors & set(axis.paths) for axis in table.axes)
    return every and len(swept) >= len(table.axes) > 1


@lru_cache
def _published() -> Published:
    return load_published()


def named(study: Study) -> tuple[PublishedTable, ...]:
    """The tables that name the sweep."""
    return _published().of_sweep(study.sweep.name)


# -- the section ------------------------------------------------------------------------------------------------------


def _section(study: Study, table: PublishedTable, slug: str) -> Section:
    cells = paper_cells.comparisons(study, table)
    found = paper_shapes.findings(study, table, cells)
    blocks: list[Block] = [Prose(_head(study, table, cells, found))]
    if found:
        blocks += [Heading("Shapes"), Items([one.sentence for one in found]), shape_table(study, table, found, slug)]
    if chart := _figure(study, table, cells, slug):
        blocks.append(chart)
    blocks += [Heading("Cells"), paper_cells.cell_table(table, cells, slug)]
    blocks += paper_effects.blocks(study, table, slug)
    if others := _others(table):
        blocks += [Heading("What others got"), _others_table(table, others, slug)]
    return Section(slug, f"{table.id} of the paper: {table.title}", blocks)


def _head(study: Study, table: PublishedTable, cells: Sequence[Comparison], found: Sequence[Finding]) -> list[str]:
    said = [bottom_line(study, table, cells, found), paper_cells.setting_text(cells)]
    said.append(paper_cells.held_out_text(study, cells))
    if table.unknown:
        said.append(f"Not published: {listing([name_text(what) for what in table.unknown])}.")
    if table.undocumented:
        said.append(f"In launch scripts, not in the text: {listing([switch.name for switch in table.undocumented])}.")
    if table.note:
        said.append(f"Note: {table.note}.")
    return [text for text in said if text]


def bottom_line(study: Study, table: PublishedTable, cells: Sequence[Comparison], found: Sequence[Finding]) -> str:
    tried = sum(one.status != NOT_ATTEMPTED for one in cells)
    same = sum(one.status == REPRODUCED for one in cells)
    hold = sum(one.verdict == HOLDS for one in found)
    gap = paper_cells.gap_text(cells, paper_effects.explained(paper_effects.effects(study, table)))
    tested = f"{hold} of {len(found)} tested shapes {'holds' if hold == 1 else 'hold'}"
    return f"{table.id}: {tried} of {count(len(cells), 'cell')} attempted, {same} reproduced, {tested}; {gap}."


def _figure(study: Study, table: PublishedTable, cells: Sequence[Comparison], slug: str) -> Figure | None:
    """From three cells on."""
    axis = table.axes[0]
    points = [
        Twin(one.cell.id, f"{axis.symbol} = {value_text(one.cell.at[axis.name])}" if len(table.axes) > 1 else "",
             one.cell.value, one.estimate)
        for one in cells if one.estimate is not None
    ]  # fmt: skip
    if len(points) < 3:
        return None
    what = f"Our cells of {table.id} over the published ones"
    caption = f"{what}: means and 95 % intervals over seeds, and, where both are of one height, the line of equality."
    alt = f"{what}. " + spoken([f"{p.label}: {p.published:.2f}, ours {p.ours.mean:.1f}" for p in points])
    mine = {id(one.ours): one.ours for one in cells if one.estimate is not None and one.ours is not None}
    text = figures.Text(f"{slug}-cells", caption, alt, raw_frame(study, list(mine.values())))
    return twins(text, points, f"published ({table.unit})", f"ours, {y_label(study)}")


# -- what others got --------------------------------------------------------------------------------------------------


def _others(table: PublishedTable) -> list[Reproduction]:
    ids = {cell.id for cell in table.cells}
    return [one for one in _published().reproductions if one.of in ids]


def _others_table(table: PublishedTable, others: Sequence[Reproduction], slug: str) -> Table:
    columns = ["cell", f"published ({table.unit})", "by", f"got ({table.unit})", "Δ of the nearest", "status", "source"]
    caption = f"Independent reproductions of cells of {table.id}, judged by the same tolerance."
    return Table(f"{slug}-others", caption, columns, [_other_row(table, one) for one in others])


def _other_row(table: PublishedTable, one: Reproduction) -> list[Value]:
    nearest = min(max(one.against, one.lowest), one.highest)
    gap = nearest - one.against
    got = f"{one.lowest:g}" if one.lowest == one.highest else f"{one.lowest:g} to {one.highest:g}"
    spread = f" ± {one.spread:g}" if one.spread is not None else ""
    tolerance = None if table.tolerance is None else table.tolerance.points
    status = judged(Estimate(nearest, None, None, 1, "published"), one.against, tolerance)
    return [
        plain(one.of), plain(one.against), plain(one.by), Value(nearest, got + spread),
        Value(gap, minus(f"{gap:+.2f}")), plain(status), plain(one.source),
    ]  # fmt: skip
