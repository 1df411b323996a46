"""One number per line: arms side by side, and the primary difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, finish
from reports.figures.curve import Level
from reports.figures.hover import hover
from reports.figures.palette import BAND, INK, MUTED, PAPER, RED, colour_of, marker_of
from reports.statistics import Estimate
from reports.wording import minus, short_name


@dataclass(frozen=True)
class Row:
    """One line of a dot plot."""

    label: str
    place: int
    values: Sequence[float]
    estimate: Estimate | None
    floor: bool = False
    diverged: int = 0


def dots(text: Text, rows: Sequence[Row], x_label: str, levels: Sequence[Level] = ()) -> Figure:
    """One line per row: raw seeds, mean, interval. Floors are hollow and grey."""
    with canvas_of((5.2, 1.1 + 0.4 * max(len(rows), 2))) as (canvas, axes):
        for y, row in enumerate(rows):
            colour = MUTED if row.floor else colour_of(row.place)
            jitter = np.random.default_rng(y).uniform(-0.13, 0.13, len(row.values))
            axes.scatter(row.values, y + jitter, s=15, color=colour, alpha=0.45, lw=0, zorder=3,
                         rasterized=len(row.values) > MANY)  # fmt: skip
            if row.estimate:
                if row.estimate.low is not None and row.estimate.high is not None:
                    axes.hlines(y, row.estimate.low, row.estimate.high, color=colour, lw=2, zorder=4)
                mean = axes.plot(row.estimate.mean, y, "o" if row.floor else marker_of(row.place), ms=7, color=colour,
                                 mfc=PAPER if row.floor else colour, zorder=5)  # fmt: skip
                hover(mean[0], [f"{row.label} · {said(row.estimate)}"])
            elif not row.diverged:
                axes.annotate("no evidence" if not len(row.values) else "incomplete", (0.02, y), va="center",
                              xycoords=("axes fraction", "data"), color=MUTED, fontsize=8.5)  # fmt: skip
            if row.diverged:
                axes.plot(0.02, y, "x", color=RED, ms=8, mew=2, transform=axes.get_yaxis_transform())
        axes.set_yticks(range(len(rows)), [short_name(row.label, 22) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)
        return finish(canvas, text)


def effect(text: Text, estimate: Estimate, values: Sequence[float], rope: float, x_label: str) -> Figure:
    """The primary difference against zero and the region of practical equivalence."""
    with canvas_of((4.8, 1.35 + 0.16 * x_label.count("\n"))) as (canvas, axes):
        axes.axvspan(-rope, rope, color=BAND, lw=0, zorder=0)
        axes.axvline(0, color=MUTED, lw=1)
        seeds = axes.scatter(values, np.full(len(values), 0.28), s=16, color=MUTED, alpha=0.6, lw=0, zorder=3)
        hover(seeds, [f"one pair of seeds · {minus(f'{value:+.3g}')}" for value in values])
        if estimate.low is not None and estimate.high is not None:
            axes.hlines(0, estimate.low, estimate.high, color=INK, lw=2.4, zorder=4)
        hover(axes.plot(estimate.mean, 0, "o", color=INK, ms=8, zorder=5)[0], [said(estimate)])
        axes.set(ylim=(-0.6, 0.65), yticks=[], xlabel=x_label)
        axes.spines["left"].set_visible(False)
        return finish(canvas, text)


def said(estimate: Estimate) -> str:
    """`mean 77.0 [70.1, 83.9] · n = 3`."""
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f" [{minus(f'{estimate.low:.3g}')}, {minus(f'{estimate.high:.3g}')}]"
    return f"mean {minus(f'{estimate.mean:.3g}')}{interval} · n = {estimate.n}"
