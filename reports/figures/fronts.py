"""Worth against cost, with the front of what nothing cheaper beats; and worth while a budget is being spent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, decade_ticks, finish, legend
from reports.figures.hover import hover
from reports.figures.palette import BAND, INK, MUTED, PAPER, RED, colour_of, marker_of
from reports.statistics import Estimate
from reports.wording import short_name

_STYLES: tuple[tuple[int, tuple[float, ...] | None], ...] = ((0, None), (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))
_LETTER = 4.6  # points per character at font size 8


@dataclass(frozen=True)
class Spot:
    """One encoder: what it costs, and what it came to."""

    label: str
    family: str
    place: int
    cost: float
    values: Sequence[float]  # one per seed that finished
    estimate: Estimate | None
    collapsed: bool = False


@dataclass(frozen=True)
class Spending:
    """One encoder's mean curve: (spent, worth) at each evaluation."""

    label: str
    place: int
    rank: int  # among those of its colour
    curve: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    x_label: str
    spendings: Sequence[Spending]
    front: Sequence[tuple[float, float]]  # (budget, the best worth from there)
    budget: float | None  # marked: the cheapest whole training


def front(
    text: Text, spots: Sequence[Spot], joined: Sequence[int], bounds: Sequence[float], x_label: str, y_label: str
) -> Figure:
    """joined: spots of the front, by rising cost; bounds: upper ends of all tiers but the last."""
    with canvas_of((6.6, 4.3)) as (canvas, axes):
        axes.set_xscale("log")
        _set_limits(axes, [spot.cost for spot in spots])
        for spot in spots:
            _draw_spot(axes, spot)
        steps = [(spots[i].cost, spots[i].estimate) for i in joined]
        if len(steps) > 1:
            axes.step([x for x, _ in steps], [e.mean if e else np.nan for _, e in steps], where="post", color=MUTED,
                      lw=1.2, ls=(0, (4, 2)), zorder=2, label="front: nothing cheaper is better")  # fmt: skip
        _shade_tiers(axes, spots, bounds)
        axes.set(xlabel=x_label, ylabel=y_label)
        decade_ticks(axes.xaxis)
        legend(axes)
        canvas.draw_without_rendering()  # places are known only once the layout is
        _name(axes, [spot for spot in spots if len(spot.values)], [(x, e.mean) for x, e in steps if e])
        return finish(canvas, text)


def _draw_spot(axes: Axes, spot: Spot) -> None:
    colour = colour_of(spot.place)
    axes.scatter([spot.cost] * len(spot.values), list(spot.values), s=13, alpha=0.4, lw=0, color=colour, zorder=3,
                 rasterized=len(spot.values) > MANY)  # fmt: skip
    if spot.estimate is None:
        if len(spot.values):
            axes.plot(spot.cost, float(np.mean(spot.values)), "x", color=RED, ms=7, mew=1.6, label="incomplete")
        return
    low, high = spot.estimate.low, spot.estimate.high
    if low is not None and high is not None:
        axes.vlines(spot.cost, low, high, color=colour, lw=1.8, zorder=4)
    dot = axes.plot(spot.cost, spot.estimate.mean, marker_of(spot.place), color=colour, ms=7, zorder=5,
                    mec=RED if spot.collapsed else colour, mew=1.6, label=short_name(spot.family, 24))  # fmt: skip
    interval = f" [{low:.1f}, {high:.1f}]" if low is not None and high is not None else ""
    hover(dot[0], [f"{spot.label}: {spot.estimate.mean:.1f}{interval}, n = {spot.estimate.n}"])


def _shade_tiers(axes: Axes, spots: Sequence[Spot], bounds: Sequence[float]) -> None:
    """Every other tier, its edges halfway between the dearest spot within and the cheapest beyond."""
    costs = sorted(spot.cost for spot in spots)
    beyond = [min((cost for cost in costs if cost > bound), default=bound) for bound in bounds]
    low, high = axes.get_xlim()
    edges = [low, *(float(np.sqrt(bound * next_)) for bound, next_ in zip(bounds, beyond, strict=True)), high]
    for tier, (left, right) in enumerate(pairwise(edges)):
        if tier % 2:
            axes.axvspan(left, right, color=BAND, lw=0, zorder=0)


def spending(text: Text, panels: Sequence[Panel], y_label: str) -> Figure:
    """A panel per kind of budget: a line per encoder while it trains; the broad line is the best at each budget."""
    with canvas_of((8.4, 4.4)) as (canvas, axes):
        axes.remove()
        grid = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            axes.set_xscale("log")
            _best(axes, panel)
            for line in panel.spendings:
                _draw_line(axes, line)
            if panel.budget is not None:
                axes.axvline(panel.budget, color=MUTED, lw=1, ls=(0, (2, 2)), zorder=1,
                             label="the cheapest whole training")  # fmt: skip
            axes.set_xlabel(panel.x_label)
            decade_ticks(axes.xaxis)
        grid[0].set_ylabel(y_label)
        legend(grid[0])
        return finish(canvas, text)


