"""Our cells at their places in a table of the paper, and the lines that they make along its axes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.evidence import Cell, Study
from reports.placing import coordinate
from reports.published import Axis, Name, PublishedTable, Shape
from reports.sections.paper_cells import candidates, config_of, measured_by, values_of
from reports.shapes import Line
from reports.wording import value_text


@dataclass(frozen=True)
class Placed:
    """One of our cells at its place in the table."""

    at: Mapping[str, Name | None]  # axis → value
    values: pd.Series  # seed → what judges
    selecting: pd.Series  # seed → what selects; larger is better
    by: str  # what selects, in words
    keys: tuple[str, ...]


def placed(study: Study, table: PublishedTable) -> list[Placed]:
    """Complete cells of the table's method, one for each place: where the sweep varies something that the table does
    not, the first stands for the others."""
    found: dict[tuple[Name | None, ...], Placed] = {}
    for cell in candidates(study, table):
        if cell.complete:
            for one in _places(study, table, cell):
                found.setdefault(tuple(one.at.values()), one)
    return list(found.values())


def _places(study: Study, table: PublishedTable, cell: Cell) -> Iterator[Placed]:
    """One, or one for each metric that the table's axes name."""
    config = config_of(study, cell)
    at = {axis.name: coordinate(axis, config) for axis in table.axes}
    read = [axis for axis in table.axes if axis.metric is not None]
    for words in _products(read):
        metric = measured_by(study, table, table.metric.format(**{name: word for name, (_, word) in words.items()}))
        values = pd.Series(dtype=float) if metric is None else values_of(cell, metric)
        if len(values) == cell.planned:
            selecting, by = (values, "by its own mean") if read else (study.sign * cell.val, study.selected_on)
            yield Placed(at | {name: value for name, (value, _) in words.items()}, values, selecting, by, cell.keys)


def _products(axes: Sequence[Axis]) -> list[dict[str, tuple[Name, str]]]:
    """Every combination of the values that a metric measures: axis → (value, word)."""
    found: list[dict[str, tuple[Name, str]]] = [{}]
    for axis in axes:
        words = [(value, word) for value, word in (axis.metric or {}).items() if word is not None]
        found = [{**one, axis.name: pair} for one in found for pair in words]
    return found


# -- lines ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A line of ours along an axis, and the published numbers of the same line."""

    at: Mapping[str, Name | None]  # the other axes
    line: Line  # of what judges
    selecting: Line  # of what selects, by which a best x is found
    by: str  # the latter in words
    published: Mapping[Name, float]
    keys: tuple[str, ...]
    text: str

    @property
    def best(self) -> int:
        """Place of the cell that is selected."""
        return int(self.selecting.scores.mean(axis=1).argmax())


def runs(table: PublishedTable, ours: Sequence[Placed], shape: Shape, least: int = 2) -> list[Run]:
    """Lines with at least so many values, over the seeds that all their cells share."""
    axis, grouped = table.axis(shape.axis), dict[tuple[Name | None, ...], list[Placed]]()
    for one in ours:
        rest = {name: value for name, value in one.at.items() if name != axis.name}
        if one.at[axis.name] is not None and all(rest[name] == value for name, value in shape.at.items()):
            grouped.setdefault(tuple(rest.values()), []).append(one)
    lines = [sorted(group, key=lambda one: _place(axis, one.at[axis.name])) for group in grouped.values()]
    lines = [group for group in lines if len(group) >= least]
    seeds = _shared([one for group in lines for one in group])
    if not seeds:
        return []
    varied = [a.name for a in table.axes if a.name != axis.name and len({g[0].at[a.name] for g in lines}) > 1]
    return [_run(table, axis, group, seeds, varied) for group in sorted(lines, key=lambda g: _order(table, axis, g[0]))]


def _run(
    table: PublishedTable, axis: Axis, group: Sequence[Placed], seeds: Sequence[Any], varied: Sequence[str]
) -> Run:
    rest = {name: value for name, value in group[0].at.items() if name != axis.name}
    xs = tuple(one.at[axis.name] for one in group)
    judging, selecting = (
        Line(xs, np.stack([values.loc[seeds].to_numpy(dtype=float) for values in of_cells]))
        for of_cells in ([one.values for one in group], [one.selecting for one in group])
    )
    known = {
        cell.at[axis.name]: cell.value for cell in table.cells
        if all(rest[name] == value for name, value in cell.at.items() if name != axis.name)
    }  # fmt: skip
    text = ", ".join(f"{table.axis(name).symbol} = {value_text(rest[name])}" for name in varied)
    keys = tuple(key for one in group for key in one.keys)
    return Run(rest, judging, selecting, group[0].by, known, keys, text)


def _shared(cells: Sequence[Placed]) -> list[Any]:
    sets = [set(one.values.index) & set(one.selecting.index) for one in cells]
    return sorted(set.intersection(*sets)) if sets else []


def _place(axis: Axis, value: Name | None) -> tuple[float, int]:
    """Numbers by size, then words in the table's order."""
    if isinstance(value, int | float):
        return float(value), 0
    return math.inf, axis.values.index(value) if value in axis.values else len(axis.values)


def _order(table: PublishedTable, axis: Axis, one: Placed) -> list[tuple[float, int]]:
    return [_place(other, one.at[other.name]) for other in table.axes if other.name != axis.name]
