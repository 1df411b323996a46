"""A log axis on which 0 and infinity have a place: one step and a gap beside the rest."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from reports.figures.palette import MUTED, PAPER
from reports.wording import number


def log_places(xs: Sequence[float]) -> dict[float, float]:
    """Positions of sorted values: what has no logarithm stands at the left, infinity at the right."""
    positive = [x for x in xs if 0 < x < np.inf]
    if not positive:
        return {x: float(i) for i, x in enumerate(xs)}
    step = 0.16 * max(np.log10(positive[-1]) - np.log10(positive[0]), 1.0)
    others = [x for x in xs if x <= 0]
    left = {x: float(np.log10(positive[0]) - step * (len(others) - i)) for i, x in enumerate(others)}
    right = {x: float(np.log10(positive[-1]) + step) for x in xs if x == np.inf}
    return left | {x: float(np.log10(x)) for x in positive} | right


def log_ticks(axes: Axes, place: Mapping[float, float], infinity: str = "∞") -> None:
    """Every value at its place, named where there is room; `//` where the axis is not a log axis any more."""
    labelled, last = [], -np.inf
    room = (max(place.values()) - min(place.values())) / 9
    for x, at in place.items():
        text = infinity if x == np.inf else number(x)
        labelled.append((at, text if at - last >= room else ""))
        last = at if at - last >= room else last
    axes.set_xticks([at for at, _ in labelled], [text for _, text in labelled])
    positive = [at for x, at in place.items() if 0 < x < np.inf]
    if not positive:
        return
    gaps = [(max(left) + positive[0]) / 2] if (left := [at for x, at in place.items() if x <= 0]) else []
    gaps += [(positive[-1] + at) / 2 for x, at in place.items() if x == np.inf]
    for gap in gaps:
        axes.annotate(
            "//", (gap, 0), xycoords=("data", "axes fraction"), ha="center", va="center", fontsize=11, color=MUTED,
            bbox=dict(facecolor=PAPER, edgecolor="none", pad=0.5), annotation_clip=False,
        )  # fmt: skip
