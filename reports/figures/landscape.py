"""Two parameters and what they reach: λ and the learning rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, decade_ticks, finish, legend
from reports.figures.palette import COLD_TO_WARM, INK, MUTED, PAPER, RED
from reports.figures.scale import log_places, log_ticks


@dataclass(frozen=True)
class Tried:
    x: float  # λ
    y: float  # learning rate
    value: float | None  # None where nothing was reached: pruned or diverged
    state: str  # finished | pruned | diverged | collapsed


@dataclass(frozen=True)
class Peak:
    """The best y of an x, with its interval."""

    x: float
    y: float
    low: float | None
    high: float | None


def landscape(
    text: Text, tried: Sequence[Tried], peaks: Sequence[Peak], x_label: str, y_label: str, value_label: str
) -> Figure:
    """Everything that was tried, coloured by what it reached; beside every x, its best y and the interval of that."""
    with canvas_of((6.4, 4.1)) as (canvas, axes):
        place = log_places(sorted({t.x for t in tried}))
        gap = 0.03 * (max(place.values()) - min(place.values()) or 1.0)
        reached = np.array([(place[t.x], t.y, t.value) for t in tried if t.value is not None])
        norm = _norm(reached[:, 2]) if len(reached) else Normalize(0, 1)
        if len(reached):
            axes.scatter(reached[:, 0], reached[:, 1], c=reached[:, 2], cmap=COLD_TO_WARM, norm=norm, s=46, lw=0.5,
                         edgecolor=INK, zorder=3, rasterized=len(reached) > MANY)  # fmt: skip
        for state, marker, colour in (("pruned", "o", MUTED), ("diverged", "x", RED), ("collapsed", "x", RED)):
            _lost(axes, [(place[t.x], t.y) for t in tried if t.state == state], state, marker, colour)
        for peak in peaks:
            x = place[peak.x] + gap
            if peak.low is not None and peak.high is not None:
                axes.vlines(x, peak.low, peak.high, color=INK, lw=1.8, zorder=5)
            axes.plot(x, peak.y, "D", color=INK, mfc=PAPER, mew=1.6, ms=6.5, zorder=6,
                      label="best of this λ and its 95 % interval")  # fmt: skip
        axes.set(yscale="log", xlabel=x_label, ylabel=y_label)
        decade_ticks(axes.yaxis)
        log_ticks(axes, place)
        if len(reached):
            bar = canvas.colorbar(ScalarMappable(norm, COLD_TO_WARM), ax=axes, label=value_label, pad=0.02)
            bar.outline.set_visible(False)
        legend(axes)
        return finish(canvas, text)


def _norm(values: np.ndarray) -> Normalize:
    low, high = float(values.min()), float(values.max())
    return Normalize(low, high) if high > low else Normalize(low - 0.5, high + 0.5)


def _lost(axes: Axes, points: Sequence[tuple[float, float]], state: str, marker: str, colour: str) -> None:
    if points:
        x, y = np.transpose(points)
        axes.plot(x, y, ls="none", marker=marker, color=colour, mfc="none", ms=5, mew=1.2, zorder=4, label=state)


def heat_map(
    text: Text, xs: Sequence[float], ys: Sequence[float], values: np.ndarray, words: Sequence[Sequence[str]],
    best: Sequence[int | None], x_label: str, y_label: str, value_label: str,
) -> Figure:  # fmt: skip
    """A crossed grid as a heat map: values (len(ys), len(xs)), NaN where there is none; words are written into the
    fields. best: index of the best y of every x, framed."""
    with canvas_of((max(6.4, 1.7 + 0.72 * len(xs)), 1.5 + 0.46 * len(ys))) as (canvas, axes):
        norm = _norm(values[np.isfinite(values)])
        axes.pcolormesh(np.arange(len(xs) + 1), np.arange(len(ys) + 1), np.ma.masked_invalid(values), cmap=COLD_TO_WARM,
                        norm=norm, edgecolor=PAPER, lw=1.5)  # fmt: skip
        for j in range(len(ys)):
            for i in range(len(xs)):
                dark = np.isfinite(values[j, i]) and norm(values[j, i]) < 0.55
                colour = RED if not np.isfinite(values[j, i]) else "#ffffff" if dark else "#101418"
                axes.text(i + 0.5, j + 0.5, words[j][i], ha="center", va="center", fontsize=8.5, color=colour)
        for column, row in enumerate(best):
            if row is not None:
                axes.add_patch(_frame(column, row))
        axes.set_xticks(np.arange(len(xs)) + 0.5, [f"{x:.3g}" for x in xs])
        axes.set_yticks(np.arange(len(ys)) + 0.5, [f"{y:.3g}" for y in ys])
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        bar = canvas.colorbar(ScalarMappable(norm, COLD_TO_WARM), ax=axes, label=value_label, pad=0.02)
        bar.outline.set_visible(False)
        return finish(canvas, text)


def _frame(i: int, j: int) -> Rectangle:
    return Rectangle((i + 0.06, j + 0.06), 0.88, 0.88, fill=False, edgecolor=INK, lw=2.2, zorder=4)
