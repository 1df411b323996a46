"""What is wrong with a sweep file, said so that it can be mended: place, key, reason, remedy.

`explain` turns pydantic's first error into that one line. `check_design` constructs every config of the design once
and checks what only shows there: values no training takes, cells that are the same, contrasts across encoders.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.ledger import canonical
from harness.source import KeyPath, Places, SpecError, dotted, lay_over, nested, place_of
from harness.space import Space
from harness.spec import Cell, SweepSpec
from harness.trials import TrialSpec, enumerate_trials
from lejepa.config import FLOORS, TrainConfig, nearest

NOT_IN_BASE = {
    "seed": "seeds are listed in the sweep's `seeds`",
    "device": "it follows from `pool.gpus`",
    "threads": "they follow from `pool.cpus`",
}
_DIAGNOSTICS = (
    "std", "std_min", "dead", "rankme", "effective_rank", "condition", "sigreg", "sigreg_share", "collapsed",
    "collapsed_variance", "collapsed_rank", "collapsed_loss",
)  # fmt: skip
_TOLD_BY = {  # by methods about themselves
    "lejepa": ("loss_over_lambda", "slices_variance", "slices_cosine"),
}
_TERMS = {  # of methods whose loss has parts
    "lejepa": ("loss", "pred", "sigreg"),
    "predictive": ("loss", "pred"),
    "vicreg": ("loss", "inv", "std", "cov"),
    "barlow_twins": ("loss", "on", "off"),
    "dino": ("loss", "entropy", "kl", "information", "ln_k_gap"),
}


# -- pydantic's errors in the user's words ----------------------------------------------------------------------------


def explain(error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any], places: Places) -> str:
    """`place: key: what is wrong; what would be right` for the first error of a document."""
    first = error.errors()[0]
    loc = (*first["loc"], *first.get("ctx", {}).get("path", ()))
    written = _written(loc, raw)
    if loc[:1] == ("arms",) and loc[2:3] in (("scientific",), ("nuisance",)) and loc[:3] != written[:3]:
        written = _written(loc[2:], raw)  # the arm inherited it
    path = written or loc[:1]
    return f"{place_of(places, path)}: {dotted(path)}: {_reason(first, model)}"


def _written(loc: Sequence[str | int], raw: Any) -> KeyPath:
    """The part of an error's location that exists in the document: without the tags of unions."""
    path: list[str | int] = []
    for part in loc:
        children = dict(enumerate(raw)) if isinstance(raw, list) else raw
        if isinstance(children, Mapping) and part in children:
            path.append(part)
            raw = children[part]
    return tuple(path)


def _reason(error: ErrorDetails, model: type[BaseModel]) -> str:
    given, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = _known_keys(model, error["loc"])
            return "unknown key" + _hint(str(error["loc"][-1]), known)
        case "missing":
            return f"{error['loc'][-1]} is missing; it has no default"
        case "union_tag_invalid" | "literal_error" | "enum":
            value = context.get("tag", given)
            expected = context.get("expected_tags") or context.get("expected", "")
            return f"{value!r} is not known" + _hint(str(value), re.findall(r"'([^']*)'", expected))
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a mapping of keys, not {given!r}"
        case "string_pattern_mismatch":
            return f"{given!r} is no name: letters, digits, `.`, `_` and `-`, at most 64, a letter or digit first"
        case "value_error" | "design":
            return error["msg"].removeprefix("Value error, ")
        case _:
            return f"{error['msg'][0].lower()}{error['msg'][1:]}, not {given!r}"


def _hint(name: str, known: Sequence[str]) -> str:
    return nearest(name, list(known)) or f"; known are {', '.join(known)}"


def _known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that a place allows, by walking the models along an error's location."""
    models: list[type[BaseModel]] = [model]
    for part in loc[:-1]:
        fields = [m.model_fields[str(part)].annotation for m in models if str(part) in m.model_fields]
        tagged = [m for m in models if getattr(m.model_fields.get("name"), "default", None) == part]
        models = [m for annotation in fields for m in _models_in(annotation)] or tagged or models
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


# -- the design as a whole --------------------------------------------------------------------------------------------


def check_design(spec: SweepSpec, places: Places) -> None:
    """Construct every config of the design. Raises SpecError at the first thing that cannot be trained or compared."""
    _check_bases(spec, places)
    _check_searched(spec, places)
    configs = [(cell, _construct(spec, cell, point, places)) for cell in spec.cells() for point in spec.corners(cell)]
    for cell, config in configs:
        _check_metric(spec, cell, config, places)
    for cell in spec.cells() if spec.search.defaults_first else ():
        _construct(spec, cell, {}, places)
    trials = enumerate_trials(spec, lambda data: "")
    _check_repeats(spec, configs, places)
    _check_contrast(spec, configs, places)
    _check_grace(spec, configs, places)
    _check_budget(spec, trials, places)


