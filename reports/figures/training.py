"""A metric against the epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from reports.content import Figure
from reports.figures.canvas import Text, canvas_of, finish, legend
from reports.figures.palette import COLD_TO_WARM, colour_of, line_of
from reports.wording import short_name


@dataclass(frozen=True)
class Curve:
    """A metric per epoch: one row of `values` per seed, NaN where it was not measured."""

    label: str
    shade: float | None  # in [0, 1] on the scale of the cells; None: the arm's colour
    values: np.ndarray
    place: int = 0


def training(
    text: Text, curves: Sequence[Curve], y_label: str, y_limits: tuple[float, float] | None, most_seeds: int = 120
) -> Figure:
    """A metric against the epoch: means thick, seeds thin (left out where there are too many to be told apart)."""
    with canvas_of((5.2, 3.4)) as (canvas, axes):
        seeds_shown = sum(len(line.values) for line in curves) <= most_seeds
        for line in curves:
            colour = colour_of(line.place) if line.shade is None else COLD_TO_WARM(line.shade)
            if seeds_shown and len(line.values) > 1:
                threads = [_measured(values) for values in line.values]
                axes.add_collection(LineCollection(threads, colors=[colour], lw=0.7, alpha=0.45, zorder=2))
            seen = np.isfinite(line.values).sum(axis=0)
            whole = seen == seen.max()  # where a seed is missing, the mean would jump
            epochs = np.flatnonzero(whole & (seen > 0))
            if len(epochs):
                axes.plot(epochs + 1, np.nanmean(line.values[:, epochs], axis=0), color=colour, zorder=3,
                          ls=line_of(line.place) if line.shade is None else "-",
                          marker="o" if len(epochs) == 1 else None, label=short_name(line.label, 30))  # fmt: skip
        axes.autoscale_view()
        axes.set(xlabel="epoch", ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if y_limits:
            axes.set_ylim(*y_limits)
        if len(curves) <= 14:
            legend(axes)
        return finish(canvas, text)


def _measured(values: np.ndarray) -> np.ndarray:
    where = np.flatnonzero(np.isfinite(values))
    return np.column_stack([where + 1, values[where]])
