"""The paper of every figure: its style, its legend and tick marks, and how it becomes SVG, PNG and PDF."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports.content import Figure
from reports.figures import hover
from reports.figures.palette import GRID, INK, MUTED, PAPER
from reports.wording import number

_STYLE: dict[Any, Any] = {
    "font.size": 10, "font.family": "sans-serif", "text.parse_math": False, "svg.fonttype": "none",
    "svg.hashsalt": "reports", "pdf.fonttype": 42, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "figure.facecolor": PAPER, "axes.facecolor": "none",
    "legend.frameon": False, "lines.linewidth": 1.8, "axes.linewidth": 0.8, "figure.constrained_layout.use": True,
}  # fmt: skip
MANY = 1500  # marks from which a layer is stored as pixels: an SVG of ten thousand circles opens slowly


@dataclass(frozen=True)
class Text:
    """What a figure says about itself."""

    name: str
    caption: str
    alt: str
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    wide: bool = False


def legend(axes: Axes) -> None:
    """Below the plot, every label once."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axes.figure.legend(
            list(once.values()), list(once), loc="outside lower center", ncols=2, fontsize=8.5, labelcolor=INK,
            handlelength=2.2, columnspacing=1.4,
        )  # fmt: skip


@contextmanager
def canvas_of(inches: tuple[float, float]) -> Iterator[tuple[Canvas, Axes]]:
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=inches)
        FigureCanvasAgg(canvas)
        yield canvas, canvas.subplots()


def finish(canvas: Canvas, text: Text) -> Figure:
    """The three files of a figure; the same figure gives the same bytes (none says when it was made)."""
    marked = hover.mark(canvas, text.data)
    svg, png, pdf = io.StringIO(), io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names may hold any script; the SVG keeps them
        canvas.savefig(svg, format="svg", metadata={"Date": None})
        canvas.savefig(png, format="png", dpi=160, metadata={"Software": None})
        canvas.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    titled = hover.write(svg.getvalue(), marked)
    return Figure(text.name, text.caption, text.alt, titled, png.getvalue(), text.data, text.wide, pdf.getvalue())


def decade_ticks(scale: Axis) -> None:
    """Decades, with 2 and 5 where there is room, as plain numbers: matplotlib's own are set in mathematical markup."""
    if scale.get_scale() == "log":
        low, high = scale.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high < 150 * low else (1.0,)
        scale.set_major_locator(LogLocator(subs=subs, numticks=12))
        scale.set_major_formatter(FuncFormatter(lambda value, _: number(float(f"{value:.3g}"))))
        scale.set_minor_formatter(NullFormatter())


def log_norm(values: np.ndarray) -> LogNorm:
    low, high = (values.min(), values.max()) if len(values) else (0.1, 1.0)
    return LogNorm(low, high) if high > low else LogNorm(low / 2, high * 2)
