"""A run's config against what is published: which cells of a table it is at, and in what it differs from them."""

from collections.abc import Mapping
from math import isclose
from typing import Any

from reports.published import UNKNOWN, Axis, Name, PublishedCell, PublishedTable


def at_path(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    part: Any = config
    for name in path.split("."):
        part = part.get(name) if isinstance(part, Mapping) else None
    return part


def agrees(have: Any, want: Any) -> bool:
    """Whether a setting is the published one; nothing agrees with `unknown`."""
    if isinstance(want, list):
        return any(agrees(have, one) for one in want)
    if want == UNKNOWN:
        return False
    if want == "any":
        return have is not None
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (have, want))
    return isclose(have, want, rel_tol=1e-9) if numbers else bool(have == want)


def coordinate(axis: Axis, config: Mapping[str, Any]) -> Name | None:
    """Where a config lies on an axis: the sum of its paths (a word as it is), or the choice that it is or stands in
    for; None where that cannot be said."""
    if axis.paths:
        found = [at_path(config, path) for path in axis.paths]
        if len(found) == 1 and isinstance(found[0], str):
            return found[0]
        numbers = [value for value in found if isinstance(value, int | float)]
        return sum(numbers) if numbers else None
    for options in (axis.choices, axis.stand_ins):
        for value, wanted in options.items():
            if all(agrees(at_path(config, path), want) for path, want in wanted.items()):
                return value
    return None


def reaches(cell: PublishedCell, table: PublishedTable, config: Mapping[str, Any]) -> bool:
    """Whether a config is at the cell's place on every axis of settings, be it as a stand-in; what is read by another
    metric of the same training is at every such place."""
    placed = [axis for axis in table.axes if axis.paths or axis.choices]
    return bool(placed) and all(_is_at(axis, cell.at[axis.name], config) for axis in placed)


def _is_at(axis: Axis, wanted: Name, config: Mapping[str, Any]) -> bool:
    if axis.paths:
        have = coordinate(axis, config)
        return have is not None and agrees(have, wanted)
    options = [options[wanted] for options in (axis.choices, axis.stand_ins) if wanted in options]
    return any(all(agrees(at_path(config, path), want) for path, want in one.items()) for one in options)


def published_setting(cell: PublishedCell, table: PublishedTable) -> dict[str, Any]:
    """Path → published value: of the table, and of the cell's own choices."""
    own = [axis.choices.get(cell.at[axis.name], {}) for axis in table.axes]
    return {**table.setting, **{path: want for choice in own for path, want in choice.items()}}


def metric_of(cell: PublishedCell, table: PublishedTable) -> str | None:
    """The ledger's name of what the cell measures; None where nothing measures it."""
    words = {axis.name: axis.metric.get(cell.at[axis.name]) for axis in table.axes if axis.metric is not None}
    if not table.metric or None in words.values():
        return None
    return table.metric.format(**words)
