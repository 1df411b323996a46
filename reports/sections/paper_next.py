"""What would settle a table of the paper: seeds, a wider grid, or the cells that were left out, each with its price."""

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from reports import statistics as st
from reports.evidence import Study
from reports.optima import LARGEST, SMALLEST
from reports.placing import coordinate
from reports.published import Axis
from reports.sections import next_sweep, paper_cells
from reports.sections.next_sweep import Proposal
from reports.sections.paper_card import Verdict
from reports.sections.paper_finding import RANGE, SEEDS, VALUES, Finding
from reports.wording import count, duration


def changes(found: Sequence[Verdict]) -> list[str]:
    """What would settle each undecided shape, those asked about first; then what was left out of the table."""
    said = []
    for one in (finding for verdict in found for finding in verdict.open):
        where = f" at {one.where}" if one.where else ""
        said.append(f"{_LACKS[one.lack].format(f'“{one.claim}”{where}')}{_seeds_text(one)}.")
    for verdict in found:
        if verdict.unattempted:
            cells = count(len(verdict.unattempted), "cell")
            said.append(f"The {cells} of {verdict.table.id} that were not attempted: {_cost(verdict)}.")
        if not verdict.judged:
            said.append(f"The published setting: no cell of {verdict.table.id} was trained at it.")
    return said


_LACKS = {
    SEEDS: "More seeds, for {}",
    RANGE: "A wider grid, for {}: the best is at an end of what was tried",
    VALUES: "More of the table's values, for {}",
}


def _seeds_text(one: Finding) -> str:
    if one.lack != SEEDS or not (one.seeds or one.beyond):
        return ""
    enough = f"about {one.seeds}" if one.seeds else f"more than {st.MOST_SEEDS}"
    return f": {enough}, if mean and spread are what they seem"


def _cost(one: Verdict) -> str:
    known = [cell.hours for cell in one.unattempted if cell.hours is not None]
    if not known:
        return "cost unknown"
    rest = len(one.unattempted) - len(known)
    more = f" for {len(known)}, and {count(rest, 'cell')} of unknown cost" if rest else ""
    return f"{duration(3600 * sum(known))} of device time a seed at this sweep's setting{more}"


def propose(study: Study, found: Sequence[Verdict]) -> Proposal:
    """What settles an undecided shape, those asked about first; else the cells not attempted; else the published
    setting; else fresh seeds."""
    for one in (finding for verdict in found for finding in verdict.open):
        if one.lack == SEEDS and not one.beyond:
            return _more_seeds(study, one)
        if one.lack == RANGE and (wider := _wider(study, found, one)) is not None:
            return wider
    for verdict in found:
        if (rest := _rest(study, verdict)) is not None:
            return rest
    if any(not verdict.judged for verdict in found):
        why = "What the published setting would cost: so far no cell is at it"
        return f"harness plan paper/{found[0].table.sweep} --profile paper", f"{why}."
    return next_sweep.of_contrast(study, st.DECIDED)


def _more_seeds(study: Study, one: Finding) -> Proposal:
    used = int(study.evidence["seed"].nunique())
    cells = [cell for cell in study.cells if set(cell.keys) & set(one.keys)]
    where = f" at {one.where}" if one.where else ""
    why = f"More seeds for “{one.claim}”{where}, which is undecided"
    return next_sweep.more_seeds(study, one.seeds or max(10, 2 * used), why, cells)


def _wider(study: Study, found: Sequence[Verdict], one: Finding) -> Proposal | None:
    """One step further at every end where a best lies, of the axis whose optimum was sought; None where the sweep has
    no grid of it."""
    table = next(verdict.table for verdict in found if one in verdict.findings)
    axes = {shape.axis for shape in table.shapes if shape.kind in ("optimum", "optimum_moves")}
    values: next_sweep.Values = {}
    spent: list[float | None] = []
    trials = 0
    for arm in dict.fromkeys(cell.arm for cell in study.cells if set(cell.keys) & set(one.keys)):
        for axis in axes:
            path = _varied(study, table.axis(axis), arm)
            tried = next_sweep.grids(study, arm).get(path or "", [])
            if path is not None and sum(value > 0 for value in tried) > 1:
                values[arm, path] = _extended(tried, one.ends)
                more, seconds = _added(study, arm, path, len(values[arm, path]) - len(tried))
                trials, spent = trials + more, [*spent, seconds]
    if not values:
        return None
    known = [seconds for seconds in spent if seconds is not None]
    time = f", about {duration(sum(known))} of device time" if len(known) == len(spent) else ""
    why = f"A wider grid for “{one.claim}”, where the best lies at an end: {count(trials, 'more trial')}{time}."
    return next_sweep.other_values(study, "wider", values), f"{why} {_TAKEN_OVER}"


_TAKEN_OVER = (
    "The trials that are there are taken over if trainer code, torch version, kind of device and threads are the same, "
    "else trained again."
)


def _added(study: Study, arm: str, path: str, more: int) -> tuple[int, float | None]:
    """Trials that so many more values on every line of the grid are, and their seconds, as the line's others took;
    None where each would be searched for anew."""
    cells = [cell for cell in study.cells if cell.arm == arm and path in cell.values]
    lines = len({tuple(value for name, value in cell.values.items() if name != path) for cell in cells})
    trials = more * lines * max((cell.planned for cell in cells), default=0)
    seconds = [value for cell in cells for value in cell.finished["seconds"] if np.isfinite(value)]
    if not seconds or any(len(cell.searched) for cell in cells):
        return trials, None
    return trials, trials * float(np.mean(seconds))


def _extended(tried: Iterable[float], ends: Collection[str]) -> list[float]:
    """By the ratio of the two outermost values at these ends; 0 has none."""
    positive = sorted(value for value in tried if value > 0)
    below = [_short(positive[0] ** 2 / positive[1])] if SMALLEST in ends else []
    above = [_short(positive[-1] ** 2 / positive[-2])] if LARGEST in ends else []
    return [*(value for value in tried if value <= 0), *below, *positive, *above]


def _short(value: float) -> float:
    return float(f"{value:.2g}") if value < 10 else float(math.ceil(value))


def _rest(study: Study, verdict: Verdict) -> Proposal | None:
    """The values of the table that the sweep leaves out along the axes that it varies, with their price."""
    values: next_sweep.Values = {}
    for axis in verdict.table.axes:
        missing = {one.cell.at[axis.name] for one in verdict.unattempted}
        for arm in dict.fromkeys(one.ours.arm for one in verdict.cells if one.ours is not None):
            path = _varied(study, axis, arm)
            tried = next_sweep.grids(study, arm).get(path or "", [])
            if path is not None and missing - set(tried):
                values[arm, path] = sorted({*tried, *missing}, key=lambda value: (isinstance(value, str), value))
    if not values:
        return None
    cells = count(len(verdict.unattempted), "cell")
    why = f"The {cells} of {verdict.table.id} that were not attempted: {_cost(verdict)}."
    return next_sweep.other_values(study, "whole", values), why


def _varied(study: Study, axis: Axis, arm: str) -> str | None:
    """The factor of an arm that is the axis; None where it is only a part of it."""
    cells = [cell for cell in study.cells if cell.arm == arm and len(cell.rows)]
    at = [coordinate(axis, paper_cells.config_of(study, cell)) for cell in cells]
    return next((path for path in axis.paths if cells and [cell.values.get(path) for cell in cells] == at), None)
