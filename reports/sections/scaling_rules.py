"""How the best λ, the best learning rate and the slices needed move with scale, where a sweep varied both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports import interaction, optima
from reports import statistics as st
from reports.content import Table, Value, plain
from reports.evidence import Cell, Study
from reports.optima import Optimum, Rule
from reports.sections.enough_slices import three
from reports.sections.factor import EXACT, LAMBDA, SLICES
from reports.sections.gate_edges import NEAR
from reports.sections.lambda_ import views_of
from reports.sections.lambda_rate import RATE
from reports.sections.scaling_laws import with_bounds
from reports.sections.scaling_lines import DATA, EPOCHS, cells_of, trained
from reports.sections.searches import finished
from reports.wording import cell_text, count, factor_text, listing, name_text, number

_VIEWS = ("views.global_views", "views.local_views")
_NAMES = {"views": "views V", "encoder.width": "encoder width", "encoder.depth": "encoder depth", DATA: "images"}
_SCALES = ("views", "projector.dim", "batch_size", "encoder.width", "encoder.depth", DATA, EPOCHS)
_PAPER = {(LAMBDA, "views"): 1.0}  # exponents: 0.005·V, table T7
_WHAT = {LAMBDA: "best λ", RATE: "best learning rate", SLICES: "slices needed"}


@dataclass(frozen=True)
class Found:
    """A hyperparameter across a scale, in one arm."""

    arm: str
    path: str  # of the hyperparameter
    scale: str  # of _SCALES
    at: str  # the values of other factors
    rule: Rule
    rounds: str  # `3 seeds`
    searched: bool
    keys: dict[float, tuple[str, ...]]  # scale → trials

    @property
    def what(self) -> str:
        return f"{_WHAT[self.path]} against {_NAMES.get(self.scale, factor_text(self.scale))}"


def rules(study: Study) -> list[Found]:
    """Crossed factors first from evidence, then searched ones from search trials; validation decides in both."""
    found = []
    for name in trained(study):
        cells = [cell for cell in cells_of(study, name) if cell.values]
        for path in _WHAT:
            for scale in _SCALES:
                crossed = _crossed(study, name, cells, path, scale)
                searched = None if crossed or path == SLICES else _searched(study, name, cells, path, scale)
                found += [rule for rule in (crossed, searched) if rule is not None]
    return found


def _scale_of(study: Study, cell: Cell, scale: str) -> float | None:
    if scale == "views":
        return float(views_of(study, cell)) or None if any(path in cell.values for path in _VIEWS) else None
    value = cell.values.get(scale)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _groups(
    study: Study, cells: Sequence[Cell], scale: str, path: str | None
) -> tuple[str, dict[float, list[Cell]]] | None:
    """The cells that differ in the scale (and the hyperparameter) alone: of the settings of the rest, the one with the
    most scales, then cells; None where it has too few."""
    aside = {*(_VIEWS if scale == "views" else (scale,)), path}
    groups: dict[str, dict[float, list[Cell]]] = {}
    for cell in cells:
        rest = {name: value for name, value in cell.values.items() if name not in aside}
        if (x := _scale_of(study, cell, scale)) is not None:
            groups.setdefault(cell_text(rest), {}).setdefault(x, []).append(cell)
    at = max(groups, key=lambda at: (len(groups[at]), sum(map(len, groups[at].values()))), default="")
    return (at, groups[at]) if at in groups and len(groups[at]) >= optima.SCALES else None


# -- crossed: evidence ------------------------------------------------------------------------------------------------


def _crossed(study: Study, name: str, cells: Sequence[Cell], path: str, scale: str) -> Found | None:
    if (grouped := _groups(study, [cell for cell in cells if _tried(cell, path)], scale, path)) is None:
        return None
    at, by_scale = grouped
    worths: dict[float, dict[float, list[float]]] = {}
    keys: dict[float, tuple[str, ...]] = {}
    for x, mine in by_scale.items():
        whole = [cell for cell in mine if cell.complete and np.isfinite(cell.val).all()]
        values = {value: list(study.sign * cell.val) for cell in whole if (value := _tried(cell, path))}
        if len(values) >= 3:
            worths[x], keys[x] = values, tuple(key for cell in whole for key in cell.keys)
    if len(worths) < optima.SCALES:
        return None
    find = optima.enough(study.rope) if path == SLICES else optima.peak
    rule = optima.rule(worths, find)
    return Found(name, path, scale, at, rule, count(min(o.seeds for o in rule.optima), "seed"), False, keys)


def _tried(cell: Cell, path: str) -> float | None:
    value = cell.values.get(path)
    if value == EXACT:
        return math.inf
    return float(value) if isinstance(value, int | float) and value > 0 else None


# -- searched: search trials ------------------------------------------------------------------------------------------


def _searched(study: Study, name: str, cells: Sequence[Cell], path: str, scale: str) -> Found | None:
    space = (((study.sweep.spec.get("arms") or {}).get(name) or {}).get("nuisance") or {}).get(path)
    space = space or (study.sweep.spec.get("nuisance") or {}).get(path)
    if not space or (grouped := _groups(study, [c for c in cells if len(c.searched)], scale, None)) is None:
        return None
    at, by_scale = grouped
    tries: list[interaction.Try] = []
    keys: dict[float, tuple[str, ...]] = {}
    for x, mine in by_scale.items():
        for cell in mine:
            rows = finished(study, cell.searched)
            keys[x] = (*keys.get(x, ()), *rows["key"])
            values = [_at(study.sweep.configs[key], path) for key in rows["key"]]
            shown = zip(values, study.sign * rows[study.metric].astype(float), rows["study"], strict=True)
            tries += [interaction.Try(x, float(y), float(v), r) for y, v, r in shown if y and np.isfinite(v)]
    if len({t.x for t in tries if len({o.y for o in tries if o.x == t.x}) > 1}) < optima.SCALES:
        return None
    best, moved = interaction.best_of_each(tries), interaction.slope(tries)
    found = [Optimum(b.x, b.y, b.low, b.high, _at_edge(tries, b.x, space), b.rounds) for b in best]
    edges = listing([f"{optimum.scale:g}" for optimum in found if optimum.edge])
    undecided = f"the best value is at an edge of what was searched, at scale {edges}" if edges else ""
    if moved is None or moved.low is None:
        undecided = undecided or "no interval"
    slope = None
    if moved is not None and not undecided:
        slope = st.Estimate(moved.value, moved.low, moved.high, moved.rounds, moved.how)
    rounds = count(max(b.rounds for b in best), "study").replace("studys", "studies")
    return Found(name, path, scale, at, Rule(found, slope, undecided), rounds, True, keys)


def _at(config: Mapping[str, Any], path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _at_edge(tries: Sequence[interaction.Try], x: float, space: Mapping[str, Sequence[float]]) -> bool:
    """Whether at least half of the studies had their best near an end of what was searched."""
    (bounds,) = space.values()
    low, high = math.log(min(bounds)), math.log(max(bounds))
    mine = [t for t in tries if t.x == x]
    rounds = dict.fromkeys(t.round for t in mine)
    best = [max((t for t in mine if t.round == r), key=lambda t: t.value) for r in rounds]
    places = [(math.log(t.y) - low) / (high - low) for t in best]
    return sum(not NEAR <= place <= 1 - NEAR for place in places) * 2 >= len(places)


# -- in words ---------------------------------------------------------------------------------------------------------


def sentence(found: Found) -> str:
    rule, slope = found.rule, found.rule.slope
    where = f" at {found.at}" if found.at else ""
    head = f"{_capital(found.what)} in {name_text(found.arm)}{where}"
    scales = f"{rule.optima[0].scale:g} to {rule.optima[-1].scale:g}"
    if slope is None or slope.low is None or slope.high is None:
        return f"{head}, {scales}: undecided, {rule.undecided}."
    shown = with_bounds(slope.mean, (slope.low, slope.high))
    paper = _PAPER.get((found.path, found.scale))
    says = "" if paper is None else f"; the paper's 0.005·V is exponent {paper:g}, {_inside(paper, slope)}"
    if slope.low <= 0 <= slope.high:
        return f"{head}, {scales}: not shown to move, exponent {shown} holds 0 (n = {found.rounds}){says}."
    way = "grows" if slope.mean > 0 else "falls"
    return f"{head}, {scales}: {way} with exponent {shown} (n = {found.rounds}){says}."


def _inside(value: float, slope: st.Estimate) -> str:
    return "inside" if (slope.low or 0.0) <= value <= (slope.high or 0.0) else "outside"


def table(study: Study, found: Sequence[Found]) -> Table:
    """One row per rule and scale; the exponent stands in every row of its rule."""
    columns = [
        "arm", "rule", "at", "scale", "n", "best [95 % interval]", "at an edge", "exponent [95 % interval]", "",
    ]  # fmt: skip
    rows = [_row(one, optimum) for one in found for optimum in one.rule.optima]
    caption = (
        f"Best values {study.selected_on} at every scale, and the exponent of best value ∝ scale^exponent. On a grid: "
        "the vertex of the parabola in the logarithm around the best value, in every seed, as a geometric mean with "
        "Student's interval; for slices, on means, the smallest M from which on none is worse than the largest by more "
        f"than {study.rope:g}, with intervals from resampled seeds; in a search, the best of each study. Where an edge "
        "of what was tried is best in any seed or on average, or for slices often in resamples, the exponent is "
        "undecided."
    )
    return Table("scaling-rules", caption, columns, rows, provenance=True)


def _row(found: Found, optimum: Optimum) -> list[Value]:
    rule, keys = found.rule, found.keys.get(optimum.scale, ())
    slope = rule.slope
    exponent = Value(None, "undecided", tone="muted")
    if slope is not None and slope.low is not None and slope.high is not None:
        exponent = Value(slope.mean, with_bounds(slope.mean, (slope.low, slope.high)))
    return [
        Value(found.arm, name_text(found.arm), keys), plain(found.what), plain(found.at),
        plain(optimum.scale, number(optimum.scale)), plain(optimum.seeds), _best(optimum, keys),
        plain("yes" if optimum.edge else ""), exponent, plain(rule.undecided),
    ]  # fmt: skip


def _best(optimum: Optimum, keys: tuple[str, ...]) -> Value:
    if not math.isfinite(optimum.value):
        return Value(None, EXACT, keys)
    if optimum.low is None or optimum.high is None:
        return Value(optimum.value, three(optimum.value), keys)
    low, high = (three(bound) if math.isfinite(bound) else EXACT for bound in (optimum.low, optimum.high))
    return Value(optimum.value, f"{three(optimum.value)} [{low}, {high}]", keys)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
