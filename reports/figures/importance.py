"""Shares of a whole as bars: how much of the importance each parameter has."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.content import Figure
from reports.figures.canvas import Text, canvas_of, finish
from reports.figures.palette import INK, MUTED, colour_of
from reports.wording import short_name


@dataclass(frozen=True)
class Share:
    """One bar: a parameter of an arm over its cells."""

    label: str
    place: int
    cells: Sequence[tuple[float, float, float]]  # share, and its interval's ends: of 1
    equal: float  # what each parameter of the arm would have if none mattered more

    @property
    def mean(self) -> float:
        return float(np.mean([share for share, _, _ in self.cells]))


def shares(text: Text, rows: Sequence[Share], x_label: str) -> Figure:
    """Rows from the top: the mean as a bar, each cell as a point with its interval, an equal share as a tick."""
    with canvas_of((5.2, 1.0 + 0.42 * max(len(rows), 2))) as (canvas, axes):
        for y, row in enumerate(rows):
            axes.barh(y, 100 * row.mean, height=0.62, color=colour_of(row.place), alpha=0.28, lw=0, zorder=2)
            axes.plot([100 * row.equal] * 2, [y - 0.36, y + 0.36], color=MUTED, lw=1.4, zorder=3)
            few = len(row.cells) < 4
            for (share, low, high), offset in zip(row.cells, _offsets(len(row.cells)), strict=True):
                axes.hlines(y + offset, 100 * low, 100 * high, color=INK, lw=1.3 if few else 0.7, zorder=4)
                axes.plot(100 * share, y + offset, "o", ms=5 if few else 3, color=colour_of(row.place), zorder=5)
        axes.set_yticks(range(len(rows)), [short_name(row.label, 34) for row in rows])
        axes.set(xlim=(-1, 101), ylim=(len(rows) - 0.5, -0.5), xlabel=x_label)
        axes.grid(axis="y", visible=False)
        return finish(canvas, text)


def _offsets(n: int) -> np.ndarray:
    return np.linspace(-0.24, 0.24, n) if n > 1 else np.zeros(1)
