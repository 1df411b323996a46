"""Which heuristics are needed: the answer, what each does where it is added or taken out, and the switch matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports import figures
from reports.content import Block, Figure, Heading, Prose, Section
from reports.evidence import Study, encoder_names
from reports.sections import heuristics_tables
from reports.sections.factor import levels, raw_frame, seeds_text, y_label
from reports.sections.gate import Check, failures
from reports.sections.heuristics_answer import answer, counts
from reports.sections.recipes import SWITCHES, Recipe, recipes
from reports.wording import amount, listing, name_text, value_text


def sections(study: Study, checks: Sequence[Check] = ()) -> list[Section]:
    groups = [(encoder, found) for encoder in study.encoders if len(found := recipes(study, encoder)) > 1]
    if not groups:
        return []
    names = encoder_names(study)
    failed = failures(checks)
    blocks: list[Block] = []
    if failed:
        why = failed[0].name.lower()
        blocks.append(Prose([f"The validity gate fails ({why}): this section describes trials and decides nothing."]))
    for rank, (encoder, found) in enumerate(groups):
        if len(groups) > 1:
            blocks.append(Heading(f"Encoder {names[encoder]}"))
        if said := answer(study, found):
            blocks.append(Prose(said))
        if (effects := heuristics_tables.effects(study, found, rank)) is not None:
            blocks.append(effects)
        blocks += [_figure(study, encoder, found, rank), heuristics_tables.matrix(study, found, rank, names[encoder])]
    return [Section("heuristics", "Which heuristics are needed?", blocks)]


# -- the figure -------------------------------------------------------------------------------------------------------


def _figure(study: Study, encoder: str, group: Sequence[Recipe], rank: int) -> Figure:
    used = [name for name in SWITCHES if any(name in recipe.settings for recipe in group)]
    cells = [recipe.cell for recipe in group]
    rows = [_switch_row(study, recipe, used, family) for recipe, family in zip(group, _families(group), strict=True)]
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} by heuristics switched on"
    caption = (
        f"{what}, {seeds_text(cells)}. Left: filled squares are switches that are on{_letters(group)}. Right: small "
        "dots are seeds, bars 95 % intervals (cut at the panel's edge), red crosses collapsed seeds; words say what "
        "became of seeds without a value."
    )
    alt = f"{what}. " + "; ".join(_said(study, recipe) for recipe in group)
    text = figures.Text(f"heuristics-{rank}", caption, alt, raw_frame(study, cells), wide=True)
    return figures.switches(text, [SWITCHES[name] for name in used], rows, y_label(study), levels(study, encoder))


def _families(group: Sequence[Recipe]) -> list[str]:
    """The name of the arm each goes back to, so that a rule can be drawn between families."""
    found = []
    for recipe in group:
        head = recipe.arm.name
        for sign in ("+", "-"):
            head = head.partition(sign)[0] or head
        found.append(head)
    return found


def _switch_row(study: Study, recipe: Recipe, used: Sequence[str], family: str) -> figures.SwitchRow:
    cell = recipe.cell
    marks = [_mark(name, recipe.settings[name]) if name in recipe.settings else None for name in used]
    collapsed = (cell.finished["outcome"] == "collapsed").tolist()
    return figures.SwitchRow(
        recipe.arm.name, marks, cell.judged.tolist(), collapsed, cell.estimate, cell.losses, family,
        study.colours[recipe.arm.name],
    )  # fmt: skip


def _mark(name: str, value: Any) -> str:
    """What a filled square says of itself: the normalisation's first letter, else nothing."""
    return str(value)[:1].upper() if name == "normalisation" else ""


def _letters(group: Sequence[Recipe]) -> str:
    used = sorted({str(recipe.settings["normalisation"]) for recipe in group if "normalisation" in recipe.settings})
    said = [f"{_mark('normalisation', name)}: {name_text(name)}" for name in used]
    return f" ({', '.join(said)})" if said else ""


def _said(study: Study, recipe: Recipe) -> str:
    on = listing([_setting_text(name, value) for name, value in recipe.settings.items()]) or "nothing"
    ended = listing([f"{n} {what}" for what, n in counts(recipe).items()])
    value = f", {amount(recipe.cell.judged.mean(), study.judge)}" if len(recipe.cell.finished) else ""
    return f"{recipe.name} ({on}): {ended}{value}"


def _setting_text(name: str, value: Any) -> str:
    if value is True or isinstance(value, Mapping):
        return SWITCHES[name]
    return f"{SWITCHES[name]} {value_text(value)}"
