"""λ: accuracy over log λ, the plateau, and what a λ ten times off costs."""

from dataclasses import dataclass

from reports import figures
from reports import statistics as st
from reports.content import Block, Prose, Section
from reports.evidence import Arm, Cell, Study, encoder_names
from reports.sections.factor import axis, cell_table, levels, lines, raw_frame, seeds_text, series, y_label
from reports.wording import amount, difference_unit, name_text, number, with_interval

LAMBDA = "method.lamb"
PAPER_DEFAULT = 0.05  # LeJEPA §6.1, at 8 views
PER_VIEW = 0.005  # T7: the best λ grows with the number of views
TEN_TIMES = (7.0, 14.0)  # ratios that count as ten times off on a grid


@dataclass(frozen=True)
class Plateau:
    """Tried λ within one standard error of the best validation mean, without a break."""

    low: float
    high: float
    cells: int


def sections(study: Study) -> list[Section]:
    swept = [arm for arm in study.arms if sweeps_lambda(arm)]
    return [_section(study, arm, number) for number, arm in enumerate(swept)]


def sweeps_lambda(arm: Arm) -> bool:
    return axis(arm) == LAMBDA and len({cell.values[LAMBDA] for cell in arm.cells}) > 1


def plateau(arm: Arm) -> Plateau | None:
    """Along the selected cell's line of the grid, over λ > 0; None where no standard error is known."""
    if arm.selected is None:
        return None
    line = next(cells for _, cells in lines(arm, LAMBDA) if any(cell is arm.selected for cell in cells))
    ladder = [cell for cell in line if cell.complete and cell.values[LAMBDA] > 0]
    best = next((i for i, cell in enumerate(ladder) if cell is arm.selected), None)
    if best is None or len(arm.selected.finished) < 2:
        return None
    means = [arm.sign * float(cell.val.mean()) for cell in ladder]
    first, last = st.plateau(means, st.standard_error(arm.selected.val.to_numpy()), best)
    return Plateau(ladder[first].values[LAMBDA], ladder[last].values[LAMBDA], last - first + 1)


def _section(study: Study, arm: Arm, rank: int) -> Section:
    slug, flat = f"lambda-{rank}", plateau(arm)
    views = study.sweep.configs[arm.cells[0].keys[0]].get("views", {}) if arm.cells[0].keys else {}
    per_view = PER_VIEW * (views.get("global_views", 0) + views.get("local_views", 0))
    marks = [figures.Mark(PAPER_DEFAULT, f"paper {number(PAPER_DEFAULT)}")]
    if per_view and per_view != PAPER_DEFAULT:
        marks.append(figures.Mark(per_view, f"0.005·V = {number(per_view)}"))
    shaded = (
        "The shaded band holds the λ within one standard error of the best validation mean." if flat
        else "No plateau is shaded: one seed has no standard error."
    )  # fmt: skip
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} against λ"
    text = figures.Text(
        slug,
        f"{what} for {name_text(arm.name)}, {seeds_text(arm.cells)}. Dots are seeds, bars 95 % intervals, red crosses "
        f"collapsed or diverged trials; the ringed point was selected on validation. {shaded} λ = 0 stands apart: it "
        "has no logarithm.",
        _alt(study, arm, what, flat), raw_frame(study, arm.cells), wide=True,
    )  # fmt: skip
    chart = figures.curve(
        text, series(study, arm, LAMBDA), "λ, share of SIGReg in the loss (log scale)", y_label(study), log=True,
        levels=levels(study, arm.encoder), marks=marks, band=(flat.low, flat.high) if flat else None,
    )  # fmt: skip
    blocks: list[Block] = [chart]
    if price := ten_times_off(study, arm):
        blocks.append(Prose([price]))
    blocks.append(cell_table(study, arm, slug))
    title = f"λ in {name_text(arm.name)}"
    if len(study.encoders) > 1:
        title += f", {encoder_names(study)[arm.encoder]}"
    return Section(slug, title, blocks)


def ten_times_off(study: Study, arm: Arm) -> str:
    """What the tried λ ten times larger and smaller cost, paired by seed; empty where the grid has neither."""
    chosen = arm.selected
    if chosen is None or not chosen.complete or chosen.values[LAMBDA] <= 0:
        return ""
    rest = {path: value for path, value in chosen.values.items() if path != LAMBDA}
    said = []
    for word, sign in (("large", 1), ("small", -1)):
        near = [
            cell for cell in arm.cells
            if cell.complete and cell.values[LAMBDA] > 0 and rest.items() <= cell.values.items()
            and TEN_TIMES[0] <= (cell.values[LAMBDA] / chosen.values[LAMBDA]) ** sign <= TEN_TIMES[1]
        ]  # fmt: skip
        if near:
            cell = min(near, key=lambda c: abs((c.values[LAMBDA] / chosen.values[LAMBDA]) ** sign - 10))
            said.append(f"about ten times too {word} ({number(cell.values[LAMBDA])}): {_cost(study, cell, chosen)}")
    return f"The price of a wrong λ, against {number(chosen.values[LAMBDA])}: " + "; ".join(said) + "." if said else ""


def _cost(study: Study, cell: Cell, chosen: Cell) -> str:
    estimate = study.compare(cell, chosen, "", "").estimate
    if estimate is None:
        return "not paired"
    shown = with_interval(estimate.mean, estimate.low, estimate.high, study.judge, sign=True)
    return f"{shown} {difference_unit(study.judge)}".strip()


def _alt(study: Study, arm: Arm, what: str, flat: Plateau | None) -> str:
    said = [
        f"λ {number(c.values[LAMBDA])}: {amount(c.judged.mean(), study.judge)}"
        for c in arm.cells[:14]
        if len(c.finished)
    ]
    shaded = f" Shaded from {number(flat.low)} to {number(flat.high)}." if flat else ""
    return f"{what}. " + "; ".join(said) + "." + shaded
