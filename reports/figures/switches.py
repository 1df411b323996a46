"""The switch matrix beside what each arm reaches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from reports.content import Figure
from reports.figures.canvas import Text, canvas_of, finish, legend
from reports.figures.curve import Level
from reports.figures.palette import FLOOR_STYLES, GRID, INK, MUTED, PAPER, RED, colour_of, marker_of
from reports.figures.versus import seeds_in_view
from reports.statistics import Estimate
from reports.wording import short_name


@dataclass(frozen=True)
class SwitchRow:
    """One arm; `marks` has a text for every switch that is on (it may be empty), None for one that is off."""

    label: str
    marks: Sequence[str | None]
    values: Sequence[float]  # one per seed that finished
    collapsed: Sequence[bool]  # one per value
    estimate: Estimate | None
    lost: str  # what became of the other seeds
    family: str
    place: int = 0


def switches(
    text: Text, names: Sequence[str], rows: Sequence[SwitchRow], value_label: str, levels: Sequence[Level] = ()
) -> Figure:
    """Arms are lines of both panels; a rule parts families of arms."""
    height = 1.9 + 0.255 * max(len(rows), 3)
    with canvas_of((6.8, height)) as (canvas, axes):
        axes.remove()
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(0.27 * max(len(names), 4), 3.4))
        _matrix(left, names, rows)
        for y, row in enumerate(rows):
            _values(right, y, row)
        for style, level in zip(FLOOR_STYLES * len(levels), levels, strict=False):
            right.axvline(level.y, color=MUTED, lw=1.1, ls=style, zorder=1, label=level.label)
        if any(any(row.collapsed) for row in rows):
            right.plot([], [], "x", color=RED, ms=6, mew=1.6, ls="", label="collapsed seed")
        for y in range(1, len(rows)):
            if rows[y].family != rows[y - 1].family:
                for panel in (left, right):
                    panel.axhline(y - 0.5, color=GRID, lw=1.4, zorder=0)
        seeds_in_view(right, [value for row in rows for value in row.values] + [level.y for level in levels])
        left.set_ylim(len(rows) - 0.5, -0.5)
        right.grid(axis="y", visible=False)
        right.tick_params(axis="y", length=0)
        right.set_xlabel(value_label)
        legend(right)
        return finish(canvas, text)


def _matrix(axes: Axes, names: Sequence[str], rows: Sequence[SwitchRow]) -> None:
    for y, row in enumerate(rows):
        for x, mark in enumerate(row.marks):
            axes.plot(x, y, "s", ms=9, color=INK if mark is not None else PAPER, mec=INK if mark is not None else GRID,
                      mew=1.0, zorder=2)  # fmt: skip
            if mark:
                axes.text(x, y + 0.02, mark, color=PAPER, fontsize=7, ha="center", va="center", zorder=3)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8.5)
    axes.xaxis.tick_top()
    axes.tick_params(axis="both", length=0)
    axes.set_yticks(range(len(rows)), [short_name(row.label, 26) for row in rows], fontsize=8.5)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _values(axes: Axes, y: int, row: SwitchRow) -> None:
    colour = colour_of(row.place)
    values, bad = np.asarray(row.values, dtype=float), np.asarray(row.collapsed, dtype=bool)
    height = y + np.random.default_rng(y).uniform(-0.16, 0.16, len(values))
    axes.scatter(values[~bad], height[~bad], s=13, color=colour, alpha=0.45, lw=0, zorder=3)
    if bad.any():
        axes.scatter(values[bad], height[bad], s=26, color=RED, marker="x", lw=1.3, zorder=7)
    if row.estimate and not bad.all():
        if row.estimate.low is not None and row.estimate.high is not None:
            axes.hlines(y, row.estimate.low, row.estimate.high, color=colour, lw=1.8, zorder=5)
        axes.plot(row.estimate.mean, y, marker_of(row.place), color=colour, ms=5, zorder=6)
    if row.lost:
        axes.annotate(row.lost, (0.99, y), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8,
                      color=RED if "diverged" in row.lost else MUTED)  # fmt: skip
