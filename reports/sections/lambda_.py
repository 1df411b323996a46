"""λ: accuracy over log λ, the plateau, what a λ ten times off costs, and what follows for choosing it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Heading, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Contrast, Study, encoder_names
from reports.sections import lambda_labelfree, lambda_rate
from reports.sections.factor import (
    LAMBDA as LAMBDA,
)
from reports.sections.factor import (
    axis,
    cell_table,
    levels,
    line_of,
    lines,
    raw_frame,
    seeds_text,
    series,
    y_label,
)
from reports.sections.losses import losses
from reports.spoken import spoken
from reports.wording import amount, difference_unit, listing, name_text, number, with_interval

PAPER_DEFAULT = 0.05  # LeJEPA §6.1, at 8 views
PER_VIEW = 0.005  # T7: the best λ grows with the number of views
TEN_TIMES = (7.0, 14.0)  # ratios that count as ten times off on a grid
_WAYS = (("too large", 1), ("too small", -1))


@dataclass(frozen=True)
class Plateau:
    """Tried λ within one standard error of the best validation mean, without a break."""

    low: float
    high: float
    cells: int
    open_below: bool = False  # the smallest λ tried belongs to it: it may go on
    open_above: bool = False

    @property
    def decades(self) -> float:
        return math.log10(self.high / self.low)

    @property
    def edges(self) -> list[str]:
        """The ends of what was tried that belong to it."""
        return [word for word, is_open in (("smallest", self.open_below), ("largest", self.open_above)) if is_open]

    @property
    def width_text(self) -> str:
        return f"{'at least ' if self.open_below or self.open_above else ''}{self.decades:.1f} decades"


def sections(study: Study) -> list[Section]:
    swept = [arm for arm in study.arms if sweeps_lambda(arm)]
    return [_section(study, arm, number) for number, arm in enumerate(swept)]


def sweeps_lambda(arm: Arm) -> bool:
    return axis(arm) == LAMBDA and len({cell.values[LAMBDA] for cell in arm.cells}) > 1


# -- the plateau ------------------------------------------------------------------------------------------------------


def plateau(arm: Arm) -> Plateau | None:
    """Along the selected cell's line of the grid, over λ > 0; None where no standard error is known."""
    return None if arm.selected is None else plateau_of(line_of(arm, LAMBDA, arm.selected), arm.selected, arm.sign)


def plateau_of(line: Sequence[Cell], best: Cell, sign: int) -> Plateau | None:
    """line: cells that differ in λ alone, by rising λ."""
    ladder = [cell for cell in line if cell.complete and cell.values[LAMBDA] > 0]
    place = next((i for i, cell in enumerate(ladder) if cell is best), None)
    if place is None or len(best.finished) < 2 or _lost(best):
        return None
    means = [sign * float(cell.val.mean()) for cell in ladder]
    first, last = st.plateau(means, st.standard_error(best.val.to_numpy()), place)
    return Plateau(
        ladder[first].values[LAMBDA], ladder[last].values[LAMBDA], last - first + 1, first == 0, last == len(ladder) - 1
    )


def _lost(cell: Cell) -> bool:
    """Whether it ranks last, having collapsed where labels do not select."""
    return bool((cell.val == float("-inf")).any())


def best_of(line: Sequence[Cell], sign: int) -> Cell | None:
    """On validation, of the cells that are complete."""
    whole = [cell for cell in line if cell.complete]
    return max(whole, key=lambda cell: sign * cell.val.mean(), default=None)


# -- the section ------------------------------------------------------------------------------------------------------


def _section(study: Study, arm: Arm, rank: int) -> Section:
    slug = f"lambda-{rank}"
    blocks: list[Block] = [Prose([answer(study, arm)]), _curve(study, arm, slug), _plateaus(study, arm, slug)]
    blocks.append(cell_table(study, arm, slug))
    mine = study.evidence[(study.evidence["arm"] == arm.name) & (study.evidence["encoder"] == arm.encoder)]
    if (chart := losses(study, mine, "losses" if rank == 0 else f"losses-{rank}", wide=True)) is not None:
        blocks += [Heading("What λ trades"), chart]
    blocks += lambda_rate.blocks(study, arm, rank)
    blocks += lambda_labelfree.blocks(study, arm, rank)
    title = f"λ in {name_text(arm.name)}"
    if len(study.encoders) > 1:
        title += f", {encoder_names(study)[arm.encoder]}"
    return Section(slug, title, blocks)


