"""Two sweeps, cell by cell: both means, and their difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.content import Figure
from reports.figures.canvas import Text, canvas_of, finish, legend
from reports.figures.dots import said
from reports.figures.hover import hover
from reports.figures.palette import BAND, INK, MUTED, PAPER, colour_of, marker_of
from reports.statistics import Estimate
from reports.wording import short_name

_ROW = 0.42  # inches


@dataclass(frozen=True)
class Side:
    """A cell in one of the sweeps."""

    values: Sequence[float]
    estimate: Estimate | None


@dataclass(frozen=True)
class Both:
    label: str
    sides: tuple[Side, Side]
    difference: Estimate | None


def means(text: Text, rows: Sequence[Both], names: tuple[str, str], x_label: str) -> Figure:
    """One line per cell, the first sweep above the second: raw seeds, mean, interval."""
    with canvas_of((5.2, 1.5 + _ROW * max(len(rows), 2))) as (canvas, axes):
        for y, row in enumerate(rows):
            for place, (side, name) in enumerate(zip(row.sides, names, strict=True)):
                at, colour = y + (place - 0.5) * 0.34, colour_of(place)
                jitter = np.random.default_rng(y).uniform(-0.05, 0.05, len(side.values))
                axes.scatter(side.values, at + jitter, s=13, color=colour, alpha=0.45, lw=0, zorder=3)
                if side.estimate is None:
                    continue
                if side.estimate.low is not None and side.estimate.high is not None:
                    axes.hlines(at, side.estimate.low, side.estimate.high, color=colour, lw=2, zorder=4)
                dot = axes.plot(side.estimate.mean, at, marker_of(place), ms=6.5, color=colour, zorder=5)
                hover(dot[0], [f"{name} · {row.label} · {said(side.estimate)}"])
        for place, name in enumerate(names):
            axes.plot([], [], marker=marker_of(place), color=colour_of(place), ms=6, lw=2, label=short_name(name, 30))
        axes.set_yticks(range(len(rows)), [short_name(row.label, 26) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)
        legend(axes)
        return finish(canvas, text)


def differences(text: Text, rows: Sequence[Both], rope: float, x_label: str) -> Figure:
    """One line per cell: the difference with its interval, against zero and the region of practical equivalence."""
    with canvas_of((5.2, 1.5 + _ROW * max(len(rows), 2))) as (canvas, axes):
        axes.axvspan(-rope, rope, color=BAND, lw=0, zorder=0, label="region of practical equivalence")
        axes.axvline(0, color=MUTED, lw=1)
        for y, row in enumerate(rows):
            if row.difference is None:
                axes.annotate("no interval", (0.02, y), va="center", xycoords=("axes fraction", "data"), color=MUTED,
                              fontsize=8.5)  # fmt: skip
                continue
            known = row.difference.half_width is not None
            if row.difference.low is not None and row.difference.high is not None:
                axes.hlines(y, row.difference.low, row.difference.high, color=INK, lw=2, zorder=4)
            dot = axes.plot(row.difference.mean, y, "o", ms=6.5, color=INK, mfc=INK if known else PAPER, zorder=5)
            hover(dot[0], [f"{row.label} · {said(row.difference)}"])
        axes.set_yticks(range(len(rows)), [short_name(row.label, 26) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)
        legend(axes)
        return finish(canvas, text)
