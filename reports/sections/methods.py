"""Arms side by side, within one encoder only. An arm stands for its cell that validation selected; test judges it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Heading, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Contrast, Study, encoder_names
from reports.sections import budget, lineup, rates, recipes, robustness, searches, tuning
from reports.sections.design import colour_class
from reports.sections.factor import (
    difference_value,
    estimate_value,
    mean_value,
    raw_frame,
    seeds_text,
    selected_head,
    y_label,
)
from reports.sections.gate import Check, failures
from reports.wording import (
    RELATIONS,
    amount,
    count,
    difference_unit,
    listing,
    name_text,
    relation,
    unit,
    with_interval,
)


@dataclass(frozen=True)
class Line:
    """An arm of the table, with what sets it apart from the reference."""

    arm: Arm
    contrast: Contrast | None  # reference − arm
    p: float | None  # adjusted for all trained arms of the encoder
    refusal: str  # why there is no p


def _luck(study: Study) -> str:
    if study.judge == study.metric:
        return ""
    judge = f"{study.judge_text[0].upper()}{study.judge_text[1:]}"
    return f"{judge}, which selected nothing, judges it, so a winner's luck is not counted twice. "


def sections(study: Study, checks: Sequence[Check] = ()) -> list[Section]:
    """What was given, the arms side by side, how they came there, and whether the answer stands elsewhere."""
    groups = [encoder for encoder in study.encoders if len(study.within(encoder)) > 1]
    compares = any(len(budget.trained_arms(study, encoder)) > 1 for encoder in groups)  # methods, and not encoders only
    told = [e for e in groups if recipes.covers(study, e) or (not compares and lineup.covers(study, e))]
    shown = [encoder for encoder in groups if encoder not in told]
    side_by_side = [_side_by_side(study, shown, failures(checks))] if shown else []
    return [
        *budget.sections(study),
        *side_by_side,
        *tuning.sections(study),
        *rates.sections(study),
        *robustness.sections(study),
    ]


def _side_by_side(study: Study, groups: Sequence[str], failed: list[Check]) -> Section:
    names = encoder_names(study)
    blocks: list[Block] = []
    for rank, encoder in enumerate(groups):
        if len(study.encoders) > 1:
            blocks.append(Heading(f"Encoder {names[encoder]}"))
        reference, lines = study.reference(encoder), _lines(study, encoder)
        if reference is not None and (said := answer(study, reference, lines, failed)):
            blocks.append(Prose([said]))
        blocks += [_figure(study, lines, reference, rank), _table(study, lines, reference, rank, names[encoder])]
    blocks.append(Prose([
        f"An arm with several cells is represented by the best {study.selected_on}. {_luck(study)}Arms are compared "
        "within one encoder only."
    ]))  # fmt: skip
    alone = [arm for arm in study.arms if len(study.within(arm.encoder)) == 1]
    if alone:
        said = ", ".join(f"{name_text(arm.name)} ({names[arm.encoder]})" for arm in alone)
        blocks.append(Prose([f"Alone in their encoder, and therefore compared with nothing: {said}."]))
    return Section("methods", "Arms side by side", blocks)


# -- the comparison ---------------------------------------------------------------------------------------------------


def _lines(study: Study, encoder: str) -> list[Line]:
    """Every arm against the reference; the family of the adjusted p are the trained arms."""
    reference = study.reference(encoder)
    contrasts: dict[str, Contrast] = {}
    for arm in study.within(encoder):
        if reference is not None and arm is not reference and reference.selected and arm.selected:
            pair = study.compare(reference.selected, arm.selected, name_text(reference.name), name_text(arm.name))
            contrasts[arm.name] = pair
    family = {a.name: contrasts[a.name] for a in study.within(encoder) if not a.is_floor and a.name in contrasts}
    tested = {name: pair for name, pair in family.items() if pair.estimate is not None}
    found = st.significance([pair.differences.to_numpy() for pair in tested.values()])
    adjusted = dict(zip(tested, found, strict=True))
    return [
        Line(arm, contrasts.get(arm.name), adjusted[arm.name].adjusted if arm.name in adjusted else None,
             adjusted[arm.name].reason if arm.name in adjusted else "")
        for arm in study.within(encoder)
    ]  # fmt: skip


def answer(study: Study, reference: Arm, lines: Sequence[Line], failed: Sequence[Check] = ()) -> str:
    """One sentence: which trained arms the reference is ahead of, behind, equivalent to, or not told apart from."""
    rivals = [line for line in lines if line.contrast is not None and not line.arm.is_floor]
    if not rivals:
        return ""
    if failed:
        return f"No ranking is claimed: the validity gate fails ({failed[0].name.lower()}). What was measured:"
    groups: dict[str, list[str]] = {}
    for line in rivals:
        assert line.contrast is not None
        groups.setdefault(_relation(study, line.contrast), []).append(_with_difference(study, line.contrast))
    said = [f"{word} {listing(groups[word])}" for word in RELATIONS if word in groups]
    given = [budget.share(study, arm) for arm in budget.trained_arms(study, reference.encoder)]
    return f"{_BUDGETS[budget.judgement(given)]}, {name_text(reference.name)} is {'; '.join(said)}."


_BUDGETS = {
    budget.EQUAL: "Tuned at one budget",
    budget.UNEQUAL: "Tuned at unequal budgets",
    budget.UNTUNED: "As configured, untuned",
}


def _relation(study: Study, contrast: Contrast) -> str:
    lead = None if contrast.estimate is None else study.sign * contrast.estimate.mean
    return relation(contrast.verdict, lead)


def _with_difference(study: Study, contrast: Contrast) -> str:
    if contrast.estimate is None:
        return contrast.b_text
    mean = contrast.estimate.mean
    shown = f"{with_interval(mean, None, None, study.judge, sign=True)} {difference_unit(study.judge)}".rstrip()
    return f"{contrast.b_text} ({shown})"


# -- the figure -------------------------------------------------------------------------------------------------------


def _figure(study: Study, lines: Sequence[Line], reference: Arm | None, rank: int) -> Figure:
    cells = [line.arm.selected for line in lines if line.arm.selected is not None]
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} by arm"
    against = name_text(reference.name) if reference else "?"
    caption = (
        f"{what} (left) and the difference of {against} to it, paired by seed (right), {seeds_text(cells)}. Small dots "
        "are seeds and pairs, bars 95 % intervals (cut at the panel's edge; an arrow gives a mean beyond it), hollow "
        "markers floors; the band is the "
        f"region of practical equivalence, ±{study.rope:g} {difference_unit(study.judge)}".rstrip()
        + "."
    )
    alt = f"{what}. " + "; ".join(_said(study, line) for line in lines)
    text = figures.Text(f"methods-{rank}", caption, alt, raw_frame(study, cells), wide=True)
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    sides = [_side(study, line, reference) for line in lines]
    return figures.versus(text, sides, y_label(study), f"{against} − arm{points}", study.rope)


def _side(study: Study, line: Line, reference: Arm | None) -> figures.Side:
    arm, cell, pair = line.arm, line.arm.selected, line.contrast
    lost = cell.losses if cell else _lost(arm)
    usable = pair is not None and pair.estimate is not None
    return figures.Side(
        arm.name, study.colours[arm.name], cell.judged.tolist() if cell else [], cell.estimate if cell else None,
        [] if cell is None or arm.is_floor else (cell.finished["outcome"] == "collapsed").tolist(), lost,
        pair.estimate if pair else None, pair.differences.tolist() if pair and usable else [], arm.is_floor,
        arm is reference,
    )  # fmt: skip


def _said(study: Study, line: Line) -> str:
    cell, pair = line.arm.selected, line.contrast
    if cell is None or not len(cell.finished):
        return f"{name_text(line.arm.name)}: {_lost(line.arm)}"
    text = f"{name_text(line.arm.name)} {amount(cell.judged.mean(), study.judge)}"
    if pair is None or pair.estimate is None:
        return text
    e = pair.estimate
    return f"{text}, difference {with_interval(e.mean, e.low, e.high, study.judge, sign=True)}"


def _lost(arm: Arm) -> str:
    return ", ".join(dict.fromkeys(cell.losses for cell in arm.cells if cell.losses)) or "no evidence"


# -- the table --------------------------------------------------------------------------------------------------------


def _table(study: Study, lines: Sequence[Line], reference: Arm | None, rank: int, encoder_name: str) -> Table:
    against = name_text(reference.name) if reference else "?"
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    with_cells = any(len(line.arm.cells) > 1 or line.arm.cells[0].values for line in lines)
    with_search = any(len(cell.searched) for line in lines for cell in line.arm.cells)
    columns = [
        "arm", *(["cell selected"] if with_cells else []),
        *([f"best of the search, median of studies{of}"] if with_search else []),
        "n", selected_head(study), f"{study.judge_text} [95 % interval]{of}",
        f"{against} − arm [95 % interval]{points}", f"{against} better, of all pairs", "p (Holm)", "verdict",
    ]  # fmt: skip
    rows = [_row(study, line, reference, with_cells, with_search) for line in lines]
    return Table(f"methods-{rank}", _caption(study, lines, encoder_name, with_search), columns, rows, provenance=True)


def _caption(study: Study, lines: Sequence[Line], encoder_name: str, with_search: bool) -> str:
    family = [line for line in lines if line.contrast and line.contrast.estimate and not line.arm.is_floor]
    refused = list(dict.fromkeys(line.refusal for line in family if line.refusal))
    said = [
        f"Arms with {encoder_name}. Differences are paired by seed; “of all pairs” sets every seed of one "
        "against every seed of the other, ties ½."
    ]
    if family:
        rivals = count(len(family), "trained rival")
        said.append(f"p is of a sign-flip test, adjusted (Holm) for {rivals}; verdicts are not adjusted.")
    if refused:
        said.append(f"Where no p is given: {listing(refused)}.")
    if with_search:
        said.append(f"The best of a search chose itself {study.selected_on}: it flatters, and enters no other column.")
    return " ".join(said)


def _row(study: Study, line: Line, reference: Arm | None, with_cells: bool, with_search: bool) -> list[Value]:
    arm, cell, pair = line.arm, line.arm.selected, line.contrast
    nothing = Value(None, "—", tone="muted")
    keys = cell.keys if cell else ()
    head = [Value(arm.name, name_text(arm.name), keys, colour=colour_class(study, arm.name), strong=True)]
    if with_cells:
        head.append(plain(cell.text if cell else "", (cell.text if cell else "") or "—"))
    if with_search:
        best, found = searches.median_of_studies(study, arm), searches.searched_keys(arm)
        head.append(nothing if best is None else Value(best, amount(best, study.metric), found))
    if cell is None:
        return [*head, plain(0), *[nothing for _ in range(5)], plain(_lost(arm))]
    verdict = pair.verdict if pair and pair.estimate else cell.losses or "—"
    return [
        *head,
        plain(len(cell.finished)),
        replace(mean_value(cell.val, study.metric), keys=keys),
        estimate_value(cell.estimate, study.judge, cell),
        difference_value(pair.estimate if pair else None, study.judge, pair.keys if pair else ()),
        nothing if pair is None or not pair.wins else Value(pair.superiority, pair.wins, pair.keys),
        _p_value(line),
        plain("reference" if arm is reference else verdict),
    ]


def _p_value(line: Line) -> Value:
    if line.p is not None:
        keys = line.contrast.keys if line.contrast else ()
        return Value(line.p, "< 0.001" if line.p < 0.001 else f"{line.p:.3f}", keys)
    return Value(None, "n too small" if line.refusal else "—", tone="muted")
