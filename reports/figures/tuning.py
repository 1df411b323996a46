"""What tuning buys: the expected best of a search against its length, and the default against what was found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from reports.content import Figure
from reports.figures.canvas import Text, canvas_of, finish, legend
from reports.figures.palette import INK, MUTED, PAPER, colour_of, line_of, marker_of
from reports.wording import short_name


@dataclass(frozen=True)
class Search:
    """The expected best of n = 1, 2, … search trials; arrays of equal length."""

    label: str
    place: int
    expected: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    default: float | None = None  # of the published default, which no search was needed for


@dataclass(frozen=True)
class Step:
    """An arm before and after tuning."""

    label: str
    place: int
    defaults: Sequence[float]  # one per study
    tuned: Sequence[float]  # one per fresh seed; the best of each study where nothing was confirmed


def searches(text: Text, lines: Sequence[Search], y_label: str, marks: Sequence[float] = ()) -> Figure:
    """Curves with bands; defaults as hollow markers at 0 trials; `marks`: where two curves cross."""
    with canvas_of((5.8, 3.9)) as (canvas, axes):
        for rank, line in enumerate(lines):
            n = np.arange(1, len(line.expected) + 1)
            colour, marker = colour_of(line.place), marker_of(line.place)
            axes.fill_between(n, line.low, line.high, color=colour, alpha=0.13, lw=0, zorder=2)
            axes.plot(n, line.expected, color=colour, marker=marker, ms=4, ls=line_of(line.place), zorder=4,
                      label=short_name(line.label))  # fmt: skip
            if line.default is not None:
                shift = (rank - (len(lines) - 1) / 2) * min(0.12, 0.6 / len(lines))
                axes.plot(shift, line.default, marker, color=colour, mfc=PAPER, mew=1.6, ms=7, zorder=5)
        for x in marks:
            axes.axvline(x, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
        if any(line.default is not None for line in lines):
            axes.plot([], [], "o", color=MUTED, mfc=PAPER, mew=1.6, ms=7, ls="", label="published default (0 trials)")
        axes.set(xlabel="search trials", ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(axes)
        return finish(canvas, text)


def steps(text: Text, rows: Sequence[Step], x_label: str) -> Figure:
    """One line per arm: hollow where it started, filled where tuning took it."""
    with canvas_of((5.4, 1.2 + 0.36 * max(len(rows), 2))) as (canvas, axes):
        for y, row in enumerate(rows):
            colour, marker = colour_of(row.place), marker_of(row.place)
            before, after = float(np.mean(row.defaults)), float(np.mean(row.tuned))
            axes.annotate("", (after, y), (before, y), arrowprops=dict(arrowstyle="-|>", color=colour, lw=1.8,
                          shrinkA=4, shrinkB=4))  # fmt: skip
            for values, height in ((row.defaults, y + 0.2), (row.tuned, y - 0.2)):
                axes.scatter(values, np.full(len(values), height), s=13, color=colour, alpha=0.45, lw=0, zorder=3)
            axes.plot(before, y, marker, color=colour, mfc=PAPER, mew=1.6, ms=7, zorder=5)
            axes.plot(after, y, marker, color=colour, mec=INK, mew=0.6, ms=7, zorder=5)
        axes.plot([], [], "o", color=MUTED, mfc=PAPER, mew=1.6, ms=7, ls="", label="published default")
        axes.plot([], [], "o", color=MUTED, ms=7, ls="", label="tuned")
        axes.set_yticks(range(len(rows)), [short_name(row.label, 22) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)
        legend(axes)
        return finish(canvas, text)