def answer(study: Study, arm: Arm) -> str:
    """A λ interval, a default, the price of being ten times wrong: one sentence."""
    chosen, flat = arm.selected, plateau(arm)
    if chosen is None or not chosen.complete:
        return "No answer yet: no λ has finished on all its seeds."
    default = f"λ = {number(chosen.values[LAMBDA])}"
    where = _where(arm)
    if flat is None:
        why = "one seed has no standard error" if len(chosen.finished) < 2 else "λ = 0 was best, where nothing is tuned"
        why = "what collapsed has no rank" if _lost(chosen) else why
        head = f"Take {default}{where}, best {study.selected_on}; how far around it is as good is not known ({why})"
    elif flat.cells == 1:
        beyond = f", the {flat.edges[0]} λ tried: the best may lie beyond" if flat.edges else ""
        head = (
            f"Take {default}{where}{beyond}: no neighbouring λ tried is within one standard error {study.selected_on}"
        )
    else:
        belong = "belongs" if len(flat.edges) == 1 else "belong"
        beyond = f", and maybe beyond, since the {listing(flat.edges)} λ tried {belong} to it" if flat.edges else ""
        head = (
            f"Any λ from {number(flat.low)} to {number(flat.high)} ({flat.width_text}) is as good as the best{where}, "
            f"within one standard error {study.selected_on}{beyond}; take {default}"
        )
    return f"{head}; {_prices(study, arm, chosen)}."


def _prices(study: Study, arm: Arm, chosen: Cell) -> str:
    said, missing, line = [], [], line_of(arm, LAMBDA, chosen)
    for word, sign in _WAYS:
        cell = _ten_times(line, chosen, sign)
        if cell is None:
            missing.append(word.removeprefix("too "))
        else:
            said.append(f"about ten times {word} ({number(cell.values[LAMBDA])}) costs {_cost(study, cell, chosen)}")
    if missing:
        words = {"large": "larger", "small": "smaller"}
        said.append(f"what ten times {' or '.join(words[word] for word in missing)} costs was not tried")
    return "; ".join(said)


def _ten_times(line: Sequence[Cell], chosen: Cell, sign: int) -> Cell | None:
    """The tried λ nearest to ten times larger (sign 1) or smaller, all else equal; None where none is near."""
    if chosen.values[LAMBDA] <= 0:
        return None

    def ratio(cell: Cell) -> float:
        return float((cell.values[LAMBDA] / chosen.values[LAMBDA]) ** sign)

    tried = [cell for cell in line if cell.values[LAMBDA] > 0 and len(cell.rows)]
    near = [cell for cell in tried if TEN_TIMES[0] <= ratio(cell) <= TEN_TIMES[1]]
    return min(near, key=lambda cell: abs(math.log10(ratio(cell)) - 1), default=None)


def _loss(study: Study, cell: Cell, chosen: Cell) -> Contrast:
    """Of the wrong λ, paired by seed; a loss is positive."""
    better, worse = (chosen, cell) if study.sign > 0 else (cell, chosen)
    return study.compare(better, worse, "", "")


def _cost(study: Study, cell: Cell, chosen: Cell) -> str:
    if not cell.complete:
        return f"trainings ({cell.losses})"
    estimate = _loss(study, cell, chosen).estimate
    if estimate is None:
        return "an amount that is not known: the seeds are not paired"
    shown = with_interval(estimate.mean, estimate.low, estimate.high, study.judge)
    return f"{shown} {difference_unit(study.judge)}".strip() + _collapsed(cell)


def _collapsed(cell: Cell) -> str:
    n = cell.count("collapsed")
    return f", and {n} of {cell.planned} collapse" if n else ""


# -- what it shows ----------------------------------------------------------------------------------------------------


def _curve(study: Study, arm: Arm, slug: str) -> Figure:
    flat = plateau(arm)
    shaded = (
        f"The shaded band holds the λ within one standard error of the best {study.selected_on}{_where(arm)}." if flat
        else "No plateau is shaded: one seed has no standard error."
    )  # fmt: skip
    zero = any(cell.values[LAMBDA] == 0 for cell in arm.cells)
    apart = " λ = 0 stands apart: it has no logarithm." if zero else ""
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} against λ"
    text = figures.Text(
        slug,
        f"{what} for {name_text(arm.name)}, {seeds_text(arm.cells)}. Dots are seeds, bars 95 % intervals, red crosses "
        f"collapsed or diverged trials; the ringed point was selected {study.selected_on}. {shaded}{apart}",
        _alt(study, arm, what, flat), raw_frame(study, arm.cells), wide=True,
    )  # fmt: skip
    return figures.curve(
        text, series(study, arm, LAMBDA), "λ, share of SIGReg in the loss (log scale)", y_label(study), log=True,
        levels=levels(study, arm.encoder), marks=_marks(study, arm), band=(flat.low, flat.high) if flat else None,
    )  # fmt: skip


def views_of(study: Study, cell: Cell) -> int:
    """V; 0 where the config does not say."""
    views = study.sweep.configs[cell.everything["key"].iloc[0]].get("views", {})
    return int(views.get("global_views", 0) + views.get("local_views", 0))


