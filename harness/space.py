"""The vocabulary of spaces: what a parameter of a sweep may be.

    {grid: [a, b, …]}         these values, each of them, in this order
    {choice: [a, b, …]}       these values, without an order
    {uniform: [low, high]}    a number, evenly
    {log_uniform: [low, high]}  a positive number, evenly on the log scale
    {int: [low, high]}        a whole number, both ends included
    {log_int: [low, high]}    a positive whole number, evenly on the log scale, both ends included

Any of them may add `when: {path: value}`: the parameter exists under a condition alone (`harness/conditions.py`).

A finite space (`grid`, `choice`) can be crossed; every space maps a number of the unit interval to a value, so that
one stream of points (random or quasi-random) serves them all, and every space has an Optuna distribution.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

from harness.conditions import applying
from harness.ledger import canonical
from lejepa.config import nearest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Kind = Literal["grid", "choice", "uniform", "log_uniform", "int", "log_int"]
KINDS: tuple[str, ...] = get_args(Kind)
FINITE = frozenset({"grid", "choice"})


class Space(BaseModel):
    """One space. Written and dumped as `{kind: [values or bounds]}`, with `when` where it has a condition.

    ValidationError says what is wrong with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    values: tuple[Any, ...]  # all values of a finite space, else (low, high)
    when: dict[str, tuple[Any, ...]] = {}  # path → values of which it must have one

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: Any) -> Any:
        when = _conditions(raw.pop("when")) if isinstance(raw := _copied(raw), dict) and "when" in raw else {}
        if not isinstance(raw, dict) or len(raw) != 1:
            shown = canonical(raw) if isinstance(raw, list) else "[0.1, 0.2]"
            raise ValueError(f"a space is one of {', '.join(KINDS)} with its values; write {{grid: {shown}}}")
        (kind, values), *_ = raw.items()
        if kind not in KINDS:
            hint = nearest(str(kind), list(KINDS)) or f"; known are {', '.join(KINDS)}"
            raise ValueError(f"unknown space {kind!r}{hint}")
        if not isinstance(values, list | tuple):
            raise ValueError(f"{kind} needs a list, not {values!r}; write {{{kind}: [{values}]}}")
        (_check_values if kind in FINITE else _check_bounds)(kind, list(values))
        return {"kind": kind, "values": tuple(values), "when": when}

    @model_serializer
    def _write(self) -> dict[str, Any]:
        when = {path: list(allowed) if len(allowed) > 1 else allowed[0] for path, allowed in self.when.items()}
        return {self.kind: list(self.values), **({"when": when} if when else {})}

    def under(self, when: Mapping[str, tuple[Any, ...]]) -> "Space":
        """The space with other conditions."""
        return self.model_copy(update={"when": dict(when)})

    @property
    def finite(self) -> bool:
        return self.kind in FINITE

    @property
    def corners(self) -> tuple[Any, ...]:
        """The values at which a config must hold for the whole space to hold: all of a finite space, else both ends."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the space."""
        if self.finite:
            return canonical(value) in {canonical(known) for known in self.values}
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.values
        return bool(low <= value <= high) and not (self.kind.endswith("int") and value != int(value))

    def at(self, u: float) -> Any:
        """The value at u in [0, 1)."""
        if self.finite:
            return self.values[int(u * len(self.values))]
        low, high = self.values
        match self.kind:
            case "uniform":
                return low + u * (high - low)
            case "log_uniform":
                return _between(low, math.exp(math.log(low) + u * (math.log(high) - math.log(low))), high)
            case "int":
                return low + int(u * (high - low + 1))
            case _:  # log_int: every whole number owns the half-open interval around it
                edge = math.log(low - 0.5), math.log(high + 0.5)
                return _between(low, round(math.exp(edge[0] + u * (edge[1] - edge[0]))), high)

    def distribution(self) -> "BaseDistribution":
        """The same space for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.finite:
            return CategoricalDistribution(self.values)
        log = self.kind.startswith("log_")
        low, high = self.values
        return (
            IntDistribution(low, high, log=log) if self.kind.endswith("int") else FloatDistribution(low, high, log=log)
        )


def crossed(spaces: Mapping[str, Space]) -> list[dict[str, Any]]:
    """All combinations of finite spaces, the last one varying fastest; [{}] where there is none.

    A parameter that does not apply is in none, and what is the same without it is there once.
    """
    every = (
        dict(zip(spaces, values, strict=True)) for values in itertools.product(*(s.values for s in spaces.values()))
    )
    if not any(space.when for space in spaces.values()):
        return list(every)
    return list({canonical(point): point for point in (applying(spaces, values) for values in every)}.values())


def random_points(spaces: Mapping[str, Space], n: int, name: object) -> list[dict[str, Any]]:
    """n independent points; the name decides which, and a longer list begins with the shorter one."""
    return _points(spaces, np.random.default_rng(seed_of(name)).random((n, len(spaces))))


def qmc_points(spaces: Mapping[str, Space], n: int, name: object) -> list[dict[str, Any]]:
    """n points of a scrambled Sobol sequence; the name decides which, and a longer list begins with the shorter one."""
    from scipy.stats import qmc

    sobol = qmc.Sobol(len(spaces), seed=seed_of(name))
    # a whole power of two, cut: scipy warns of any other number, and the beginning stays the same
    return _points(spaces, sobol.random_base2(math.ceil(math.log2(n)))[:n])


def _points(spaces: Mapping[str, Space], unit: np.ndarray) -> list[dict[str, Any]]:
    drawn = ({path: space.at(float(u)) for (path, space), u in zip(spaces.items(), row, strict=True)} for row in unit)
    return [applying(spaces, values) for values in drawn]


def seed_of(name: object) -> int:
    """64 bits that the name decides, and nothing else."""
    return int.from_bytes(hashlib.sha256(canonical(name).encode()).digest()[:8], "big")


def _between(low: Any, value: Any, high: Any) -> Any:
    return min(max(value, low), high)  # rounding must not leave the space


def _copied(raw: Any) -> Any:
    return dict(raw) if isinstance(raw, Mapping) else raw


def _conditions(raw: Any) -> dict[str, tuple[Any, ...]]:
    """`{path: value or list of values}` as path → values."""
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError(f"when is a mapping, not {raw!r}; write when: {{method.name: lejepa}}")
    when = {str(path): tuple(given) if isinstance(given, list | tuple) else (given,) for path, given in raw.items()}
    for path, allowed in when.items():
        if not allowed or not all(_json_able(value) for value in allowed):
            raise ValueError(f"when: {path} is compared with {raw[path]!r}; give one value, or a list of values")
    return when


def _check_values(kind: str, values: list[Any]) -> None:
    if not values:
        raise ValueError(f"an empty {kind}: nothing would run; give at least one value")
    for value in values:
        parts = value if kind == "grid" and isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) or not _json_able(part) for part in parts):
            raise ValueError(f"{kind} holds {value!r}; its values must be numbers, words, true, false or null")
    texts = [canonical(value) for value in values]
    for text in texts:
        if texts.count(text) > 1:
            raise ValueError(f"{kind} holds {text} twice; every value once")


def _check_bounds(kind: str, bounds: list[Any]) -> None:
    wanted = int if kind.endswith("int") else (int, float)
    number = "whole numbers" if kind.endswith("int") else "numbers"
    good = len(bounds) == 2 and all(isinstance(b, wanted) and not isinstance(b, bool) and _json_able(b) for b in bounds)
    if not good:
        raise ValueError(f"{kind} needs two {number}, [low, high], not {bounds}")
    low, high = bounds
    if not low < high:
        raise ValueError(f"{kind}: {low} to {high} is empty; low must be below high")
    if kind.startswith("log_") and low <= 0:
        raise ValueError(f"{kind}: the low end is {low}, and a log scale needs it above 0")


def _json_able(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))
