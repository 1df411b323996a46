"""How many slices are enough: the smallest M that is as good as the largest that was tried, and what it saves."""

from dataclasses import dataclass

from reports import statistics as st
from reports.evidence import Arm, Cell, Contrast, Study
from reports.sections.factor import EXACT, SLICES, lines
from reports.sections.step_cost import Cost
from reports.wording import difference_unit, listing, number, value_text, with_interval


@dataclass(frozen=True)
class Finding:
    """Along one line of the grid: whether fewer slices than the most that were tried will do."""

    text: str  # the values of the other factors
    cells: list[Cell]  # by rising M
    contrasts: dict[int, Contrast]  # id of a complete cell → cell − largest
    smallest: Cell | None  # the smallest M that is as good as the largest

    @property
    def largest(self) -> Cell:
        return self.cells[-1]


def finding(study: Study, text: str, cells: list[Cell]) -> Finding:
    largest = cells[-1]
    rivals = [cell for cell in cells[:-1] if cell.complete and largest.complete]
    contrasts = {id(cell): study.compare(cell, largest, slices_text(cell), slices_text(largest)) for cell in rivals}
    smallest = None
    for cell in reversed(rivals):  # downwards, until an M is worse
        if worse(study, contrasts[id(cell)]):
            break
        smallest = cell if as_good(study, contrasts[id(cell)]) else smallest
    return Finding(text, cells, contrasts, smallest)


def as_good(study: Study, contrast: Contrast) -> bool:
    """Equivalent to the largest, or decided to be better."""
    better = contrast.estimate is not None and study.sign * contrast.estimate.mean > 0
    return contrast.verdict == st.EQUIVALENT or (contrast.verdict == st.DECIDED and better)


def worse(study: Study, contrast: Contrast) -> bool:
    """Decided to be: by more than what does not matter."""
    lost = contrast.estimate is not None and study.sign * contrast.estimate.mean < 0
    return contrast.verdict == st.DECIDED and lost


def findings(study: Study, arm: Arm) -> list[Finding]:
    return [finding(study, text, cells) for text, cells in lines(arm, SLICES) if len(cells) > 1]


def sweeps_slices(arm: Arm) -> bool:
    return len({str(cell.values[SLICES]) for cell in arm.cells if SLICES in cell.values}) > 1


def slices_text(cell: Cell) -> str:
    return "exact slices" if cell.values[SLICES] == EXACT else f"M = {value_text(cell.values[SLICES])}"


def answer(study: Study, found: Finding, time: Cost) -> str:
    """M for one setting of the other factors, and what it saves; or why it is not decided."""
    where = f"{found.text}: " if found.text else ""
    largest = slices_text(found.largest)
    if not found.largest.complete:
        return f"{where}not decided: {largest} have no result on all seeds ({found.largest.losses or 'no evidence'})."
    if found.smallest is not None:
        return f"{where}{_enough(study, found, found.smallest, time)}."
    lost = [cell for cell in found.cells[:-1] if id(cell) not in found.contrasts]
    names = listing([f"{slices_text(cell)} ({cell.losses or 'no evidence'})" for cell in lost])
    unfit = f"; not on all seeds: {names}" if lost else ""
    if found.contrasts and all(worse(study, contrast) for contrast in found.contrasts.values()):
        nearest = next(c for c in reversed(found.cells[:-1]) if id(c) in found.contrasts)
        cost = _difference(study, found.contrasts[id(nearest)])
        return f"{where}take {largest}: every smaller M is worse, {slices_text(nearest)} by {cost}{unfit}."
    return f"{where}not decided: {_undecided(study, found)}{unfit}."


def _enough(study: Study, found: Finding, cell: Cell, time: Cost) -> str:
    contrast, largest = found.contrasts[id(cell)], slices_text(found.largest)
    relation = "equivalent to" if contrast.verdict == st.EQUIVALENT else "better than"
    head = (
        f"{slices_text(cell)} is {relation} {largest} ({_difference(study, contrast)}) and {_saving(found, cell, time)}"
    )
    open_below = [
        slices_text(other) for other in found.cells[: found.cells.index(cell)]
        if id(other) in found.contrasts and not worse(study, found.contrasts[id(other)])
    ]  # fmt: skip
    return (
        head
        + (f"; whether {listing(open_below)} would do is not decided" if open_below else "")
        + _fastest(study, found, cell, time)
    )


def _saving(found: Finding, cell: Cell, time: Cost) -> str:
    ratio = time.ratio(cell, found.largest)
    a, b = time.estimate(cell), time.estimate(found.largest)
    if ratio is None or a is None or b is None:
        return "what it saves was not recorded"
    spent = f"{three(b.mean)} → {three(a.mean)} {time.unit}"
    share = 100 * (1 - ratio.mean)
    if ratio.low is None or ratio.high is None:
        return f"takes {100 * ratio.mean:.0f} % of the time of its {time.name} ({spent}; one seed)"
    if ratio.high < 1:
        low, high = 100 * (1 - ratio.high), 100 * (1 - ratio.low)
        return f"saves {share:.0f} % [{low:.0f}, {high:.0f}] of the {time.name} ({spent})"
    if ratio.low > 1:
        return f"makes the {time.name} {-share:.0f} % longer ({spent})"
    return f"is not shown to save time ({spent} per {time.name})"


def _fastest(study: Study, found: Finding, cell: Cell, time: Cost) -> str:
    """Fewer slices are not always faster: with small batches the exact limit is cheap."""
    good = [c for c in found.cells if id(c) in found.contrasts and as_good(study, found.contrasts[id(c)])]
    timed = {id(c): estimate.mean for c in [*good, found.largest] if (estimate := time.estimate(c)) is not None}
    if id(cell) not in timed:
        return ""
    first = min((c for c in [*good, found.largest] if id(c) in timed), key=lambda c: timed[id(c)])
    ratio = time.ratio(first, cell)
    if first is cell or ratio is None or ratio.high is None or ratio.high >= 1:
        return ""
    return f"; of all that are as good, {slices_text(first)} take the least time, {three(timed[id(first)])} {time.unit}"


def _undecided(study: Study, found: Finding) -> str:
    largest = slices_text(found.largest)
    open_cells = [c for c in found.cells[:-1] if id(c) in found.contrasts]
    open_cells = [c for c in open_cells if not worse(study, found.contrasts[id(c)])]
    if not open_cells:
        return f"nothing smaller than {largest} has finished on all seeds"
    contrast = found.contrasts[id(open_cells[0])]
    needed = st.pairs_needed(contrast.differences.to_numpy(), study.rope)
    more = f"; about {needed} pairs of seeds would decide it, if mean and spread are what they seem" if needed else ""
    return (
        f"{slices_text(open_cells[0])} differs from {largest} by {_difference(study, contrast)}, neither inside "
        f"±{study.rope:g} nor outside{more}"
    )


def _difference(study: Study, contrast: Contrast) -> str:
    estimate = contrast.estimate
    if estimate is None:
        return "an amount that is not known"
    shown = with_interval(estimate.mean, estimate.low, estimate.high, study.judge, sign=True)
    pairs = "1 pair of seeds" if estimate.n == 1 else f"{estimate.n} pairs of seeds"
    return f"{shown} {difference_unit(study.judge)}".strip() + f", n = {pairs}"


def three(value: float) -> str:
    """Three digits, without a power of ten."""
    return number(float(f"{value:.3g}"))
