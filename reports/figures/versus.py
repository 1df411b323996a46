"""Arms side by side, and what each differs from the reference by: two panels that share their lines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, finish, legend
from reports.figures.palette import BAND, INK, MUTED, PAPER, RED, colour_of, marker_of
from reports.statistics import Estimate
from reports.wording import short_name

_PLATE = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}  # words stay readable above lines and bands


@dataclass(frozen=True)
class Side:
    """One arm: its seeds, its mean, and the difference of the reference to it."""

    label: str
    place: int
    values: Sequence[float]  # one per seed that finished
    estimate: Estimate | None
    collapsed: Sequence[bool] = ()  # one per value
    lost: str = ""  # what became of the other seeds
    difference: Estimate | None = None
    differences: Sequence[float] = ()  # one per pair
    floor: bool = False
    reference: bool = False


def versus(text: Text, sides: Sequence[Side], value_label: str, difference_label: str, rope: float) -> Figure:
    with canvas_of((6.6, 1.5 + 0.34 * max(len(sides), 2))) as (canvas, axes):
        axes.remove()
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
        for y, side in enumerate(sides):
            _values(left, y, side)
            _difference(right, y, side)
        right.axvspan(-rope, rope, color=BAND, lw=0, zorder=0, label=f"practically none (±{rope:g})")
        right.axvline(0, color=MUTED, lw=1, zorder=1)
        if any(any(side.collapsed) for side in sides):
            left.plot([], [], "x", color=RED, ms=6, mew=1.6, ls="", label="collapsed seed")
        left.set_yticks(range(len(sides)), [short_name(side.label, 22) for side in sides])
        left.set_ylim(len(sides) - 0.5, -0.5)
        right.tick_params(axis="y", length=0)
        for panel, label in ((left, value_label), (right, difference_label)):
            panel.grid(axis="y", visible=False)
            panel.set_xlabel(label)
        seeds_in_view(left, [value for side in sides for value in side.values])
        _zoom(right, sides, rope)
        legend(right)
        return finish(canvas, text)


def _values(axes: Axes, y: int, side: Side) -> None:
    colour = MUTED if side.floor else colour_of(side.place)
    values, bad = np.asarray(side.values, dtype=float), np.zeros(len(side.values), dtype=bool)
    bad[: len(side.collapsed)] = side.collapsed
    height = y + np.random.default_rng(y).uniform(-0.13, 0.13, len(values))
    raster = len(values) > MANY
    axes.scatter(values[~bad], height[~bad], s=15, color=colour, alpha=0.45, lw=0, zorder=3, rasterized=raster)
    if bad.any():
        axes.scatter(values[bad], height[bad], s=30, color=RED, marker="x", lw=1.4, zorder=4, rasterized=raster)
    if side.estimate:
        _bar(axes, y, side.estimate, side, colour)


def _difference(axes: Axes, y: int, side: Side) -> None:
    if side.difference is None:  # the panel has room for words where it has no difference
        why = side.lost or ("" if len(side.values) else "no evidence")
        words = ", ".join(filter(None, ["reference" if side.reference else "", why]))
        colour = RED if "diverged" in why else MUTED
        axes.annotate(words, (0.03, y), xycoords=("axes fraction", "data"), va="center", color=colour, fontsize=8.5,
                      bbox=_PLATE)  # fmt: skip
        return
    colour = MUTED if side.floor else colour_of(side.place)
    height = y + np.random.default_rng(y).uniform(-0.13, 0.13, len(side.differences))
    axes.scatter(side.differences, height, s=15, color=colour, alpha=0.45, lw=0, zorder=3)
    _bar(axes, y, side.difference, side, colour)


def _bar(axes: Axes, y: int, estimate: Estimate, side: Side, colour: str) -> None:
    if estimate.low is not None and estimate.high is not None:
        axes.hlines(y, estimate.low, estimate.high, color=colour, lw=2, zorder=4)
    axes.plot(estimate.mean, y, "o" if side.floor else marker_of(side.place), ms=7, color=colour,
              mec=INK if side.reference else colour, mfc=PAPER if side.floor else colour, zorder=5)  # fmt: skip


def _zoom(axes: Axes, sides: Sequence[Side], rope: float) -> None:
    """Zoom on what trained, every seed of it: a floor or a collapsed arm far away, or one wide interval, would press it
    into a line."""
    known = [side for side in sides if side.difference is not None]
    near = [side for side in known if not side.floor and not any(side.collapsed)] or known
    means = [side.difference.mean for side in near if side.difference is not None]
    seeds = [value for side in near for value in side.differences]
    reach = max(4 * (rope or 1), 1.6 * max(map(abs, means), default=0), 1.1 * max(map(abs, seeds), default=0))
    if not known:
        axes.set_xlim(-reach, reach)
        return
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -reach), min(high, reach))
    low, high = axes.get_xlim()
    for y, side in enumerate(sides):
        if side.difference is not None and not low <= side.difference.mean <= high:
            right = side.difference.mean > high
            axes.annotate(
                f"{side.difference.mean:+.0f} {'→' if right else '←'}".replace("-", "−"),
                (1.0 if right else 0.0, y), xycoords=("axes fraction", "data"), va="center",
                ha="right" if right else "left", fontsize=8.5, color=MUTED, zorder=6,
                bbox=_PLATE,
            )  # fmt: skip


def seeds_in_view(axes: Axes, values: Sequence[float]) -> None:
    """The limits of x hold every value and half their range on both sides: two seeds may have an interval that is ten
    times as wide, and would press all others into a line."""
    if len(values) and max(values) > min(values):
        room = 0.5 * (max(values) - min(values))
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, min(values) - room), min(high, max(values) + room))
