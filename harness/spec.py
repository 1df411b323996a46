"""The sweep file: a question and the design that answers it, as one frozen SweepSpec.

`load_sweep` is the whole way: file → profile over it → `--set` over that → SweepSpec → every cell's TrainConfig
constructed once. What is wrong anywhere on it is a SpecError with place, key, reason and remedy. Nothing here
imports torch, Ray or MLflow.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from harness.source import Places, SpecError, dotted, lay_over, nested, place_of, read, write
from harness.space import KINDS, Space, crossed
from lejepa.config import FLOORS, DataConfig, TrainConfig, nearest

__all__ = ["Arm", "Cell", "SpecError", "SweepSpec", "load_sweep", "load_training"]

_SHIPPED = Path(__file__).resolve().parent.parent / "sweeps"  # installed beside this package
STUDY_SEEDS = 1_000_000  # study i of a search trains with seed 1,000,000 + i: never a seed of the evidence

_MOST = 100_000  # cells of an arm, trials of a search, seeds: more is a slip of the keyboard

# What may not be a parameter, and where it belongs.
NOT_A_FACTOR = {
    "seed": "seeds are listed in `seeds`",
    "method.name": "methods are compared as `arms`",
    "device": "where a trial runs follows from `pool.gpus`",
    "threads": "threads follow from `pool.cpus`",
    "data.root": "it is where the data lie, not what they are",
    "data.decode": "it is how images are read, not what they are",
    "data.workers": "it is how images are read, not what they are",
    "data.download": "it is where the data come from, not what they are",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _list_seeds(raw: Any) -> Any:
    if isinstance(raw, bool) or not isinstance(raw, int | list | tuple):
        raise ValueError(f"seeds are a count or a list of whole numbers, not {raw!r}; write 3 or [0, 1, 2]")
    if isinstance(raw, int):
        if raw < 1:
            raise ValueError(f"{raw} seeds make zero trials; take 1 or more")
        if raw > _MOST:
            raise ValueError(f"{raw} seeds are more than any sweep runs; take at most {_MOST}")
        return list(range(raw))
    if not raw:
        raise ValueError("an empty list makes zero trials; give at least one seed")
    for seed in raw:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < STUDY_SEEDS:
            raise ValueError(f"{seed!r} is no seed; seeds are whole numbers from 0 to {STUDY_SEEDS - 1}")
        if list(raw).count(seed) > 1:
            raise ValueError(f"seed {seed} is listed twice; every seed once")
    return list(raw)


_SEEDS = (0, 1, 2)
Seeds = Annotated[tuple[int, ...], BeforeValidator(_list_seeds)]  # n means 0..n-1
Factors = dict[str, Space]  # dotted path into the TrainConfig → space
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _printable(raw: Any) -> Any:
    if isinstance(raw, str) and not (0 < len(raw) <= 64 and raw.isprintable()):
        raise ValueError(f"{raw[:64]!r} is no name for an arm; take 1 to 64 printable characters")
    return raw


ArmName = Annotated[str, BeforeValidator(_printable)]


class Arm(_Part):
    """One method under comparison. After loading, `scientific` and `nuisance` are always the arm's own."""

    base: dict[str, Any] = {}  # deep-merged over the sweep's base
    scientific: Factors = {}  # given: instead of the sweep's
    nuisance: Factors = {}  # given: instead of the sweep's


