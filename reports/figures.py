"""Plain values → figures as SVG and PNG. One palette: an arm has the same colour and marker in every figure.

Colours are tokens: `inline` turns them into CSS variables, so that one SVG serves the light and the dark page.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from reports.content import Figure
from reports.statistics import Estimate
from reports.wording import number, short_name

INK, MUTED, GRID, PAPER, BAND, RED = "#1b2631", "#5a6773", "#dde2e7", "#fffffe", "#dfe9e1", "#c1121f"
# Okabe and Ito's palette without its yellow and black, darkened to 3 : 1 on white; the page has lighter twins for dark.
PALETTE = ("#0067a5", "#c65102", "#00795c", "#a2437b", "#8a6a00", "#2f8fbf")
MARKERS = ("o", "s", "D", "^", "v", "P")
FLOOR_STYLES: tuple[tuple[int, tuple[float, ...]], ...] = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_TOKENS = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "card", BAND: "band", RED: "red"} | {
    colour: f"arm-{place}" for place, colour in enumerate(PALETTE)
}
_STYLE: dict[Any, Any] = {
    "font.size": 10, "font.family": "sans-serif", "text.parse_math": False, "svg.fonttype": "none",
    "svg.hashsalt": "reports", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "figure.facecolor": PAPER, "axes.facecolor": "none",
    "legend.frameon": False, "lines.linewidth": 1.8, "axes.linewidth": 0.8, "figure.constrained_layout.use": True,
}  # fmt: skip
_MANY = 1500  # marks from which a layer is stored as pixels: an SVG of ten thousand circles opens slowly
_COLD_TO_WARM: Colormap = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.12, 0.9, 256)))  # on both papers


def colour_of(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def marker_of(place: int) -> str:
    return MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]


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


@dataclass(frozen=True)
class Row:
    """One line of a dot plot."""

    label: str
    place: int
    values: Sequence[float]
    estimate: Estimate | None
    floor: bool = False
    diverged: int = 0


@dataclass(frozen=True)
class Curve:
    """A metric per epoch: one row of `values` per seed, NaN where it was not measured."""

    label: str
    shade: float | None  # in [0, 1] on the scale of the cells; None: the arm's colour
    values: np.ndarray
    place: int = 0


@dataclass(frozen=True)
class Text:
    """What a figure says about itself."""

    name: str
    caption: str
    alt: str
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    wide: bool = False


def curve(
    text: Text, series: Sequence[Series], x_label: str, y_label: str, *, log: bool, levels: Sequence[Level] = (),
    marks: Sequence[Mark] = (), band: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """A metric against a numeric factor: raw seeds, mean and interval; on a log axis, 0 stands apart at the left."""
    with _canvas((5.8, 3.9) if text.wide else (5.2, 3.6)) as (canvas, axes):
        xs = sorted({point.x for line in series for point in line.points})
        place = _log_places(xs) if log else {x: x for x in xs}
        if band:
            pad = 0.012 * (max(place.values()) - min(place.values()))
            axes.axvspan(place[band[0]] - pad, place[band[1]] + pad, color=BAND, lw=0, zorder=0)
        spread = _spacing(list(place.values()))
        for rank, line in enumerate(series):
            _draw_series(axes, line, place, (rank - (len(series) - 1) / 2) * spread * 0.22, spread, log)
        for style, level in zip(FLOOR_STYLES * len(levels), levels, strict=False):
            axes.axhline(level.y, color=MUTED, lw=1.2, ls=style, zorder=1, label=level.label)
        bottom = axes.get_ylim()[0]
        for line in series:
            lost = [place[p.x] for p in line.points if p.diverged]
            if lost:
                axes.plot(lost, [bottom] * len(lost), "x", color=RED, ms=8, mew=2, clip_on=False, label="diverged")
        if log:
            _log_ticks(axes, place)
        for rank, mark in enumerate(marks):
            x = np.log10(mark.x) if log else mark.x
            axes.axvline(x, ymax=1.02, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1, clip_on=False)
            axes.annotate(
                mark.label, (x, 1), (0, 4 + 11 * rank), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5, color=MUTED, annotation_clip=False,
            )  # fmt: skip
        axes.set(xlabel=x_label, ylabel=y_label)
        _legend(axes)
        return _finish(canvas, text)


def _draw_series(axes: Axes, line: Series, place: dict[float, float], shift: float, spread: float, log: bool) -> None:
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
                *np.transpose(here), zorder=4 if bad else 3, rasterized=len(here) > _MANY,
                label="collapsed" if bad else None, **style,
            )  # fmt: skip
    whole = [(place[p.x] + shift, p.estimate, p.chosen) for p in line.points if p.estimate]
    joined = [(place[p.x] + shift, p.estimate.mean) for p in line.points if p.estimate and (p.x > 0 or not log)]
    if joined:
        axes.plot(*np.transpose(joined), color=colour, lw=1.6, zorder=4)
    for x, estimate, chosen in whole:
        if estimate.low is not None and estimate.high is not None:
            axes.vlines(x, estimate.low, estimate.high, color=colour, lw=1.8, zorder=5)
        axes.plot(x, estimate.mean, marker, color=colour, mec=INK if chosen else colour, mew=1.6, zorder=6,
                  ms=9 if chosen else 5.5)  # fmt: skip
    label = f"{short_name(line.label)}: mean and 95 % interval"
    axes.plot([], [], marker=marker, color=colour, ms=5.5, lw=1.6, label=label)


def _seeds(point: Point) -> Iterator[tuple[float, bool]]:
    flags = point.collapsed if len(point.collapsed) else [False] * len(point.values)
    yield from zip(point.values, (bool(flag) for flag in flags), strict=True)


def _log_places(xs: Sequence[float]) -> dict[float, float]:
    """Positions on a log axis; values that have no logarithm stand one step and a gap to the left."""
    positive = [x for x in xs if x > 0]
    if not positive:
        return {x: float(i) for i, x in enumerate(xs)}
    width = max(np.log10(positive[-1]) - np.log10(positive[0]), 1.0)
    others = [x for x in xs if x <= 0]
    left = {x: float(np.log10(positive[0]) - width * 0.16 * (len(others) - i)) for i, x in enumerate(others)}
    return left | {x: float(np.log10(x)) for x in positive}


def _log_ticks(axes: Axes, place: dict[float, float]) -> None:
    labelled, last = [], -np.inf
    room = (max(place.values()) - min(place.values())) / 9
    for x, at in place.items():
        labelled.append((at, number(x) if at - last >= room else ""))
        last = at if at - last >= room else last
    axes.set_xticks([at for at, _ in labelled], [text for _, text in labelled])
    positive = [at for x, at in place.items() if x > 0]
    if len(positive) < len(place) and positive:
        gap = (max(at for x, at in place.items() if x <= 0) + positive[0]) / 2
        axes.annotate(
            "//", (gap, 0), xycoords=("data", "axes fraction"), ha="center", va="center", fontsize=11, color=MUTED,
            bbox=dict(facecolor=PAPER, edgecolor="none", pad=0.5), annotation_clip=False,
        )  # fmt: skip


def _spacing(places: list[float]) -> float:
    ordered = sorted(set(places))
    gaps = np.diff(ordered)
    return float(min(gaps.min(), (ordered[-1] - ordered[0]) / 5)) if len(gaps) else 1.0


def dots(text: Text, rows: Sequence[Row], x_label: str, levels: Sequence[Level] = ()) -> Figure:
    """One line per row: raw seeds, mean, interval. Floors are hollow and grey."""
    with _canvas((5.2, 1.1 + 0.4 * max(len(rows), 2))) as (canvas, axes):
        for y, row in enumerate(rows):
            colour = MUTED if row.floor else colour_of(row.place)
            jitter = np.random.default_rng(y).uniform(-0.13, 0.13, len(row.values))
            axes.scatter(row.values, y + jitter, s=15, color=colour, alpha=0.45, lw=0, zorder=3,
                         rasterized=len(row.values) > _MANY)  # fmt: skip
            if row.estimate:
                if row.estimate.low is not None and row.estimate.high is not None:
                    axes.hlines(y, row.estimate.low, row.estimate.high, color=colour, lw=2, zorder=4)
                axes.plot(row.estimate.mean, y, "o" if row.floor else marker_of(row.place), ms=7, color=colour,
                          mfc=PAPER if row.floor else colour, zorder=5)  # fmt: skip
            elif not row.diverged:
                axes.annotate("no evidence" if not len(row.values) else "incomplete", (0.02, y), va="center",
                              xycoords=("axes fraction", "data"), color=MUTED, fontsize=8.5)  # fmt: skip
            if row.diverged:
                axes.plot(0.02, y, "x", color=RED, ms=8, mew=2, transform=axes.get_yaxis_transform())
        axes.set_yticks(range(len(rows)), [short_name(row.label, 22) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)
        return _finish(canvas, text)


def effect(text: Text, estimate: Estimate, values: Sequence[float], rope: float, x_label: str) -> Figure:
    """The primary difference against zero and the region of practical equivalence."""
    with _canvas((4.8, 1.35)) as (canvas, axes):
        axes.axvspan(-rope, rope, color=BAND, lw=0, zorder=0)
        axes.axvline(0, color=MUTED, lw=1)
        axes.scatter(values, np.full(len(values), 0.0) + 0.28, s=16, color=MUTED, alpha=0.6, lw=0, zorder=3)
        if estimate.low is not None and estimate.high is not None:
            axes.hlines(0, estimate.low, estimate.high, color=INK, lw=2.4, zorder=4)
        axes.plot(estimate.mean, 0, "o", color=INK, ms=8, zorder=5)
        axes.set(ylim=(-0.6, 0.65), yticks=[], xlabel=x_label)
        axes.spines["left"].set_visible(False)
        return _finish(canvas, text)


def losses(
    text: Text, x: np.ndarray, y: np.ndarray, lambdas: np.ndarray, collapsed: np.ndarray, floor: float,
    ceilings: Sequence[float],
) -> Figure:  # fmt: skip
    """SIGReg loss against prediction loss at the end of training, coloured by λ; λ = 0 is hollow."""
    with _canvas((5.2, 3.7)) as (canvas, axes):
        positive = lambdas > 0
        norm: Normalize = _log_norm(lambdas[positive])
        for mask, marker, label in (
            (positive & ~collapsed, "o", None),
            (positive & collapsed, "X", "collapsed at λ > 0"),
        ):
            if mask.any():
                axes.scatter(x[mask], y[mask], c=lambdas[mask], cmap=_COLD_TO_WARM, norm=norm, s=44, marker=marker,
                             edgecolor=INK, lw=0.7, zorder=3, rasterized=mask.sum() > _MANY, label=label)  # fmt: skip
        if (~positive).any():
            axes.scatter(x[~positive], y[~positive], facecolor=PAPER, edgecolor=RED, s=48, lw=1.6, zorder=3,
                         label="λ = 0")  # fmt: skip
        axes.axhline(floor, color=MUTED, lw=1.2, ls=FLOOR_STYLES[0], label=f"floor {floor:.2f}: isotropic Gaussian")
        for ceiling in ceilings:
            axes.axhline(ceiling, color=RED, lw=1.2, ls=FLOOR_STYLES[1], label=f"ceiling {ceiling:.1f}: collapsed")
        axes.set_yscale("log")
        if (x > 0).all():
            axes.set_xscale("log")
        for scale in (axes.xaxis, axes.yaxis):
            _decade_ticks(scale)
        axes.set(xlabel="prediction loss, last epoch (mean squared distance to the centre)",
                 ylabel="SIGReg loss, last epoch (statistic)")  # fmt: skip
        if positive.any():
            bar = canvas.colorbar(ScalarMappable(norm, _COLD_TO_WARM), ax=axes, label="λ", pad=0.02)
            ticks = _thin(np.unique(lambdas[positive]), 8)
            bar.set_ticks(list(ticks), labels=[number(tick) for tick in ticks])
            bar.ax.minorticks_off()
            bar.outline.set_visible(False)
        _legend(axes)
        return _finish(canvas, text)


def _decade_ticks(scale: Axis) -> None:
    """Decades, with 2 and 5 where there is room, as plain numbers: matplotlib's own are set in mathematical markup."""
    if scale.get_scale() == "log":
        low, high = scale.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high < 150 * low else (1.0,)
        scale.set_major_locator(LogLocator(subs=subs, numticks=12))
        scale.set_major_formatter(FuncFormatter(lambda value, _: number(float(f"{value:.3g}"))))
        scale.set_minor_formatter(NullFormatter())


