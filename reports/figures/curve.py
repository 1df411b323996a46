"""A metric against a numeric factor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from reports.content import Figure
from reports.figures.canvas import MANY, Text, canvas_of, finish, legend
from reports.figures.palette import BAND, FLOOR_STYLES, INK, MUTED, RED, colour_of, line_of, marker_of
from reports.figures.scale import log_places, log_ticks
from reports.statistics import Estimate
from reports.wording import short_name


@dataclass(frozen=True)
class Point:
    x: float
    values: Sequence[float]  # one per seed that finished
    estimate: Estimate | None
    collapsed: Sequence[bool] = ()  # one per value
    diverged: int = 0
    chosen: bool = False


@dataclass(frozen=True)
class Series:
    label: str
    place: int  # in the palette
    points: Sequence[Point]


@dataclass(frozen=True)
class Level:
    """A floor: a horizontal line."""

    label: str
    y: float


@dataclass(frozen=True)
class Mark:
    """A value on the x axis with a name."""

    x: float
    label: str


def curve(
    text: Text, series: Sequence[Series], x_label: str, y_label: str, *, log: bool, levels: Sequence[Level] = (),
    marks: Sequence[Mark] = (), band: tuple[float, float] | None = None, infinity: str = "∞",
) -> Figure:  # fmt: skip
    """A metric against a numeric factor: raw seeds, mean and interval. On a log axis, 0 stands apart at the left and
    infinity, under the name given, at the right."""
    with canvas_of((5.8, 3.9) if text.wide else (5.2, 3.6)) as (canvas, axes):
        xs = sorted({point.x for line in series for point in line.points})
        place = log_places(xs) if log else {x: x for x in xs}
        if band:
            pad = 0.012 * (max(place.values()) - min(place.values()))
            axes.axvspan(place[band[0]] - pad, place[band[1]] + pad, color=BAND, lw=0, zorder=0)
        spread = _spacing(list(place.values()))
        for rank, line in enumerate(series):
            apart = spread * min(0.22, 0.8 / len(series))  # each value's points stay nearer to it than to the next
            _draw_series(axes, line, place, (rank - (len(series) - 1) / 2) * apart, spread, log, len(series) == 1)
        for style, level in zip(FLOOR_STYLES * len(levels), levels, strict=False):
            axes.axhline(level.y, color=MUTED, lw=1.2, ls=style, zorder=1, label=level.label)
        seeds = [value for line in series for p in line.points for value in p.values]
        _keep_visible(axes, [*seeds, *(level.y for level in levels)])
        bottom = axes.get_ylim()[0]
        for line in series:
            lost = [place[p.x] for p in line.points if p.diverged]
            if lost:
                axes.plot(lost, [bottom] * len(lost), "x", color=RED, ms=8, mew=2, clip_on=False, label="diverged")
        if log:
            log_ticks(axes, place, infinity)
        for rank, mark in enumerate(marks):
            x = np.log10(mark.x) if log else mark.x
            axes.axvline(x, ymax=1.02, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1, clip_on=False)
            axes.annotate(
                mark.label, (x, 1), (0, 4 + 11 * rank), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5, color=MUTED, annotation_clip=False,
            )  # fmt: skip
        axes.set(xlabel=x_label, ylabel=y_label)
        legend(axes)
        return finish(canvas, text)


def _draw_series(
    axes: Axes, line: Series, place: dict[float, float], shift: float, spread: float, log: bool, alone: bool
) -> None:
    colour, marker = colour_of(line.place), marker_of(line.place)
    seeds = [(place[p.x] + shift, y, bad) for p in line.points for y, bad in _seeds(p)]
    jitter = np.random.default_rng(0).uniform(-0.05, 0.05, len(seeds)) * spread
    for bad in (False, True):
        here = [(x + j, y) for (x, y, is_bad), j in zip(seeds, jitter, strict=True) if is_bad is bad]
        if here:
            style: dict[str, Any] = (
                dict(marker="x", color=RED, s=34, lw=1.6) if bad else dict(color=colour, s=15, alpha=0.45, lw=0)
            )
            axes.scatter(
                *np.transpose(here), zorder=4 if bad else 3, rasterized=len(here) > MANY,
                label="collapsed" if bad else None, **style,
            )  # fmt: skip
    whole = [(place[p.x] + shift, p.estimate, p.chosen) for p in line.points if p.estimate]
    joined = [(place[p.x] + shift, p.estimate.mean)
              for p in line.points if p.estimate and (0 < p.x < np.inf or not log)]  # fmt: skip
    if joined:
        axes.plot(*np.transpose(joined), color=colour, lw=1.6, ls=line_of(line.place), zorder=4)
    for x, estimate, chosen in whole:
        if estimate.low is not None and estimate.high is not None:
            axes.vlines(x, estimate.low, estimate.high, color=colour, lw=1.8, zorder=5)
        axes.plot(x, estimate.mean, marker, color=colour, mec=INK if chosen else colour, mew=1.6, zorder=6,
                  ms=9 if chosen else 5.5)  # fmt: skip
    label = short_name(line.label, 30) + (": mean and 95 % interval" if alone else "")
    axes.plot([], [], marker=marker, color=colour, ms=5.5, lw=1.6, ls=line_of(line.place), label=label)


def _keep_visible(axes: Axes, values: Sequence[float]) -> None:
    """An interval of two or three seeds can be many times wider than all there is to see: it may leave the frame."""
    if len(values):
        low, high = min(values), max(values)
        room = 1.5 * (high - low) or abs(high) or 1.0
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, low - room), min(top, high + room))


def _seeds(point: Point) -> Iterator[tuple[float, bool]]:
    flags = point.collapsed if len(point.collapsed) else [False] * len(point.values)
    yield from zip(point.values, (bool(flag) for flag in flags), strict=True)


def _spacing(places: list[float]) -> float:
    ordered = sorted(set(places))
    gaps = np.diff(ordered)
    return float(min(gaps.min(), (ordered[-1] - ordered[0]) / 5)) if len(gaps) else 1.0
