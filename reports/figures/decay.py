"""A positive quantity that falls as one over a factor."""

from collections.abc import Sequence

import numpy as np

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, decade_ticks, finish, legend
from reports.figures.curve import Series
from reports.figures.palette import INK, colour_of, line_of, marker_of
from reports.figures.scale import log_places, log_ticks
from reports.wording import short_name


def decay(text: Text, series: Sequence[Series], x_label: str, y_label: str) -> Figure:
    """On two log axes, with the line a/x whose a fits all means best; values that are not positive have no place."""
    with canvas_of((5.2, 3.6)) as (canvas, axes):
        drawn = {id(line): [p for p in line.points if p.estimate and p.estimate.mean > 0] for line in series}
        means = [(p.x, p.estimate.mean) for line in series for p in drawn[id(line)] if p.estimate]
        place = log_places(sorted({x for x, _ in means}))
        for line in series:
            colour = colour_of(line.place)
            seeds = [(place[p.x], value) for p in drawn[id(line)] for value in p.values if value > 0]
            if seeds:
                xs, ys = np.transpose(seeds)
                axes.scatter(xs, ys, color=colour, s=15, alpha=0.45, lw=0, zorder=3,
                             rasterized=len(seeds) > MANY)  # fmt: skip
                joined = [(place[p.x], p.estimate.mean) for p in drawn[id(line)] if p.estimate]
                axes.plot(*np.transpose(joined), color=colour, lw=1.6, ls=line_of(line.place), ms=5.5, zorder=4,
                          marker=marker_of(line.place), label=f"{short_name(line.label)}: mean")  # fmt: skip
        x, y = np.transpose(means)
        factor = np.exp(np.mean(np.log(x * y)))
        ends = np.array([x.min(), x.max()])
        axes.plot(np.log10(ends), factor / ends, color=INK, lw=1, ls=(0, (4, 3)), zorder=5, label="∝ 1/M")
        axes.set(yscale="log", xlabel=x_label, ylabel=y_label)
        decade_ticks(axes.yaxis)
        log_ticks(axes, place)
        legend(axes)
        return finish(canvas, text)