def _best(axes: Axes, panel: Panel) -> None:
    if not panel.front:
        return
    end = max(x for line in panel.spendings for x, _ in line.curve)
    xs, ys = zip(*panel.front, (end, panel.front[-1][1]), strict=True)
    axes.step(xs, ys, where="post", color=BAND, lw=6, zorder=1, solid_capstyle="butt", label="best at equal budget")


def _draw_line(axes: Axes, line: Spending) -> None:
    if not line.curve:
        return
    xs, ys = zip(*line.curve, strict=True)
    colour = colour_of(line.place)
    axes.plot(xs, ys, color=colour, lw=1.5, ls=_STYLES[line.rank % len(_STYLES)], zorder=3,
              label=short_name(line.label, 30))  # fmt: skip
    end = axes.plot(xs[-1], ys[-1], marker_of(line.place), color=colour, mfc=PAPER if line.rank else colour, ms=6,
                    zorder=4)  # fmt: skip
    hover(end[0], [f"{line.label}: {ys[-1]:.1f} at the end"])


# -- names beside points ----------------------------------------------------------------------------------------------


def _set_limits(axes: Axes, costs: Sequence[float]) -> None:
    """Room for names at both sides."""
    low, high = min(costs), max(costs)
    pad = max(high / low, 2.0) ** 0.13
    axes.set_xlim(low / pad, high * pad)


def _name(axes: Axes, spots: Sequence[Spot], steps: Sequence[tuple[float, float]]) -> None:
    """Each name beside its point, where it covers no point, bar, step of the front or other name, if it can."""
    scale = 72 / axes.figure.dpi

    def place(x: float, y: float) -> tuple[float, float]:
        at = axes.transData.transform((x, y)) * scale
        return float(at[0]), float(at[1])

    taken = [box for spot in spots for box in _boxes(spot, place)]
    for (x, y), (next_x, _) in pairwise(steps):
        (left, height), (right, _) = place(x, y), place(next_x, y)
        taken.append((left, height - 1, right, height + 1))
    edges = axes.get_window_extent()
    left, right = edges.x0 * scale, edges.x1 * scale
    for spot in spots:
        text, at = short_name(spot.label, 24), (spot.cost, _height(spot))
        width, (x, y) = len(text) * _LETTER, place(*at)
        offsets = _places(width)
        clashes = [_clash((x + dx, y + dy, width), taken, left, right) for dx, dy in offsets]
        dx, dy = offsets[int(np.argmin(clashes))]
        taken.append((x + dx, y + dy, x + dx + width, y + dy + 8))
        said = axes.annotate(text, at, (dx, dy), textcoords="offset points", fontsize=8, color=INK)
        said.set_in_layout(False)  # the layout stands


def _height(spot: Spot) -> float:
    return spot.estimate.mean if spot.estimate else float(np.mean(spot.values))


def _boxes(spot: Spot, place: Callable[[float, float], tuple[float, float]]) -> list[tuple[float, ...]]:
    """What a spot covers: its marker, and its bar."""
    x, y = place(spot.cost, _height(spot))
    found: list[tuple[float, ...]] = [(x - 4, y - 4, x + 4, y + 4)]
    if spot.estimate and spot.estimate.low is not None and spot.estimate.high is not None:
        found.append((x - 2, place(spot.cost, spot.estimate.low)[1], x + 2, place(spot.cost, spot.estimate.high)[1]))
    return found


def _places(width: float) -> list[tuple[float, float]]:
    """Offsets of the lower left corner of a name, the most natural first."""
    return [(7, -3), (-width - 7, -3), (7, 6), (7, -12), (-width - 7, 6), (-width - 7, -12), (-width / 2, 9),
            (-width / 2, -17), (7, 14), (-width - 7, 14), (7, -20), (-width - 7, -20)]  # fmt: skip


def _clash(name: tuple[float, float, float], taken: Sequence[tuple[float, ...]], left: float, right: float) -> float:
    x, y, width = name
    outside = max(0.0, left - x) + max(0.0, x + width - right)
    shared = [
        max(0.0, min(x + width, x1) - max(x, x0)) * max(0.0, min(y + 8, y1) - max(y, y0)) for x0, y0, x1, y1 in taken
    ]
    return sum(shared) + 10 * outside
