"""Error or loss against scale on two log axes: seeds, means, and the law between them with its band."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, decade_ticks, finish, legend
from reports.figures.hover import hover
from reports.figures.palette import MUTED, colour_of, marker_of
from reports.statistics import Estimate
from reports.wording import short_name

_TITLE = 50  # letters in a line over a panel
_DASHES: tuple[int, tuple[float, ...]] = (0, (4, 2.5))
_DOTS: tuple[int, tuple[float, ...]] = (0, (1, 1.6))


@dataclass(frozen=True)
class Scaled:
    """One arm at one scale."""

    x: float
    values: Sequence[float]  # one per seed
    estimate: Estimate
    said: str


@dataclass(frozen=True)
class LawLine:
    """(x, y) of a law, and its band where there is one."""

    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None


@dataclass(frozen=True)
class Ladder:
    """An arm along one way of growing."""

    label: str
    place: int
    points: Sequence[Scaled]
    law: LawLine | None  # inside what was measured
    beyond: LawLine | None  # and outside
    local: Sequence[LawLine] = ()  # where no law stands, the local exponents


@dataclass(frozen=True)
class ScalePanel:
    title: str
    x_label: str
    ladders: Sequence[Ladder]


def scaling(text: Text, panels: Sequence[ScalePanel], y_label: str) -> Figure:
    """A panel per way of growing. Dashes and a paler band: beyond the largest scale, where nothing was measured."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with canvas_of((4.3 * columns + 0.6, 3.5 * rows + 0.4)) as (canvas, axes):
        axes.remove()
        grid = canvas.subplots(rows, columns, sharey=True, squeeze=False)
        places = list(grid.ravel())
        for axes, panel in zip(places, panels, strict=False):
            axes.set(xscale="log", yscale="log", xlabel=panel.x_label)
            axes.set_title(fill(panel.title, _TITLE), fontsize=9, loc="left")
            for ladder in panel.ladders:
                _draw(axes, ladder)
            decade_ticks(axes.xaxis)
        _heights(places[0], panels)
        for axes in grid[:, 0]:
            axes.set_ylabel(y_label)
        for axes in places[len(panels) :]:
            axes.remove()
        _legend(places, panels)
        return finish(canvas, text)


def _draw(axes: Axes, ladder: Ladder) -> None:
    colour, marker = colour_of(ladder.place), marker_of(ladder.place)
    seeds = [(point.x, value) for point in ladder.points for value in point.values if value > 0]
    if seeds:
        xs, ys = np.transpose(seeds)
        axes.scatter(xs, ys, color=colour, s=13, alpha=0.4, lw=0, zorder=3,
                     rasterized=len(seeds) > MANY)  # fmt: skip
    for point in ladder.points:
        low, high = point.estimate.low, point.estimate.high
        if low is not None and high is not None and high > 0:
            axes.vlines(point.x, max(low, point.estimate.mean / 10), high, color=colour, lw=1.5, zorder=4)
    drawn = [point for point in ladder.points if point.estimate.mean > 0]
    if drawn:
        means = axes.plot([p.x for p in drawn], [p.estimate.mean for p in drawn], marker, color=colour, ms=4.5,
                          zorder=5, label=short_name(ladder.label, 30))  # fmt: skip
        hover(means[0], [point.said for point in drawn])
    if ladder.law is not None:
        _line(axes, ladder.law, colour, "-", 0.2)
    if ladder.beyond is not None:
        _line(axes, ladder.beyond, colour, _DASHES, 0.08)
    for part in ladder.local:
        _line(axes, part, colour, _DOTS, 0.0)


def _heights(axes: Axes, panels: Sequence[ScalePanel]) -> None:
    """Room for seeds, means and laws: an interval of three seeds can be many times wider, and may leave the frame."""
    ladders = [ladder for panel in panels for ladder in panel.ladders]
    shown = [value for ladder in ladders for point in ladder.points for value in (*point.values, point.estimate.mean)]
    shown += [y for ladder in ladders for curve in (ladder.law, ladder.beyond) if curve for y in curve.y]
    shown = [value for value in shown if value > 0]
    if not shown:
        return
    room = max((max(shown) / min(shown)) ** 0.12, 1.05)
    axes.set_ylim(min(shown) / room, max(shown) * room)
    decade_ticks(axes.yaxis)
    if max(shown) < 12 * min(shown):
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0), numticks=12))


def _line(axes: Axes, curve: LawLine, colour: str, style: Any, alpha: float) -> None:
    axes.plot(curve.x, curve.y, color=colour, lw=1.5, ls=style, zorder=4)
    if curve.band is not None:
        axes.fill_between(curve.x, *curve.band, color=colour, alpha=alpha, lw=0, zorder=2)


def _legend(places: Sequence[Axes], panels: Sequence[ScalePanel]) -> None:
    """Of all panels: an arm may be missing from the first."""
    ladders = [ladder for panel in panels for ladder in panel.ladders]
    first = {ladder.label for ladder in panels[0].ladders}
    for label, place in {ladder.label: ladder.place for ladder in ladders if ladder.label not in first}.items():
        places[0].plot([], [], marker_of(place), color=colour_of(place), ms=5.5, label=short_name(label, 30))
    if any(ladder.law for ladder in ladders):
        places[0].plot([], [], color=MUTED, lw=1.5, label="law, and its 95 % band")
    if any(ladder.beyond for ladder in ladders):
        places[0].plot([], [], color=MUTED, lw=1.5, ls=_DASHES, label="beyond what was measured")
    if any(ladder.local for ladder in ladders):
        places[0].plot([], [], color=MUTED, lw=1.5, ls=_DOTS, label="no law: local exponents")
    legend(places[0])
