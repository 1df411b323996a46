"""The switch matrix: which heuristics an arm has on, what became of its seeds, what it reaches, and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Heading, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Contrast, Study, encoder_names
from reports.sections.design import colour_class
from reports.sections.factor import difference_value, estimate_value, levels, raw_frame, seeds_text, y_label
from reports.sections.gate import Check, failures
from reports.wording import amount, difference_unit, listing, name_text, unit, value_text, with_interval

SWITCHES = {
    "ema_teacher": "EMA teacher", "stop_gradient": "stop-gradient", "predictor": "predictor",
    "normalisation": "normalisation", "negatives": "negatives", "variance_covariance": "variance + covariance",
    "sigreg": "SIGReg", "ema_schedule": "momentum schedule", "wd_schedule": "weight-decay schedule",
}  # fmt: skip
_OFF = {"normalisation": "none", "ema_schedule": "constant"}  # others: null or false
_IMPLIES = {"ema_teacher": {"stop_gradient"}, "ema_schedule": {"ema_teacher", "stop_gradient"}}


@dataclass(frozen=True)
class Recipe:
    """An arm of `predictive` with its switches, and the arm that it was made from."""

    arm: Arm
    cell: Cell
    settings: Mapping[str, Any]  # switch → value, of those that are on
    seconds: float | None  # of training, an epoch, mean

    @property
    def name(self) -> str:
        return name_text(self.arm.name)

    @cached_property
    def alone(self) -> str | None:
        """The only switch that is on, not counting what it brings along."""
        own = [name for name in self.settings if not any(name in _IMPLIES.get(o, ()) for o in self.settings)]
        return own[0] if len(own) == 1 else None

    @property
    def collapses(self) -> bool:
        return self.cell.planned > 0 and self.cell.count("collapsed") + self.cell.count("diverged") == self.cell.planned

    @property
    def trains(self) -> bool:
        return 0 < self.cell.planned == self.cell.count("trained")

    @property
    def outcomes(self) -> list[str]:
        """One word a seed, in the order of the seeds."""
        return [str(outcome) for outcome in self.cell.rows["outcome"]]


def covers(study: Study, encoder: str) -> bool:
    """Whether the switch matrix shows an encoder's arms: they are all `predictive`, and more than one."""
    trained = [arm for arm in study.within(encoder) if not arm.is_floor]
    return len(trained) > 1 and all(arm.method == "predictive" for arm in trained)


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


def recipes(study: Study, encoder: str) -> list[Recipe]:
    """The predictive arms of an encoder that have evidence, as the sweep names them."""
    found = []
    for arm in study.within(encoder):
        cell = arm.selected or next((cell for cell in arm.cells if len(cell.rows)), None)
        if arm.method == "predictive" and cell is not None:
            method = study.sweep.configs[cell.keys[0]]["method"]
            settings = {name: value for name, value in (method.get("heuristics") or {}).items() if _is_on(name, value)}
            ordered = {name: settings[name] for name in SWITCHES if name in settings}
            found.append(Recipe(arm, cell, ordered, _seconds(study, cell)))
    return found


def _is_on(name: str, value: Any) -> bool:
    return value is not None and value is not False and value != _OFF.get(name)


def _seconds(study: Study, cell: Cell) -> float | None:
    epochs = study.sweep.epochs_of(cell.keys)
    column = "timing/train_seconds" if "timing/train_seconds" in epochs else "timing/seconds"
    return float(epochs[column].mean()) if column in epochs and epochs[column].notna().any() else None


def parent(recipe: Recipe, group: Sequence[Recipe]) -> Recipe | None:
    """The arm that it was made from: `byol` of `byol-predictor`, `lejepa` of `lejepa+batch`, as the sweep names them;
    the bare arm where one switch is all there is. None where neither says so."""
    by_name = {other.arm.name: other for other in group if other is not recipe}
    for sign in ("+", "-"):
        head, _, tail = recipe.arm.name.rpartition(sign)
        if head and tail and head in by_name:
            return by_name[head]
    return bare(group) if recipe.alone is not None else None


def bare(group: Sequence[Recipe]) -> Recipe | None:
    return next((recipe for recipe in group if not recipe.settings), None)


def difference(study: Study, recipe: Recipe, group: Sequence[Recipe]) -> Contrast | None:
    """Arm − the arm it was made from."""
    other = parent(recipe, group)
    return None if other is None else study.compare(recipe.cell, other.cell, recipe.name, other.name)


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
        but = f" (but {_switches(weak)} {_verb(weak, 'is', 'are')} not above the random encoder)" if weak else ""
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
        return f"{value_text(recipe.settings[switch])} normalisation"
    setting = recipe.settings[switch]
    if isinstance(setting, Mapping) and (off := [name for name, value in setting.items() if value == 0]):
        return " + ".join(name_text(name) for name in setting if name not in off) or recipe.name
    return SWITCHES[switch]


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
        f"{what}, {seeds_text(cells)}. Left: filled squares are switches that are on. Right: small dots are seeds, "
        "bars 95 % intervals, red crosses collapsed seeds; at the edge, what became of seeds without a value."
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
        n = cell.count(what)
        tone = "muted" if not n else "" if what == "trained" else "fail"
        yield Value(n, f"{n} of {cell.planned}", tone=tone)
    yield estimate_value(cell.estimate, study.judge, cell)
    yield plain(other.arm.name if other else None, other.name if other else "—")
    yield difference_value(pair.estimate if pair else None, study.judge, pair.keys if pair else ())
    yield plain(pair.verdict if pair and pair.estimate else "—")
    yield _cost(recipe.seconds, 1.0, "s")
    yield _cost(recipe.seconds, base.seconds, "×")


def _tick(value: Any) -> Value:
    if value is True:
        return Value(True, "✓")
    if isinstance(value, Mapping):
        return Value(", ".join(f"{k} {value_text(v)}" for k, v in value.items()), "✓")
    return Value(value, f"✓ {value_text(value)}")


def _cost(seconds: float | None, base: float | None, unit_text: str) -> Value:
    if seconds is None or not base:
        return Value(None, "—", tone="muted")
    ratio = seconds / base
    return plain(ratio, f"{ratio:.3g}" if unit_text == "s" else f"{ratio:.2f}")