class Search(_Part):
    """How the nuisance parameters of every cell are searched: the same budget in each."""

    sampler: Literal["grid", "random", "qmc", "tpe"] = "qmc"  # tpe is asked while running, the others are listed before
    trials: int | None = Field(None, ge=1, le=_MOST)  # per study; 16, and for `grid` all combinations
    studies: int = Field(1, ge=1, le=_MOST)  # independent repetitions of the search, per cell
    defaults_first: bool = False  # the first trial of every study takes each parameter as the file's base has it

    @model_validator(mode="before")
    @classmethod
    def _count(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("trials") is None and raw.get("sampler") != "grid":
            return {**raw, "trials": 16}
        return raw

    @model_validator(mode="after")
    def _grid_counts_itself(self) -> Self:
        if self.sampler == "grid" and self.trials is not None:
            raise ValueError("sampler grid runs all combinations; leave `trials` out")
        if self.sampler == "grid" and self.studies > 1:
            raise ValueError("sampler grid repeated is the same grid; leave `studies` at 1")
        if self.sampler == "grid" and self.defaults_first:
            raise ValueError("sampler grid runs all combinations and no other; leave `defaults_first` out")
        return self


class Stopping(_Part):
    """Early stopping of search trials. Trials that are evidence always run to their end."""

    name: Literal["asha"] = "asha"
    scope: Literal["cell", "arm", "sweep"] = "cell"  # who competes with whom
    grace: int = Field(1, ge=1)  # epochs of the first rung: no trial is stopped before it
    reduction: int = Field(3, ge=2)  # of so many trials that reach a rung one goes on; rungs lie so many times apart


class Confirm(_Part):
    """The best `top` configs of every searched cell, trained again with fresh seeds: they are the evidence."""

    top: int = Field(1, ge=1)  # configs per cell
    seeds: Seeds = _SEEDS  # the same in every cell, so that cells pair; left out: the sweep's


class Budget(_Part):
    """Limits of the whole sweep; everything counts, also what was pruned, failed, diverged or repeated."""

    trials: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool(_Part):
    """What one trial gets, and how many run at once."""

    cpus: int = Field(1, ge=1)  # cores per trial; torch's threads are pinned to them
    gpus: float = Field(0.0, ge=0)  # GPUs per trial; a fraction shares one
    # processes per trial, which share its batches and its cores; a GPU each, where there are GPUs
    ranks: int = Field(default_factory=lambda pool: max(1, int(pool.get("gpus", 0))), ge=1)
    max_concurrent: int = Field(default_factory=lambda pool: max(1, _cores() // pool.get("cpus", 1)), ge=1)

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is a fraction of one or a whole number, not {self.gpus}")
        if self.gpus and self.ranks != max(1, int(self.gpus)):
            raise ValueError(f"{self.ranks} ranks on {self.gpus:g} GPUs: every rank has a GPU of its own")
        if self.ranks > self.cpus:
            raise ValueError(f"{self.ranks} ranks need a core each, and cpus is {self.cpus}")
        return self


class Metric(_Part):
    """What cells are selected by. Never a test metric: test is read once, after selection."""

    name: str = "val/linear"
    mode: Literal["max", "min"] = "max"

    @model_validator(mode="after")
    def _not_test(self) -> Self:
        if self.name.startswith("test/"):
            raise ValueError(f"{self.name} would select on test; select on val/{self.name.removeprefix('test/')}")
        return self


@dataclass(frozen=True)
class Cell:
    """One combination of an arm's scientific values."""

    arm: str
    values: Mapping[str, Any] = field(hash=False)  # dotted path → value, as written


class SweepSpec(_Part):
    """A sweep as resolved: what `sweep.yaml` in its folder holds."""

    name: Word  # of the folder under runs/
    question: str = ""  # what the report answers
    base: dict[str, Any] = {}  # a TrainConfig by its parts; defaults in lejepa/config.py
    scientific: Factors = {}  # crossed; each combination is a cell
    nuisance: Factors = {}  # searched within every cell, never compared
    arms: dict[ArmName, Arm]  # methods side by side; none given: one, named after base.method.name
    seeds: Seeds = _SEEDS  # of the arms without nuisance, and of the floors
    search: Search = Search(trials=16)
    stopping: Stopping | None = None
    confirm: Confirm | None = None  # left out of a sweep that searches: top 1; null: no evidence, only a search
    budget: Budget | None = None
    pool: Pool = Field(default_factory=Pool)
    metric: Metric = Metric()
    rope: float = Field(1.0, ge=0)  # differences up to this are practically none, in the metric's unit
    contrast: tuple[str, str] | None = None  # the two arms whose difference is the primary result
    profile: str | None = None  # which profile was laid over the file

    @model_validator(mode="before")
    @classmethod
    def _resolve_arms(cls, raw: Any) -> Any:
        """Write out what arms inherit, and name the only arm where none is given."""
        if not isinstance(raw, dict):
            return raw
        # null takes back what a profile lies over; of `confirm` it is an answer of its own
        raw = {key: value for key, value in raw.items() if value is not None or key == "confirm"}
        if not isinstance(raw.get("base", {}), Mapping):
            return raw
        base = raw.get("base", {})
        arms = raw.get("arms") or {_method_name(base): {}}
        if not isinstance(arms, Mapping) or not all(isinstance(arm or {}, Mapping) for arm in arms.values()):
            return raw
        arms = {name: _inherit(dict(arm or {}), raw) for name, arm in arms.items()}
        return {**raw, "arms": arms} | _default_confirm(raw, any(arm["nuisance"] for arm in arms.values()))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, arm in self.arms.items():
            _check_factors(("arms", name), arm)
            _check_floor(("arms", name), arm, _method_name(lay_over(self.base, arm.base)))
        searching = {name: arm for name, arm in self.arms.items() if arm.nuisance}
        if searching:
            _check_sampler(self.search, searching)
            _check_confirm(self.confirm, self.search, searching)
            _check_stopping(self.stopping, searching)
        else:
            self._check_nothing_searches()
        for key in ("scientific", "nuisance"):
            mine = getattr(self, key)
            if mine and all(getattr(arm, key) != mine for arm in self.arms.values()):
                raise _wrong((key,), "no arm uses it: floors ignore it, each other arm gives its own; drop it")
        return self

    def _check_nothing_searches(self) -> None:
        given = {
            "search": self.search != Search(trials=16),
            "stopping": self.stopping is not None,
            "confirm": self.confirm is not None,
        }
        for key in (key for key, is_given in given.items() if is_given):
            raise _wrong((key,), f"no arm has `nuisance`, so nothing is searched; add it or drop `{key}`")

    # -- from spec to configs -----------------------------------------------------------------------------------------

    def cells(self) -> list[Cell]:
        """All cells, arm after arm, the last scientific parameter varying fastest."""
        return [Cell(name, values) for name, arm in self.arms.items() for values in crossed(arm.scientific)]

    def corners(self, cell: Cell) -> list[dict[str, Any]]:
        """Points of the cell's nuisance space that see each end of each parameter; [{}] where nothing is searched."""
        nuisance = self.arms[cell.arm].nuisance
        first = {path: space.corners[0] for path, space in nuisance.items()}
        return [first] + [{**first, path: value} for path, space in nuisance.items() for value in space.corners[1:]]

    def config(self, cell: Cell, seed: int, point: Mapping[str, Any] | None = None) -> TrainConfig:
        """The TrainConfig of a cell at a point of its nuisance space. ValidationError where it contradicts itself."""
        base = lay_over(self.base, self.arms[cell.arm].base)
        return train_config({**lay_over(base, nested({**cell.values, **(point or {})})), "seed": seed})

    def to_yaml(self) -> str:
        return write(self.model_dump(mode="json"))


def train_config(raw: Mapping[str, Any]) -> TrainConfig:
    """A TrainConfig by its parts, where `method` may leave out the name of the default method."""
    method = raw.get("method")
    named = {"method": {"name": _method_name(raw), **method}} if isinstance(method, Mapping) else {}
    return TrainConfig.model_validate({**raw, **named})


def _method_name(base: Mapping[str, Any]) -> str:
    """The method's name; the default's also where what is written is no name, which the config refuses later."""
    method = base.get("method")
    name = method.get("name") if isinstance(method, Mapping) else None
    return name if isinstance(name, str) else "lejepa"


def _inherit(arm: dict[str, Any], sweep: Mapping[str, Any]) -> dict[str, Any]:
    own = arm.get("base")
    floor = _method_name(lay_over(sweep.get("base", {}), own if isinstance(own, Mapping) else {})) in FLOORS
    return {**{key: {} if floor else sweep.get(key, {}) for key in ("scientific", "nuisance")}, **arm}


def _default_confirm(sweep: Mapping[str, Any], searching: bool) -> dict[str, Any]:
    """Without `confirm` a search has no evidence, so it has to be declined in words; its seeds are the sweep's."""
    given = sweep.get("confirm", {} if searching else None)
    return {"confirm": {"seeds": sweep.get("seeds", _SEEDS), **given}} if isinstance(given, Mapping) else {}


def _wrong(path: tuple[str, ...], message: str) -> PydanticCustomError:
    """An error of the whole sweep that knows which key is to blame."""
    return PydanticCustomError("design", "{message}", {"message": message, "path": path})


def _check_factors(arm_path: tuple[str, ...], arm: Arm) -> None:
    if (cells := math.prod(len(space.values) for space in arm.scientific.values())) > _MOST:
        raise _wrong((*arm_path, "scientific"), f"makes {cells:,} cells; at most {_MOST:,} can be listed")
    roles = [(role, path) for role in ("scientific", "nuisance") for path in getattr(arm, role)]
    for role, path in roles:
        where = (*arm_path, role, path)
        if path in NOT_A_FACTOR:
            raise _wrong(where, f"cannot be a parameter: {NOT_A_FACTOR[path]}")
        if not all(path.split(".")):
            raise _wrong(where, "is no dotted path into the config; write method.lamb")
        for other_role, other in roles:
            if other.startswith(f"{path}.") or (path == other and role != other_role):
                raise _wrong(where, f"{other_role} {other} sets the same thing; keep one")
        if role == "nuisance" and path == "epochs":
            raise _wrong(where, "a search over epochs breaks its equal budget; make it scientific")
        if role == "scientific" and not arm.scientific[path].finite:
            raise _wrong(where, "a scientific parameter is compared value by value; write {grid: […]}")


def _check_floor(arm_path: tuple[str, ...], arm: Arm, method: str) -> None:
    varied = [*arm.scientific, *arm.nuisance]
    if method not in FLOORS or not varied:
        return
    if method == "random" and not arm.nuisance and all(path.startswith("encoder.") for path in varied):
        return  # an encoder at its initialisation can be any encoder
    message = "a floor trains nothing, so nothing in it can vary but the encoder of `random`; drop its parameters"
    raise _wrong(arm_path, message)


def _check_sampler(search: Search, searching: Mapping[str, Arm]) -> None:
    for name, arm in searching.items():
        for path, space in arm.nuisance.items():
            where = ("arms", name, "nuisance", path)
            if search.sampler == "grid" and not space.finite:
                raise _wrong(where, f"sampler grid cannot list all of a {space.kind}; make it a grid, or take qmc")
            if any(isinstance(value, list | tuple) for value in space.values):
                raise _wrong(where, "holds lists, which no sampler takes; make it scientific")


def _check_confirm(confirm: Confirm | None, search: Search, searching: Mapping[str, Arm]) -> None:
    for name, arm in searching.items() if confirm else ():
        found = (search.trials or len(crossed(arm.nuisance))) * search.studies
        if confirm and found < confirm.top:
            raise _wrong(("confirm",), f"top is {confirm.top}, and a cell of {name} has only {found} search trials")


def _check_stopping(stopping: Stopping | None, searching: Mapping[str, Arm]) -> None:
    if stopping is None or stopping.scope == "cell":
        return
    cells = max(len(crossed(arm.scientific)) for arm in searching.values())
    if cells > 1 or (stopping.scope == "sweep" and len(searching) > 1):
        message = f"scope {stopping.scope} would stop whole cells that the report compares; take scope cell"
        raise _wrong(("stopping",), message)


# -- loading ----------------------------------------------------------------------------------------------------------


def load_sweep(path: str | os.PathLike[str], profile: str | None = None, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file, lay a profile and `a.b=c` overrides over it, and check all of it.

    `path` is a file, or the name of a sweep that is shipped (`quickstart`, `sweeps/quickstart.yaml`).
    Raises SpecError.
    """
    from harness.check import check_design, explain

    raw, places = _read_extended(path)
    raw, places = _with_profile(raw, places, profile)
    for override in overrides:
        raw, places = _with_override(raw, places, override)
    try:
        spec = SweepSpec.model_validate(_with_data_roots(raw))
    except ValidationError as error:
        raise SpecError(explain(error, SweepSpec, raw, places)) from None
    check_design(spec, places)
    return spec


def _with_data_roots(raw: dict[str, Any]) -> dict[str, Any]:
    """Data sets with the folder in which they lie now, so that a resume finds them from anywhere."""
    arms = raw.get("arms")
    if isinstance(arms, Mapping):
        arms = {name: _rooted(arm) if isinstance(arm, Mapping) else arm for name, arm in arms.items()}
    return _rooted(raw) | ({"arms": arms} if "arms" in raw else {})


def _rooted(part: Mapping[str, Any]) -> dict[str, Any]:
    base = part.get("base")
    data = base.get("data") if isinstance(base, Mapping) else None
    if not (isinstance(base, Mapping) and isinstance(data, Mapping) and isinstance(data.get("name"), str)):
        return dict(part)
    try:
        root = DataConfig.model_validate(data).root
    except ValidationError:
        return dict(part)  # refused in a moment, with its place
    return {**part, "base": {**base, "data": {**data, **({"root": str(root)} if root else {})}}}


def load_training(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """One TrainConfig from a file of its parts and `a.b=c` overrides, for a training without a sweep. SpecError."""
    from harness.check import explain

    raw, places = ({}, {}) if path is None else _read_mapping(path)
    for override in overrides:
        raw, places = _with_override(raw, places, override)
    try:
        return train_config(raw)
    except ValidationError as error:
        raise SpecError(explain(error, TrainConfig, raw, places)) from None


def _read_mapping(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Places]:
    name = os.fspath(path)
    raw, places = read(_text(name), name)
    if not isinstance(raw, dict):
        raise SpecError(f"{name}:1: the document: must be a mapping of keys; see docs/sweeps.md")
    return raw, places


def _read_extended(path: str | os.PathLike[str], seen: tuple[str, ...] = ()) -> tuple[dict[str, Any], Places]:
    """A sweep file laid over the one that its `extends` names: a file beside it, or a shipped sweep."""
    raw, places = _read_mapping(path)
    if "extends" not in raw:
        return raw, places
    where, other = f"{place_of(places, ('extends',))}: extends", raw.pop("extends")
    if not isinstance(other, str) or not other:
        raise SpecError(f"{where}: names one sweep file or shipped sweep, not {other!r}; write `extends: lambda`")
    if "name" not in raw:
        raise SpecError(f"{where}: a sweep that extends another needs a `name` of its own")
    beside = Path(path).parent / other
    name, before = str(beside) if beside.is_file() else other, (*seen, os.fspath(path))
    if any(_same_file(name, earlier) for earlier in before):
        raise SpecError(f"{where}: goes round in a circle: {' → '.join((*before, name))}")
    try:
        under, below = _read_extended(name, before)
    except SpecError as error:
        if Path(name).is_file():
            raise
        raise SpecError(f"{where}: {error}") from None
    return lay_over(under, raw), {**below, **places}


def _same_file(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _text(name: str) -> str:
    file, shipped = (
        Path(name),
        {path.stem: path for path in sorted(_SHIPPED.glob("*.yaml")) if path.stem != "published"},
    )
    wanted = name.removeprefix("sweeps/").removesuffix(".yaml")
    try:
        if file.is_dir():
            raise SpecError(f"{name}: is a folder; name the sweep file in it")
        if not file.is_file() and wanted not in shipped:
            hint = nearest(wanted, list(shipped)) or f"; shipped are {', '.join(shipped)}"
            raise SpecError(f"{name}: there is no such file{hint}")
        return (file if file.is_file() else shipped[wanted]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
        raise SpecError(f"{name}: cannot be read: {error}") from None


def _with_profile(raw: dict[str, Any], places: Places, profile: str | None) -> tuple[dict[str, Any], Places]:
    if "profiles" not in raw:
        if profile is not None:
            raise SpecError(f"{place_of(places, ())}: profiles: there is no profile {profile!r}, the file has none")
        return raw, places
    profiles, where = raw["profiles"], place_of(places, ("profiles",))
    if not isinstance(profiles, dict) or not all(isinstance(value, dict) for value in profiles.values()):
        raise SpecError(f"{where}: profiles: each profile is a mapping of sweep keys; write `gpu: {{base: {{…}}}}`")
    if "profile" in raw:
        raise SpecError(f"{place_of(places, ('profile',))}: profile: choose one with --profile, not in the file")
    rest = {key: value for key, value in raw.items() if key != "profiles"}
    if profile is None:
        return rest, places
    if profile not in profiles:
        hint = nearest(profile, list(profiles)) or f"; there are {', '.join(profiles)}"
        raise SpecError(f"{where}: profiles: there is no profile {profile!r}{hint}")
    moved = {path[2:]: place for path, place in places.items() if path[:2] == ("profiles", profile) and len(path) > 2}
    return {**lay_over(rest, profiles[profile]), "profile": profile}, {**places, **moved}


def _with_override(raw: dict[str, Any], places: Places, override: str) -> tuple[dict[str, Any], Places]:
    place = f"--set {override}"
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise SpecError(f"{place}: an override is a dotted key, `=` and a value; write --set base.epochs=5")
    if key.split(".")[0] in ("profile", "profiles"):
        raise SpecError(f"{place}: {key}: a profile is chosen with --profile")
    path = _override_path(key, raw)
    value, inner = read(text, place)
    tree: Any = value
    for part in reversed(path):
        tree = {part: tree}
    # a list laid over a longer one leaves no places of the old one behind
    kept = {at: where for at, where in places.items() if at[: len(path)] != path}
    return lay_over(raw, tree), {**kept, **{(*path, *at): place for at in inner}, path: place}


def _override_path(key: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """`scientific.method.lamb.grid` → (scientific, method.lamb, grid): the dots of parameters and arms do not split."""
    parts = tuple(key.split("."))
    if parts[0] == "arms" and len(parts) > 1:
        rest = key.removeprefix("arms.")
        arms = raw.get("arms")
        known = [
            arm for arm in (arms if isinstance(arms, Mapping) else ()) if rest == arm or rest.startswith(f"{arm}.")
        ]
        arm = max(known, key=len, default=parts[1])
        inner = rest.removeprefix(arm).removeprefix(".")
        return ("arms", arm, *(_override_path(inner, {}) if inner else ()))
    if parts[0] not in ("scientific", "nuisance") or len(parts) == 1:
        return parts
    if parts[-1] in KINDS and len(parts) > 2:
        return (parts[0], dotted(parts[1:-1]), parts[-1])
    return (parts[0], dotted(parts[1:]))
