"""The sweep file: a question and the design that answers it, as one frozen SweepSpec.

Its parts are in `search_config`, `budget_config` and `pool_config`; `sweep_file.load_sweep` reads it. Nothing here
imports torch, Ray or MLflow.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from harness import conditions
from harness.budget_config import Budget
from harness.pool_config import Cluster, Place, Pool
from harness.search_config import MOST, SEEDS, STUDY_SEEDS, Confirm, Metric, Search, Seeds, Stopping
from harness.source import SpecError, lay_over, nested, write
from harness.space import Space, crossed
from harness.sweep_file import load_sweep, load_training
from lejepa.config import FLOORS, TrainConfig
from lejepa.part import Part

__all__ = ["STUDY_SEEDS", "Arm", "Cell", "Metric", "Pool", "SpecError", "SweepSpec", "load_sweep", "load_training"]

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


Factors = dict[str, Space]  # dotted path into the TrainConfig → space
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


# of MLflow, beside the sweeps' folders: its store, SQLite's files for that, and what it refers to
_TAKEN = ("mlflow.db", "mlflow.db-journal", "mlflow.db-wal", "mlflow.db-shm", "mlartifacts")


def _of_a_folder(name: str) -> str:
    if name.lower() in _TAKEN:  # some file systems see no case
        raise ValueError(f"beside the sweeps' folders, {name} is MLflow's; take another name")
    return name


Name = Annotated[Word, AfterValidator(_of_a_folder)]


def _printable(raw: Any) -> Any:
    if isinstance(raw, str) and not (0 < len(raw) <= 64 and raw.isprintable()):
        raise ValueError(f"{raw[:64]!r} is no name for an arm; take 1 to 64 printable characters")
    return raw


ArmName = Annotated[str, BeforeValidator(_printable)]


class Arm(Part):
    """One method under comparison. After loading, `scientific` and `nuisance` are always the arm's own."""

    base: dict[str, Any] = {}  # deep-merged over the sweep's base
    scientific: Factors = {}  # given: instead of the sweep's
    nuisance: Factors = {}  # given: instead of the sweep's


@dataclass(frozen=True)
class Cell:
    """One combination of an arm's scientific values."""

    arm: str
    values: Mapping[str, Any] = field(hash=False)  # dotted path → value, as written


