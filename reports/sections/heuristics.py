"""Which heuristics are needed: the answer, what each does where it is added or taken out, and the switch matrix."""

from collections.abc import Mapping, Sequence

from reports import figures
from reports.content import Block, Figure, Heading, Prose, Section
from reports.evidence import Study, encoder_names
from reports.sections import heuristics_tables
from reports.sections.factor import levels, raw_frame, seeds_text, y_label
from reports.sections.gate import Check, failures
from reports.sections.heuristics_answer import answer, counts
from reports.sections.recipes import SWITCHES, Recipe, recipes, setting_text
from reports.wording import amount, listing


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
    marks = _marks(group)
    rows = [_switch_row(study, recipe, [_mark(recipe, name, group, marks) for name in used], family)
            for recipe, family in zip(group, _families(group), strict=True)]  # fmt: skip
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} by heuristics switched on"
    caption = (
        f"{what}, {seeds_text(cells)}. Left: filled squares are switches that are on{_letters(marks)}. Right: small "
        "dots are seeds, bars 95 % intervals (cut at the panel's edge), red crosses collapsed seeds; words say what "
        "became of seeds without a value."
    )
    alt = f"{what}. " + "; ".join(_said(study, recipe, group) for recipe in group)
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


def _switch_row(study: Study, recipe: Recipe, marks: Sequence[str | None], family: str) -> figures.SwitchRow:
    cell = recipe.cell
    collapsed = (cell.finished["outcome"] == "collapsed").tolist()
    return figures.SwitchRow(
        recipe.arm.name, marks, cell.judged.tolist(), collapsed, cell.estimate, cell.losses, family,
        study.colours[recipe.arm.name],
    )  # fmt: skip


def _marks(group: Sequence[Recipe]) -> dict[str, dict[str, str]]:
    """Switch → setting → the letter that its square bears: where arms have it otherwise, and of a normalisation."""
    found = {}
    for name in SWITCHES:
        texts = sorted({setting_text(name, r.settings[name], group) for r in group if name in r.settings})
        if len(texts) > 1 or (texts and name == "normalisation"):
            first = [text[:1].upper() for text in texts if text]
            told = len(set(first)) == len(first) and "".join(first).isalpha()
            letters = first if told else [chr(ord("a") + place % 26) for place in range(len(first))]
            found[name] = dict(zip([text for text in texts if text], letters, strict=True))
    return found


def _mark(recipe: Recipe, name: str, group: Sequence[Recipe], marks: Mapping[str, Mapping[str, str]]) -> str | None:
    """What a square says of itself, mostly nothing; None where the switch is off."""
    if name not in recipe.settings:
        return None
    return marks.get(name, {}).get(setting_text(name, recipe.settings[name], group), "")


def _letters(marks: Mapping[str, Mapping[str, str]]) -> str:
    said = [
        f"{SWITCHES[name]} {', '.join(f'{letter}: {text}' for text, letter in letters.items())}"
        for name, letters in marks.items()
    ]
    return f" ({'; '.join(said)})" if said else ""


def _said(study: Study, recipe: Recipe, group: Sequence[Recipe]) -> str:
    on = [f"{SWITCHES[name]} {setting_text(name, value, group)}".rstrip() for name, value in recipe.settings.items()]
    ended = listing([f"{n} {what}" for what, n in counts(recipe).items()])
    value = f", {amount(recipe.cell.judged.mean(), study.judge)}" if len(recipe.cell.finished) else ""
    return f"{recipe.name} ({listing(on) or 'nothing'}): {ended}{value}"