def _check_bases(spec: SweepSpec, places: Places) -> None:
    bases: list[tuple[KeyPath, dict[str, Any]]] = [(("base",), spec.base)]
    bases += [(("arms", name, "base"), arm.base) for name, arm in spec.arms.items()]
    for path, base in bases:
        for key in NOT_IN_BASE.keys() & base.keys():
            raise SpecError(f"{place_of(places, (*path, key))}: {dotted((*path, key))}: not here: {NOT_IN_BASE[key]}")


def _check_searched(spec: SweepSpec, places: Places) -> None:
    for cell in spec.cells():
        if spec.arms[cell.arm].nuisance and not spec.searched(cell):
            own: KeyPath = ("arms", cell.arm, "nuisance")
            place = place_of(places, own if own in places else ("nuisance",))
            raise SpecError(f"{place}: nuisance: nothing applies where {dict(cell.values)}; every cell is searched")


def _construct(spec: SweepSpec, cell: Cell, point: Mapping[str, Any], places: Places) -> TrainConfig:
    try:
        return spec.config(cell, spec.seeds[0], point)
    except ValidationError as error:
        raise SpecError(_explain_config(error, spec, cell, point, places)) from None
    except TypeError as error:  # a list or a mapping where the config's own rules look up a word
        place = place_of(places, ("arms", cell.arm) if ("arms", cell.arm) in places else ("base",))
        raise SpecError(f"{place}: base: a value of the wrong type: {error}; see lejepa/config.py") from None


def _explain_config(
    error: ValidationError, spec: SweepSpec, cell: Cell, point: Mapping[str, Any], places: Places
) -> str:
    first = error.errors()[0]
    arm = spec.arms[cell.arm]
    values = {**cell.values, **point}
    raw = lay_over(lay_over(spec.base, arm.base), nested(values))
    loc = _written(first["loc"], raw)
    blamed = None if _fails_alone(spec, cell, first) else _factor_at(loc, values)
    if blamed is None:
        path = _base_place(loc, cell.arm, places)
        return f"{place_of(places, path)}: {dotted(path)}: {_reason(first, TrainConfig)}"
    role = "nuisance" if blamed in point else "scientific"
    space = getattr(arm, role)[blamed]
    value = (space.kind, _position(space, values[blamed])) if first["type"] != "extra_forbidden" else ()
    own: KeyPath = ("arms", cell.arm, role, blamed)
    inherited = own not in places
    place = place_of(places, (*own, *value) if not inherited else (role, blamed, *value))
    named = ("arms" in {path[0] for path in places if path}) and inherited
    hint = f" (arm {cell.arm!r} inherits it; give the arm its own `{role}`)" if named else ""
    return f"{place}: {dotted((role, blamed))}: {_reason(first, TrainConfig)}{hint}"


def _fails_alone(spec: SweepSpec, cell: Cell, first: ErrorDetails) -> bool:
    """Whether the arm's base has the same error without any parameter set."""
    try:
        spec.config(Cell(cell.arm, {}), spec.seeds[0])
    except ValidationError as error:
        alone = error.errors()[0]
        return (alone["loc"], alone["msg"]) == (first["loc"], first["msg"])
    return False


def _factor_at(loc: KeyPath, values: Mapping[str, Any]) -> str | None:
    """The parameter that set what an error is about, or set something inside it."""
    for factor in reversed(list(values)):
        parts = tuple(factor.split("."))
        if parts[: len(loc)] == loc[: len(parts)]:
            return factor
    return None


def _base_place(loc: KeyPath, arm: str, places: Places) -> KeyPath:
    """Where the base says it, or the nearest of its parents; the arm's own base where that says as much."""
    for end in range(len(loc), -1, -1):
        for path in (("arms", arm, "base", *loc[:end]), ("base", *loc[:end])):
            if path in places:
                return path
    return ("arms", arm) if ("arms", arm) in places else ("base",)