class SweepSpec(Part):
    """A sweep as resolved: what `sweep.yaml` in its folder holds."""

    name: Name  # of the folder runs/NAME; letters, digits, `.`, `_`, `-`, at most 64
    question: str = ""  # what the report answers, in your words
    # a TrainConfig by its parts; not seed, device and threads, which follow from `seeds` and the pool
    base: dict[str, Any] = {}
    scientific: Factors = {}  # parameters under comparison; crossed, each combination is a cell of the report
    nuisance: Factors = {}  # parameters that are searched within every cell, at the same budget, and never compared
    # methods, encoders or data side by side; none given: one, named after base.method.name
    arms: dict[ArmName, Arm]
    seeds: Seeds = SEEDS  # of every cell that is not searched, and of the floors; a count n means 0 … n−1
    search: Search = Search(trials=16)  # how nuisance parameters are searched
    stopping: Stopping | None = None  # early stopping of search trials
    confirm: Confirm | None = None  # left out of a sweep that searches: top 1; null: no evidence, only a search
    budget: Budget | None = None  # what the whole sweep may cost
    # what one trial gets, and how many run at once; beside `pools` only its max_concurrent, of all of them together
    pool: Pool = Field(default_factory=Pool)
    pools: dict[Word, Pool] = Field({}, exclude_if=lambda pools: not pools)  # by name, the first for most trials
    place: tuple[Place, ...] = Field((), exclude_if=lambda place: not place)  # which trials go to which pool
    # the Ray that runs the trials: of this machine alone, or of several
    cluster: Cluster = Field(Cluster(), exclude_if=lambda cluster: cluster == Cluster())
    metric: Metric = Metric()  # what cells are selected by
    # differences up to this are practically none, in the metric's unit (percentage points for accuracies)
    rope: float = Field(1.0, ge=0)
    # the two arms whose difference is the primary result; both have one and the same encoder
    contrast: tuple[str, str] | None = None
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
    def _pools_together(self) -> Self:
        """`pool.max_concurrent` is how many trials run side by side, with one pool as with several."""
        _check_pools(self)
        if self.pools and "max_concurrent" not in self.pool.model_fields_set:
            together = sum(pool.max_concurrent for pool in self.pools.values())
            object.__setattr__(self, "pool", Pool(max_concurrent=together))
        return self

    @model_validator(mode="after")
    def _conditions_settled(self) -> Self:
        """Every arm with the parameters that can apply in it."""
        arms = {name: self._settle(name, arm) for name, arm in self.arms.items()}
        for key in ("scientific", "nuisance"):
            for path, space in getattr(self, key).items():
                if space.when and not any(path in getattr(arm, key) for arm in arms.values()):
                    raise _wrong((key, path), "when: holds in no arm, so it is nowhere a parameter; drop or mend it")
        object.__setattr__(self, "arms", arms)
        return self

    def _settle(self, name: str, arm: Arm) -> Arm:
        both = {**arm.scientific, **arm.nuisance}
        if not any(space.when for space in both.values()):
            return arm
        if mistake := conditions.wrong(both):
            role = "scientific" if mistake[0] in arm.scientific else "nuisance"
            raise _wrong(("arms", name, role, mistake[0]), mistake[1])
        for path, space in arm.scientific.items():
            if searched := [other for other in space.when if other in arm.nuisance]:
                message = f"when: {searched[0]} is searched, and what is compared cannot hang on that"
                raise _wrong(("arms", name, "scientific", path), message)
        base = lay_over(self.base, arm.base)
        left = conditions.settled(both, conditions.of_config(_config_or_none(base), base, name))
        roles = {
            role: {path: left[path] for path in getattr(arm, role) if path in left}
            for role in ("scientific", "nuisance")
        }
        return arm.model_copy(update=roles)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, arm in self.arms.items():
            _check_factors(("arms", name), arm)
            _check_floor(("arms", name), arm, _method_name(lay_over(self.base, arm.base)))
        searching = {name: arm for name, arm in self.arms.items() if arm.nuisance}
        if searching:
            _check_sampler(self.search, searching)
            self._check_confirm()
            _check_stopping(self.stopping, searching)
        else:
            self._check_nothing_searches()
        for key in ("scientific", "nuisance"):
            mine = getattr(self, key)
            if mine and not any(self._uses(arm, key) for arm in self.arms.values()):
                raise _wrong((key,), "no arm uses it: floors ignore it, each other arm gives its own; drop it")
        return self

    def _uses(self, arm: Arm, key: str) -> bool:
        """Whether an arm has what the sweep gives it, as far as that applies in it."""
        own, mine = getattr(arm, key), getattr(self, key)
        return bool(own) and all(path in mine and space == mine[path].under(space.when) for path, space in own.items())

    def _check_confirm(self) -> None:
        for cell in self.cells() if self.confirm else ():
            found = self.search_size(cell)
            if self.confirm and 0 < found < self.confirm.top:
                message = f"top is {self.confirm.top}, and a cell of {cell.arm} has only {found} search trials"
                raise _wrong(("confirm",), message)

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

    def searched(self, cell: Cell) -> Factors:
        """The parameters that are searched in a cell; their conditions are on one another alone."""
        return conditions.settled(self.arms[cell.arm].nuisance, lambda path: cell.values.get(path, conditions.ABSENT))

    def search_size(self, cell: Cell) -> int:
        """Search trials of a cell, over all studies; 0 where nothing is searched."""
        if not self.arms[cell.arm].nuisance:
            return 0
        return (self.search.trials or len(crossed(self.searched(cell)))) * self.search.studies

    def corners(self, cell: Cell) -> list[dict[str, Any]]:
        """Points of the cell's nuisance space that see each end of each parameter; [{}] where nothing is searched."""
        spaces = self.searched(cell)
        first = {path: space.corners[0] for path, space in spaces.items()}
        points = [first]
        for path, space in spaces.items():
            ends = space.corners if space.when else space.corners[1:]
            points += [{**first, **conditions.allowing(spaces, path), path: value} for value in ends]
        return [conditions.applying(spaces, point) for point in points]

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


def _config_or_none(base: Mapping[str, Any]) -> TrainConfig | None:
    try:
        return train_config(base)
    except (ValidationError, TypeError):
        return None  # refused later, with its place


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
    return {"confirm": {"seeds": sweep.get("seeds", SEEDS), **given}} if isinstance(given, Mapping) else {}


def _wrong(path: tuple[str | int, ...], message: str) -> PydanticCustomError:
    """An error of the whole sweep that knows which key is to blame."""
    return PydanticCustomError("design", "{message}", {"message": message, "path": path})


def _check_pools(spec: SweepSpec) -> None:
    own = spec.pool.model_dump(exclude={"max_concurrent"}) != Pool().model_dump(exclude={"max_concurrent"})
    if spec.pools and own:
        raise _wrong(("pool",), "beside `pools` it takes max_concurrent alone; move the rest into a pool of its own")
    if spec.place and not spec.pools:
        raise _wrong(("place",), "there are no `pools` to choose from; name some, or drop the rules")
    for index, rule in enumerate(spec.place):
        if rule.pool not in spec.pools:
            message = f"there is no pool {rule.pool!r}; there are {', '.join(spec.pools)}"
            raise _wrong(("place", index, "pool"), message)


def _check_factors(arm_path: tuple[str, ...], arm: Arm) -> None:
    if (cells := math.prod(len(space.values) for space in arm.scientific.values())) > MOST:
        raise _wrong((*arm_path, "scientific"), f"makes {cells:,} cells; at most {MOST:,} can be listed")
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


def _check_stopping(stopping: Stopping | None, searching: Mapping[str, Arm]) -> None:
    if stopping is None or stopping.scope == "cell":
        return
    cells = max(len(crossed(arm.scientific)) for arm in searching.values())
    if cells > 1 or (stopping.scope == "sweep" and len(searching) > 1):
        message = f"scope {stopping.scope} would stop whole cells that the report compares; take scope cell"
        raise _wrong(("stopping",), message)
