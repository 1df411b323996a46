"""Trainings as points coloured by λ: their two losses, and what a loss says of the accuracy."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, decade_ticks, finish, legend, log_norm
from reports.figures.palette import COLD_TO_WARM, FLOOR_STYLES, INK, MUTED, PAPER, RED
from reports.wording import number

_WIDE = (6.4, 3.9)  # inches


def losses(
    text: Text, x: np.ndarray, y: np.ndarray, lambdas: np.ndarray, collapsed: np.ndarray,
    floors: Sequence[float], ceilings: Sequence[float],
) -> Figure:  # fmt: skip
    """SIGReg loss against prediction loss at the end of training, coloured by λ; λ = 0 is hollow."""
    with canvas_of(_WIDE if text.wide else (5.2, 3.7)) as (canvas, axes):
        _points(axes, x, y, lambdas, collapsed)
        for floor in floors:
            axes.axhline(floor, color=MUTED, lw=1.2, ls=FLOOR_STYLES[0], label=f"floor {floor:.2f}: isotropic Gaussian")
        for ceiling in ceilings:
            axes.axhline(ceiling, color=RED, lw=1.2, ls=FLOOR_STYLES[1], label=f"ceiling {ceiling:.1f}: collapsed")
        axes.set_yscale("log")
        if (x > 0).all():
            axes.set_xscale("log")
        for scale in (axes.xaxis, axes.yaxis):
            decade_ticks(scale)
        axes.set(xlabel="prediction loss, last epoch (mean squared distance to the centre)",
                 ylabel="SIGReg loss, last epoch (statistic)")  # fmt: skip
        _bar(canvas, axes, lambdas)
        legend(axes)
        return finish(canvas, text)


def against_loss(
    text: Text, x: np.ndarray, y: np.ndarray, lambdas: np.ndarray, collapsed: np.ndarray, x_label: str, y_label: str
) -> Figure:
    """Accuracy against a loss, coloured by λ."""
    with canvas_of(_WIDE if text.wide else (5.2, 3.7)) as (canvas, axes):
        _points(axes, x, y, lambdas, collapsed)
        if (x > 0).all():
            axes.set_xscale("log")
            decade_ticks(axes.xaxis)
        axes.set(xlabel=x_label, ylabel=y_label)
        _bar(canvas, axes, lambdas)
        legend(axes)
        return finish(canvas, text)


def _points(axes: Axes, x: np.ndarray, y: np.ndarray, lambdas: np.ndarray, collapsed: np.ndarray) -> None:
    positive = lambdas > 0
    norm: Normalize = log_norm(lambdas[positive])
    for mask, marker, label in (
        (positive & ~collapsed, "o", None),
        (positive & collapsed, "X", "collapsed at λ > 0"),
    ):
        if mask.any():
            axes.scatter(x[mask], y[mask], c=lambdas[mask], cmap=COLD_TO_WARM, norm=norm, s=44, marker=marker,
                         edgecolor=INK, lw=0.7, zorder=3, rasterized=mask.sum() > MANY, label=label)  # fmt: skip
    if (~positive).any():
        axes.scatter(x[~positive], y[~positive], facecolor=PAPER, edgecolor=RED, s=48, lw=1.6, zorder=3, label="λ = 0")


def _bar(canvas: Canvas, axes: Axes, lambdas: np.ndarray) -> None:
    shown = np.unique(lambdas[lambdas > 0])
    if len(shown):
        bar = canvas.colorbar(ScalarMappable(log_norm(shown), COLD_TO_WARM), ax=axes, label="λ", pad=0.02)
        ticks = _thin(shown, 8)
        bar.set_ticks(list(ticks), labels=[number(tick) for tick in ticks])
        bar.ax.minorticks_off()
        bar.outline.set_visible(False)


def _thin(values: np.ndarray, most: int) -> np.ndarray:
    return values if len(values) <= most else values[np.linspace(0, len(values) - 1, most).round().astype(int)]
