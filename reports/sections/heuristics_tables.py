"""Heuristics as tables: each with and without, in every method that has it; and every arm with its switches."""

from collections.abc import Iterator, Mapping, Sequence

from reports.content import Table, Value, plain
from reports.evidence import Study
from reports.sections.design import colour_class
from reports.sections.factor import difference_value, estimate_value
from reports.sections.recipes import (
    SWITCHES,
    Heuristic,
    Recipe,
    bare,
    difference,
    heuristic,
    lejepa,
    parent,
    setting_text,
)
from reports.wording import difference_unit, unit, value_text

# -- what a heuristic does --------------------------------------------------------------------------------------------


def effects(study: Study, group: Sequence[Recipe], rank: int) -> Table | None:
    """A row per heuristic and method: with it and without it; None where no arm differs from another in just one."""
    found = [(told, recipe) for recipe in group if (told := heuristic(recipe, group)) is not None]
    if not found:
        return None
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    of = f" ({unit(study.judge)})" if unit(study.judge) else ""
    start = lejepa(group)
    columns = [
        "heuristic", "in", "collapsed without", "collapsed with", f"without [95 % interval]{of}",
        f"with [95 % interval]{of}", f"effect [95 % interval]{points}", "verdict",
        *([f"with it, difference to {start.name} [95 % interval]{points}"] if start else []),
    ]  # fmt: skip
    order = list(dict.fromkeys(told.name for told, _ in found))
    found.sort(key=lambda pair: order.index(pair[0].name))
    rows = [list(_effect_row(study, told, recipe, start)) for told, recipe in found]
    caption = (
        f"What each heuristic does: {study.judge_text} with it and without it, all else equal, paired by seed. “In” is "
        "the arm that it was added to or taken out of. Collapsed seeds stay in their mean; verdicts are not adjusted "
        "for their number."
    )
    return Table(f"heuristics-{rank}-effects", caption, columns, rows, provenance=True)


def _effect_row(study: Study, told: Heuristic, recipe: Recipe, start: Recipe | None) -> Iterator[Value]:
    without, with_it = (told.base, recipe) if told.added else (recipe, told.base)
    pair = study.compare(with_it.cell, without.cell, with_it.name, without.name)
    yield Value(told.name, told.name, pair.keys, strong=True)
    yield Value(told.base.arm.name, told.base.name, colour=colour_class(study, told.base.arm.name))
    for side in (without, with_it):
        yield _collapsed(side)
    for side in (without, with_it):
        yield estimate_value(side.cell.estimate, study.judge, side.cell)
    yield difference_value(pair.estimate, study.judge, pair.keys)
    yield plain(pair.verdict if pair.estimate else "—")
    if start is not None:
        yield _against(study, with_it, start)


def _collapsed(recipe: Recipe) -> Value:
    keys = tuple(recipe.cell.rows.loc[recipe.cell.rows["outcome"] == "collapsed", "key"])
    return Value(len(keys), f"{len(keys)} of {recipe.cell.planned}", keys, tone="fail" if keys else "muted")


# -- the matrix -------------------------------------------------------------------------------------------------------


def matrix(study: Study, group: Sequence[Recipe], rank: int, encoder_name: str) -> Table:
    used = [name for name in SWITCHES if any(name in recipe.settings for recipe in group)]
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    of = f" ({unit(study.judge)})" if unit(study.judge) else ""
    base, start = bare(group) or group[0], lejepa(group)
    columns = [
        "arm", f"{study.judge_text} [95 % interval]{of}",
        "made from", f"difference to it [95 % interval]{points}", "verdict", "trained", "collapsed", "diverged",
        *([f"difference to {start.name} [95 % interval]{points}"] if start else []),
        *(SWITCHES[name] for name in used), "training (s per epoch)", f"ratio to {base.name}",
    ]  # fmt: skip
    rows = [list(_row(study, recipe, group, used, base)) for recipe in group]
    caption = (
        f"The switch matrix with {encoder_name}: what each arm reaches; the difference to the arm that the sweep's "
        "name says it was made from, paired by seed; outcomes of seeds; ✓ a switch that is on, with its setting, or "
        "the part of it that is on. Collapsed seeds stay in their mean. Verdicts are not adjusted for their number."
    )
    return Table(f"heuristics-{rank}", caption, columns, rows, provenance=True)


def _row(study: Study, recipe: Recipe, group: Sequence[Recipe], used: Sequence[str], base: Recipe) -> Iterator[Value]:
    cell, other = recipe.cell, parent(recipe, group)
    pair = difference(study, recipe, group)
    yield Value(recipe.arm.name, recipe.name, cell.keys, colour=colour_class(study, recipe.arm.name), strong=True)
    yield estimate_value(cell.estimate, study.judge, cell)
    yield plain(other.arm.name if other else None, other.name if other else "—")
    yield difference_value(pair.estimate if pair else None, study.judge, pair.keys if pair else ())
    yield plain(pair.verdict if pair and pair.estimate else "—")
    for what in ("trained", "collapsed", "diverged"):
        keys = tuple(cell.rows.loc[cell.rows["outcome"] == what, "key"])
        tone = "muted" if not keys else "" if what == "trained" else "fail"
        yield Value(len(keys), f"{len(keys)} of {cell.planned}", keys, tone=tone)
    if (start := lejepa(group)) is not None:
        yield _against(study, recipe, start)
    for name in used:
        yield _switch(recipe, name, group)
    yield _cost(recipe.seconds, cell.keys)
    ratio = recipe.seconds / base.seconds if recipe.seconds and base.seconds else None
    yield _cost(ratio, (*cell.keys, *base.cell.keys))


def _against(study: Study, recipe: Recipe, start: Recipe) -> Value:
    if recipe is start:
        return Value(None, "—", tone="muted")
    pair = study.compare(recipe.cell, start.cell, recipe.name, start.name)
    return difference_value(pair.estimate, study.judge, pair.keys)


def _switch(recipe: Recipe, name: str, group: Sequence[Recipe]) -> Value:
    if name not in recipe.settings:
        return Value(None, "–", tone="muted")
    value = recipe.settings[name]
    text = setting_text(name, value, group)
    raw = ", ".join(f"{k} {value_text(v)}" for k, v in value.items()) if isinstance(value, Mapping) else value
    return Value(raw, f"✓ {text}".rstrip())


def _cost(value: float | None, keys: tuple[str, ...]) -> Value:
    return Value(None, "—", tone="muted") if value is None else Value(value, f"{value:.3g}", keys)
