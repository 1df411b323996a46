"""The switch matrix: which heuristics an arm has on, what became of its seeds, what it reaches, and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Heading, Prose, Section, Table, Value, plain
from reports.evidence import Contrast, Study, encoder_names
from reports.sections.design import colour_class
from reports.sections.factor import difference_value, estimate_value, levels, raw_frame, seeds_text, y_label
from reports.sections.gate import Check, failures
from reports.sections.recipes import SWITCHES, Recipe, bare, difference, parent, recipes
from reports.wording import amount, difference_unit, listing, name_text, unit, value_text, with_interval


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
        blocks += [_figure(study, encoder, found, rank), _table(study, found, rank, names[encoder])]
    return [Section("heuristics", "Which heuristics are needed?", blocks)]


# -- the answer -------------------------------------------------------------------------------------------------------


def answer(study: Study, group: Sequence[Recipe]) -> list[str]:
    """What prevents collapse alone, and whether anything helps on top of SIGReg."""
    return [text for text in (_alone_text(study, group), _on_top_text(study, group)) if text]


def _alone_text(study: Study, group: Sequence[Recipe]) -> str:
    start = bare(group)
    single = [recipe for recipe in group if recipe.alone]
    if start is None or not single:
        return ""
    if not start.collapses:
        states = listing([f"{n} {what}" for what, n in _counts(start).items()])
        return f"The bare prediction does not collapse here ({states}), so no heuristic can be said to prevent it."
    enough = [recipe for recipe in single if recipe.trains]
    never = [recipe for recipe in single if recipe.collapses]
    mixed = [recipe for recipe in single if recipe not in enough and recipe not in never]
    parts = []
    if enough:
        weak = _not_above_random(study, enough)
        which = "none of them is" if len(weak) == len(enough) else f"{_switches(weak)} {_verb(weak, 'is', 'are')} not"
        but = f" ({which} shown to beat the random encoder)" if weak else ""
        parts.append(f"{_switches(enough)} alone {_verb(enough, 'keeps', 'keep')} every seed from collapsing{but}")
    if mixed:
        said = [f"{_switches([r])} ({r.cell.count('trained')} of {r.cell.planned} seeds)" for r in mixed]
        parts.append(f"{listing(said)} {_verb(mixed, 'does', 'do')} so for some seeds")
    if never:
        parts.append(f"{_switches(never)} {_verb(never, 'does', 'do')} not")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _switches(group: Sequence[Recipe]) -> str:
    return listing([_switch_text(recipe) for recipe in group])


def _switch_text(recipe: Recipe) -> str:
    """`batch normalisation`, `SIGReg`; the arm's name where two arms have the same switch on differently."""
    switch = recipe.alone
    if switch is None:
        return recipe.name
    if switch == "normalisation":
        return _normalisation(recipe.settings[switch])
    setting = recipe.settings[switch]
    if isinstance(setting, Mapping) and (off := [name for name, value in setting.items() if value == 0]):
        return " + ".join(name_text(name) for name in setting if name not in off) or recipe.name
    return SWITCHES[switch]


def _normalisation(kind: object) -> str:
    return f"{value_text(kind)} normalisation"


def _verb(group: Sequence[object], one: str, many: str) -> str:
    return one if len(group) == 1 else many


def _not_above_random(study: Study, group: Sequence[Recipe]) -> list[Recipe]:
    found = []
    for recipe in group:
        floor = next((f.selected for f in study.floors(recipe.arm.encoder) if f.method == "random"), None)
        gain = None if floor is None else study.compare(recipe.cell, floor, "", "").estimate
        if gain is not None and gain.low is not None and gain.high is not None:
            found += [recipe] if (gain.low if study.sign > 0 else -gain.high) <= 0 else []
    return found


def _on_top_text(study: Study, group: Sequence[Recipe]) -> str:
    """Of the arms made from the one that has SIGReg alone."""
    start = next((recipe for recipe in group if recipe.alone == "sigreg"), None)
    added = [(r, pair) for r in group if start is not None and parent(r, group) is start
             and (pair := difference(study, r, group)) is not None]  # fmt: skip
    if start is None or not added:
        return ""
    sorted_by: dict[str, list[str]] = {}
    for recipe, pair in added:
        sorted_by.setdefault(_effect(study, pair), []).append(_addition(study, recipe, start, pair))
    points = f"±{study.rope:g} {difference_unit(study.judge)}".strip()
    helps = sorted_by.pop("helps", [])
    which = f"{listing(helps)} {_verb(helps, 'helps', 'help')}" if helps else f"none of {len(added)} heuristics helps"
    head = f"On top of {start.name}, {which} by more than the ROPE of {points}"
    order = ("makes no practical difference", "hurts", "is not settled", "has no whole set of seeds")
    rest = [f"{_plural(what, len(sorted_by[what]))}: {listing(sorted_by[what])}" for what in order if what in sorted_by]
    return "; ".join([head, *rest]) + "."


