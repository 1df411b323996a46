"""Published numbers beside ours: cell against cell, and what known differences do one after another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.content import Figure
from reports.figures.canvas import Text, canvas_of, decade_ticks, finish, legend
from reports.figures.dots import said
from reports.figures.hover import hover
from reports.figures.palette import INK, MUTED, PAPER, colour_of, marker_of
from reports.statistics import Estimate
from reports.wording import minus, short_name


@dataclass(frozen=True)
class Twin:
    """A cell that both have."""

    label: str
    group: str  # of one colour
    published: float
    ours: Estimate


@dataclass(frozen=True)
class Spot:
    """Where every seed has its best along one line, and where the paper has it."""

    label: str
    values: tuple[float, ...]
    ends: tuple[str, ...]  # of each seed: `smallest` or `largest` where its best is the end of what was tried
    published: tuple[float, float] | None  # what the paper cannot tell from its best


@dataclass(frozen=True)
class Step:
    """What one difference does, from where the one before it ended."""

    label: str
    effect: Estimate
    total: bool = False  # stands by itself, on the floor of the figure


def twins(text: Text, cells: Sequence[Twin], x_label: str, y_label: str) -> Figure:
    """Ours over the published numbers, means with intervals; the line of equality where it passes through the plot."""
    groups = list(dict.fromkeys(cell.group for cell in cells))
    with canvas_of((5.2, 4.0)) as (canvas, axes):
        for place, group in enumerate(groups):
            colour = colour_of(place)
            mine = [cell for cell in cells if cell.group == group]
            for cell in mine:
                if cell.ours.low is not None and cell.ours.high is not None:
                    axes.vlines(cell.published, cell.ours.low, cell.ours.high, color=colour, lw=1.6, zorder=3)
            dots = axes.plot([cell.published for cell in mine], [cell.ours.mean for cell in mine], marker_of(place),
                             ls="none", color=colour, ms=6, zorder=4, label=short_name(group, 30) or None)  # fmt: skip
            hover(dots[0], [f"{cell.label} · published {cell.published:.4g} · {said(cell.ours)}" for cell in mine])
        means, published = [cell.ours.mean for cell in cells], [cell.published for cell in cells]
        if min(means) <= max(published) and min(published) <= max(means):
            axes.axline((published[0], published[0]), slope=1, color=MUTED, lw=1, ls=(0, (5, 2)), label="equal")
        axes.set(xlabel=x_label, ylabel=y_label)
        legend(axes)
        return finish(canvas, text)


def against(
    text: Text, estimate: Estimate, values: Sequence[float], marks: Sequence[tuple[float, str]], x_label: str
) -> Figure:
    """One number by seed, with its interval, and named lines that it is held against."""
    with canvas_of((4.8, 1.55)) as (canvas, axes):
        for place, (x, label) in enumerate(marks):
            axes.axvline(x, color=MUTED, lw=1, ls=("-", (0, (5, 2)), (0, (1, 1.5)))[place % 3])
            axes.annotate(label, (x, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
                          ha="center", va="bottom", fontsize=8.5, color=MUTED)  # fmt: skip
        seeds = axes.scatter(values, [0.28] * len(values), s=16, color=MUTED, alpha=0.6, lw=0, zorder=3)
        hover(seeds, [f"one seed · {minus(f'{value:.3g}')}" for value in values])
        if estimate.low is not None and estimate.high is not None:
            axes.hlines(0, estimate.low, estimate.high, color=INK, lw=2.4, zorder=4)
        hover(axes.plot(estimate.mean, 0, "o", color=INK, ms=8, zorder=5)[0], [said(estimate)])
        axes.set(ylim=(-0.6, 0.65), yticks=[], xlabel=x_label)
        axes.spines["left"].set_visible(False)
        return finish(canvas, text)


def spots(text: Text, rows: Sequence[Spot], x_label: str) -> Figure:
    """Best values by line on a log axis; hollow arrows are ends of the grid, beyond which the best may lie."""
    with canvas_of((5.2, 1.1 + 0.42 * max(len(rows), 2))) as (canvas, axes):
        for y, row in enumerate(rows):
            if row.published is not None:
                axes.hlines(y, *row.published, color=MUTED, lw=7, alpha=0.3, zorder=2, label="paper, within tolerance")
            lift = np.linspace(-0.2, 0.2, len(row.values)) if len(row.values) > 1 else np.zeros(1)
            for value, end, rise in zip(row.values, row.ends, lift, strict=True):
                marker, label = _SPOTS[end]
                drawn = axes.plot(value, y + rise, marker, ls="none", color=INK, mfc=INK if marker == "o" else PAPER,
                                  ms=6, zorder=4, label=label)[0]  # fmt: skip
                hover(drawn, [f"{row.label} · one seed · {value:.3g}{f', the {end} tried' if end else ''}"])
        axes.set(xscale="log", xlabel=x_label, ylim=(len(rows) - 0.5, -0.5))
        decade_ticks(axes.xaxis)
        axes.set_yticks(range(len(rows)), [short_name(row.label, 30) for row in rows])
        axes.grid(axis="y", visible=False)
        legend(axes)
        return finish(canvas, text)


_SPOTS = {
    "": ("o", "best of a seed"), "smallest": ("<", "best is the smallest tried"),
    "largest": (">", "best is the largest tried"),
}  # fmt: skip


def waterfall(text: Text, steps: Sequence[Step], start: float, x_label: str) -> Figure:
    """From `start` on, every effect is laid where the one before it ended; totals are hollow and lie where they are."""
    with canvas_of((5.6, 1.2 + 0.42 * max(len(steps), 2))) as (canvas, axes):
        axes.axvline(start, color=MUTED, lw=1, ls=(0, (5, 2)), label="without any of them")
        at = start
        for y, step in enumerate(steps):
            origin = start if step.total else at
            end = origin + step.effect.mean
            axes.barh(y, step.effect.mean, left=origin, height=0.5, color=PAPER if step.total else colour_of(0),
                      edgecolor=INK if step.total else colour_of(0), lw=1.2, zorder=3)  # fmt: skip
            if step.effect.low is not None and step.effect.high is not None:
                axes.hlines(y, origin + step.effect.low, origin + step.effect.high, color=INK, lw=1.4, zorder=4)
            hover(axes.plot(end, y, "o", color=INK, ms=4, zorder=5)[0], [f"{step.label} · {said(step.effect)}"])
            at = at if step.total else end
        axes.set_yticks(range(len(steps)), [short_name(step.label, 30) for step in steps])
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)
        legend(axes)
        return finish(canvas, text)