def _marks(study: Study, arm: Arm) -> list[figures.Mark]:
    """The paper's default and 0.005·V, once per number of views."""
    marks = [figures.Mark(PAPER_DEFAULT, f"paper {number(PAPER_DEFAULT)}")]
    counts = sorted({views_of(study, cell) for cell in arm.cells} - {0})
    for views in counts[:4]:
        if (at := PER_VIEW * views) != PAPER_DEFAULT:
            which = f" (V = {views})" if len(counts) > 1 else ""
            marks.append(figures.Mark(at, f"0.005·V = {number(at)}{which}"))
    return marks


def _plateaus(study: Study, arm: Arm, slug: str) -> Table:
    """One row per line of the grid: best λ, plateau and its width, both prices."""
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    several = len(lines(arm, LAMBDA)) > 1
    columns = [
        *(["line"] if several else []), "n (seeds)", "best λ tried", "plateau from", "to", "width (decades)", "0.005·V",
        *(f"loss if ten times {word}{points} [95 % interval]" for word, _ in _WAYS),
    ]  # fmt: skip
    rows = [_plateau_row(study, arm, text, cells, several) for text, cells in lines(arm, LAMBDA)]
    caption = (
        f"Plateau over λ in {name_text(arm.name)}, {seeds_text(arm.cells)}: the tried λ within one standard error of "
        f"the best, by the means of {study.selecting_text}; ≥ where it reaches the end of what was tried. Losses are "
        f"paired by seed, on {study.judge_text}."
    )
    return Table(f"{slug}-plateau", caption, columns, rows, provenance=True)


def _plateau_row(study: Study, arm: Arm, text: str, cells: list[Cell], several: bool) -> list[Value]:
    head = [plain(text)] if several else []
    best = best_of(cells, arm.sign)
    if best is None:
        return [*head, plain(0), *[Value(None, "—", tone="muted")] * 7]
    keys = tuple(key for cell in cells if cell.complete for key in cell.keys)
    flat, nothing = plateau_of(cells, best, arm.sign), Value(None, "—", tone="muted")
    span = [nothing] * 3
    if flat:
        more = "≥ " if flat.open_below or flat.open_above else ""
        width = Value(flat.decades, f"{more}{flat.decades:.2f}", keys)
        span = [plain(flat.low, number(flat.low)), plain(flat.high, number(flat.high)), width]
    views = PER_VIEW * views_of(study, best)
    return [
        *head, plain(len(best.finished)), _best_value(cells, best), *span,
        plain(views, number(views)) if views else nothing,
        *(_price_value(study, cells, best, sign) for _, sign in _WAYS),
    ]  # fmt: skip


def _best_value(line: Sequence[Cell], best: Cell) -> Value:
    """With a word where it is an end of what was tried, λ = 0 aside."""
    ladder = [cell.values[LAMBDA] for cell in line if cell.complete and cell.values[LAMBDA] > 0]
    value = best.values[LAMBDA]
    ends = (
        []
        if len(ladder) < 2
        else [word for word, end in (("smallest", ladder[0]), ("largest", ladder[-1])) if end == value]
    )
    return Value(value, number(value) + "".join(f" ({word} tried)" for word in ends), best.keys)


def _price_value(study: Study, line: Sequence[Cell], best: Cell, sign: int) -> Value:
    cell = _ten_times(line, best, sign)
    if cell is None:
        return Value(None, "not tried", tone="muted")
    contrast, at = _loss(study, cell, best), f"at {number(cell.values[LAMBDA])}"
    estimate = contrast.estimate
    if estimate is None:
        return Value(None, f"not known {at}: {cell.losses or 'the seeds are not paired'}", contrast.keys, tone="muted")
    shown = with_interval(estimate.mean, estimate.low, estimate.high, study.judge)
    return Value(estimate.mean, f"{shown} {at}{_collapsed(cell)}", contrast.keys)


def _alt(study: Study, arm: Arm, what: str, flat: Plateau | None) -> str:
    said = [f"{cell.text}: {amount(cell.judged.mean(), study.judge)}" for cell in arm.cells if len(cell.finished)]
    span = "" if flat is None else number(flat.low) + (f" to {number(flat.high)}" if flat.cells > 1 else "")
    return f"{what}. {spoken(said)}." + (f" Shaded{_where(arm)}: λ {span}." if span else "")


def _where(arm: Arm) -> str:
    """The line of the selected cell, where there are several: ` at V = 8`."""
    chosen = arm.selected
    rest = [text for text, cells in lines(arm, LAMBDA) if text and any(cell is chosen for cell in cells)]
    return f" at {rest[0]}" if rest else ""
