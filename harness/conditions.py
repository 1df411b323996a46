"""Parameters that exist only under a condition: `when: {path: value, …}`, or a list of values, of which one is enough.

A path is another parameter, a path into the TrainConfig, or `arm`. Conditions on what an arm has or a cell has are
settled before anything is drawn; those between searched parameters are settled point by point. A parameter that hangs
on one that does not apply does not apply itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.paths import ARM, known_paths
from lejepa.config import TrainConfig, nearest

if TYPE_CHECKING:
    from harness.space import Space

Known = Callable[[str], Any]  # path → value; ABSENT where there is none

ABSENT = object()


def nothing(path: str) -> Any:
    """Knows no value."""
    return ABSENT


def applying(spaces: Mapping[str, Space], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values whose parameters apply, given the others."""

    def applies(path: str) -> bool:
        return all(
            other in spaces and applies(other) and _among(values[other], allowed)
            for other, allowed in spaces[path].when.items()
        )

    return {path: value for path, value in values.items() if applies(path)}


def settled(spaces: Mapping[str, Space], known: Known) -> dict[str, Space]:
    """The spaces that can apply where `known` holds, with only the conditions that are left: on one another."""

    def possible(path: str) -> bool:
        return all(
            possible(other) if other in spaces else _among(known(other), allowed)
            for other, allowed in spaces[path].when.items()
        )

    return {
        path: space.under({other: allowed for other, allowed in space.when.items() if other in spaces})
        for path, space in spaces.items()
        if possible(path)
    }


def in_order(spaces: Mapping[str, Space]) -> list[str]:
    """Every parameter after those that it hangs on; else as written."""
    order: dict[str, None] = {}

    def visit(path: str) -> None:
        for other in spaces[path].when:
            if other in spaces and other not in order:
                visit(other)
        order[path] = None

    for path in spaces:
        if path not in order:
            visit(path)
    return list(order)


def allowing(spaces: Mapping[str, Space], path: str) -> dict[str, Any]:
    """Values of other parameters under which one applies; ValueError where no value of theirs is among those."""
    found: dict[str, Any] = {}
    for other, allowed in spaces[path].when.items():
        if other not in spaces:
            continue
        held = [value for value in allowed if spaces[other].holds(value)]
        if not held:
            raise ValueError(f"applies when {other} is {_listed(allowed)}, which its space does not hold")
        found |= allowing(spaces, other) | {other: held[0]}
    return found


def wrong(spaces: Mapping[str, Space]) -> tuple[str, str] | None:
    """The first parameter whose conditions cannot be meant so, and why."""
    for path in spaces:
        for other in spaces[path].when:
            if other not in spaces and other not in known_paths():
                hint = nearest(other, sorted(known_paths())) or "; or write arm"
                return path, f"when: no training has {other!r}{hint}"
        if _circular(spaces, path, ()):
            return path, f"when: {path} hangs on itself"
        try:
            allowing(spaces, path)
        except ValueError as error:
            return path, f"when: {error}"
    return None


def _circular(spaces: Mapping[str, Space], path: str, above: tuple[str, ...]) -> bool:
    if path in above:
        return True
    return any(_circular(spaces, other, (*above, path)) for other in spaces[path].when if other in spaces)


def of_config(config: TrainConfig | None, base: Mapping[str, Any], arm: str) -> Known:
    """What an arm says of itself: its name, its base as written, and the defaults of its config."""
    dumped = config.model_dump(mode="json") if config else {}

    def known(path: str) -> Any:
        written = _at(base, path)
        return arm if path == ARM else _at(dumped, path) if written is ABSENT else written

    return known


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part, ABSENT) if isinstance(tree, Mapping) else ABSENT
    return tree


def _among(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)


def _listed(allowed: tuple[Any, ...]) -> str:
    return " or ".join(map(repr, allowed))