def _check_metric(spec: SweepSpec, cell: Cell, config: TrainConfig, places: Places) -> None:
    name, method = spec.metric.name, config.method.name
    known = ["val/linear", "val/knn", "val/online", *(f"val/shot{k}" for k in config.probe.shots)]
    known += [f"diag/{what}" for what in (*_DIAGNOSTICS, *_TOLD_BY.get(method, ()))]
    known += ["diag/lidar"] if config.probe.lidar else []
    if (name.startswith("train/") or spec.metric.alpha is not None) and method in FLOORS:
        return  # a floor has no loss; it is drawn by the labels that judge it
    known += [f"train/{term}" for term in _TERMS.get(method, ("loss",))]
    known += ["loss/lambda^0.4"] if method == "lejepa" else []
    if name not in known and not (method == "lejepa" and spec.metric.alpha is not None):
        path = ("metric", "name")
        message = f"{name!r} is not measured in arm {cell.arm!r}{_hint(name, known)}"
        raise SpecError(f"{place_of(places, path)}: metric.name: {message}")


def _check_repeats(spec: SweepSpec, configs: Sequence[tuple[Cell, TrainConfig]], places: Places) -> None:
    """Refuse the same cell twice in an arm, and an arm that only repeats another; draws of a search may repeat."""
    seen: dict[tuple[str, TrainConfig], Cell] = {}
    arms: dict[str, tuple[Any, set[TrainConfig]]] = {
        name: (arm.nuisance, {config for cell, config in configs if cell.arm == name})
        for name, arm in spec.arms.items()
    }
    firsts = {id(cell): (cell, config) for cell, config in reversed(configs)}  # each cell at one point of its search
    for cell, config in reversed(firsts.values()):
        twin = seen.setdefault((cell.arm, config), cell)
        if twin is not cell:
            factor = [path for path, value in cell.values.items() if repr(value) != repr(twin.values.get(path, value))][
                -1
            ]
            here, there = (_value_path(spec, place, factor, places) for place in (cell, twin))
            values = f"{cell.values[factor]} is the same training as {twin.values[factor]} at {place_of(places, there)}"
            raise SpecError(f"{place_of(places, here)}: {dotted(here[:-2])}: {values}; keep one")
    for name, twin_name in itertools.combinations(spec.arms, 2):
        if arms[name] == arms[twin_name]:
            place, other = (place_of(places, ("arms", arm)) for arm in (twin_name, name))
            raise SpecError(f"{place}: arms.{twin_name}: the same trainings as arm {name!r} at {other}; keep one")


def _value_path(spec: SweepSpec, cell: Cell, factor: str, places: Places) -> KeyPath:
    """Where a cell's value of a scientific parameter was written: in its arm, or in what the arm inherited."""
    space = spec.arms[cell.arm].scientific[factor]
    end = ("scientific", factor, space.kind, _position(space, cell.values[factor]))
    return ("arms", cell.arm, *end) if ("arms", cell.arm, "scientific") in places else end


def _position(space: Space, value: Any) -> int:
    return [repr(known) for known in space.values].index(repr(value))  # as written: 0, 0.0 and false are equal


def _check_contrast(spec: SweepSpec, configs: Sequence[tuple[Cell, TrainConfig]], places: Places) -> None:
    if spec.contrast is None:
        return
    place = place_of(places, ("contrast",))
    for name in spec.contrast:
        if name not in spec.arms:
            raise SpecError(f"{place}: contrast: there is no arm {name!r}{_hint(name, list(spec.arms))}")
    if spec.contrast[0] == spec.contrast[1]:
        raise SpecError(f"{place}: contrast: an arm against itself; name two arms")
    encoders = {canonical(c.encoder.model_dump()): c.encoder.name for cell, c in configs if cell.arm in spec.contrast}
    if len(encoders) > 1:
        shown = ", ".join(dict.fromkeys(encoders.values()))
        raise SpecError(f"{place}: contrast: across encoders ({shown}) nothing about the methods follows; use one")


def _check_grace(spec: SweepSpec, configs: Sequence[tuple[Cell, TrainConfig]], places: Places) -> None:
    if spec.stopping is None:
        return
    shortest = min(config.length for cell, config in configs if spec.arms[cell.arm].nuisance)
    if spec.stopping.grace >= shortest:
        place, grace = place_of(places, ("stopping", "grace")), spec.stopping.grace
        message = f"{grace} epochs of grace and trials of {shortest} epochs: none would be stopped; take less grace"
        raise SpecError(f"{place}: stopping.grace: {message}")


def _check_budget(spec: SweepSpec, trials: Sequence[TrialSpec], places: Places) -> None:
    from harness.plan import price

    if spec.budget is None:
        return
    planned = price(spec, trials)
    for what, limit in (("trials", spec.budget.trials), ("epochs", spec.budget.epochs)):
        most, least = getattr(planned, what), planned.least if what == "epochs" else planned.trials
        if limit is not None and least > limit:
            need = f"at least {least}" if least < most else str(most)
            place = place_of(places, ("budget", what))
            raise SpecError(f"{place}: budget.{what}: the design needs {need}, not {limit}; raise it or plan less")