def _plural(what: str, n: int) -> str:
    words = {"makes": "make", "hurts": "hurt", "is": "are", "has": "have"}
    first, _, rest = what.partition(" ")
    return f"{n} {words[first] if n > 1 else first} {rest}".strip()


def _effect(study: Study, pair: Contrast) -> str:
    if pair.estimate is None:
        return "has no whole set of seeds"
    if pair.verdict == st.DECIDED:
        return "helps" if study.sign * pair.estimate.mean > 0 else "hurts"
    return "makes no practical difference" if pair.verdict == st.EQUIVALENT else "is not settled"


def _addition(study: Study, recipe: Recipe, start: Recipe, pair: Contrast) -> str:
    name = recipe.arm.name.removeprefix(f"{start.arm.name}+")
    word = SWITCHES.get(name, name_text(name))
    if name == recipe.settings.get("normalisation"):
        word = _normalisation(name)
    if pair.estimate is None:
        return f"{word} ({recipe.cell.losses or 'no evidence'})"
    return f"{word} ({with_interval(pair.estimate.mean, None, None, study.judge, sign=True)})"


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
    counts = listing([f"{n} {what}" for what, n in _counts(recipe).items()])
    value = f", {amount(recipe.cell.judged.mean(), study.judge)}" if len(recipe.cell.finished) else ""
    return f"{recipe.name} ({on}): {counts}{value}"


def _counts(recipe: Recipe) -> dict[str, int]:
    """Outcome → seeds, the usual ones first."""
    found = recipe.cell.rows["outcome"].value_counts().to_dict()
    order = ["trained", "collapsed", "diverged", *sorted(found)]
    return {what: int(found[what]) for what in dict.fromkeys(order) if what in found}


def _setting_text(name: str, value: Any) -> str:
    if value is True or isinstance(value, Mapping):
        return SWITCHES[name]
    return f"{SWITCHES[name]} {value_text(value)}"


# -- the table --------------------------------------------------------------------------------------------------------


def _table(study: Study, group: Sequence[Recipe], rank: int, encoder_name: str) -> Table:
    used = [name for name in SWITCHES if any(name in recipe.settings for recipe in group)]
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    of = f" ({unit(study.judge)})" if unit(study.judge) else ""
    base = bare(group) or group[0]
    columns = [
        "arm", *(SWITCHES[name] for name in used), "trained", "collapsed", "diverged",
        f"{study.judge_text} [95 % interval]{of}",
        "made from", f"difference to it [95 % interval]{points}", "verdict", "training (s per epoch)",
        f"ratio to {base.name}",
    ]  # fmt: skip
    rows = [list(_row(study, recipe, group, used, base)) for recipe in group]
    caption = (
        f"The switch matrix with {encoder_name}: ✓ a switch that is on, with its setting; outcomes of seeds; the "
        "difference to the arm that the sweep's name says it was made from, paired by seed. Collapsed seeds stay in "
        "their mean. Verdicts are not adjusted for their number."
    )
    return Table(f"heuristics-{rank}", caption, columns, rows, provenance=True)


def _row(study: Study, recipe: Recipe, group: Sequence[Recipe], used: Sequence[str], base: Recipe) -> Iterator[Value]:
    cell, other = recipe.cell, parent(recipe, group)
    pair = difference(study, recipe, group)
    yield Value(recipe.arm.name, recipe.name, cell.keys, colour=colour_class(study, recipe.arm.name), strong=True)
    for name in used:
        yield _tick(recipe.settings.get(name)) if name in recipe.settings else Value(None, "–", tone="muted")
    for what in ("trained", "collapsed", "diverged"):
        keys = tuple(cell.rows.loc[cell.rows["outcome"] == what, "key"])
        tone = "muted" if not keys else "" if what == "trained" else "fail"
        yield Value(len(keys), f"{len(keys)} of {cell.planned}", keys, tone=tone)
    yield estimate_value(cell.estimate, study.judge, cell)
    yield plain(other.arm.name if other else None, other.name if other else "—")
    yield difference_value(pair.estimate if pair else None, study.judge, pair.keys if pair else ())
    yield plain(pair.verdict if pair and pair.estimate else "—")
    yield _cost(recipe.seconds, cell.keys)
    ratio = recipe.seconds / base.seconds if recipe.seconds and base.seconds else None
    yield _cost(ratio, (*cell.keys, *base.cell.keys))


def _tick(value: Any) -> Value:
    if value is True:
        return Value(True, "✓")
    if isinstance(value, Mapping):
        return Value(", ".join(f"{k} {value_text(v)}" for k, v in value.items()), "✓")
    return Value(value, f"✓ {value_text(value)}")


def _cost(value: float | None, keys: tuple[str, ...]) -> Value:
    return Value(None, "—", tone="muted") if value is None else Value(value, f"{value:.3g}", keys)