def _log_norm(values: np.ndarray) -> LogNorm:
    low, high = (values.min(), values.max()) if len(values) else (0.1, 1.0)
    return LogNorm(low, high) if high > low else LogNorm(low / 2, high * 2)


def _thin(values: np.ndarray, most: int) -> np.ndarray:
    return values if len(values) <= most else values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def training(
    text: Text, curves: Sequence[Curve], y_label: str, y_limits: tuple[float, float] | None, most_seeds: int = 120
) -> Figure:
    """A metric against the epoch: means thick, seeds thin (left out where there are too many to be told apart)."""
    with _canvas((5.2, 3.4)) as (canvas, axes):
        seeds_shown = sum(len(line.values) for line in curves) <= most_seeds
        for line in curves:
            colour = colour_of(line.place) if line.shade is None else _COLD_TO_WARM(line.shade)
            if seeds_shown and len(line.values) > 1:
                threads = [_measured(values) for values in line.values]
                axes.add_collection(LineCollection(threads, colors=[colour], lw=0.7, alpha=0.45, zorder=2))
            seen = np.isfinite(line.values).sum(axis=0)
            whole = seen == seen.max()  # where a seed is missing, the mean would jump
            epochs = np.flatnonzero(whole & (seen > 0))
            if len(epochs):
                axes.plot(epochs + 1, np.nanmean(line.values[:, epochs], axis=0), color=colour, zorder=3,
                          marker="o" if len(epochs) == 1 else None, label=short_name(line.label, 30))  # fmt: skip
        axes.autoscale_view()
        axes.set(xlabel="epoch", ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if y_limits:
            axes.set_ylim(*y_limits)
        if len(curves) <= 14:
            _legend(axes)
        return _finish(canvas, text)


def _measured(values: np.ndarray) -> np.ndarray:
    where = np.flatnonzero(np.isfinite(values))
    return np.column_stack([where + 1, values[where]])


def _legend(axes: Axes) -> None:
    """Below the plot, every label once."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axes.figure.legend(
            list(once.values()), list(once), loc="outside lower center", ncols=2, fontsize=8.5, labelcolor=INK,
            handlelength=2.2, columnspacing=1.4,
        )  # fmt: skip


@contextmanager
def _canvas(inches: tuple[float, float]) -> Iterator[tuple[Canvas, Axes]]:
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=inches)
        FigureCanvasAgg(canvas)
        yield canvas, canvas.subplots()


def _finish(canvas: Canvas, text: Text) -> Figure:
    svg, png = io.StringIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names may hold any script; the SVG keeps them
        canvas.savefig(svg, format="svg", metadata={"Date": None})
        canvas.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return Figure(text.name, text.caption, text.alt, svg.getvalue(), png.getvalue(), text.data, text.wide)


def inline(svg: str, name: str) -> str:
    """An SVG file's text → an element for a page: own ids, colours as CSS variables, sized by the page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', body)
    for colour, token in _TOKENS.items():
        body = re.sub(colour, f"var(--{token})", body, flags=re.IGNORECASE)
    return body


def css_tokens() -> dict[str, str]:
    """Token → colour on light paper, for the page's style sheet."""
    return {token: colour for colour, token in _TOKENS.items()}
