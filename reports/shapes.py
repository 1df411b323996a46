"""Whether what a table's numbers do along an axis is seen again at another scale. Pure functions of numbers.

A line is one axis at fixed values of the others: `xs` in rising order, scores (len(xs), n) of the same n seeds, larger
being better. Every verdict is `holds`, `does not hold` or `undecided`, by the interval of one quantity.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports import statistics as st
from reports.optima import LARGEST, SMALLEST, Peaks

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"
RELATED = 0.5  # a Spearman correlation below this is no order to speak of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    xs: tuple[Any, ...]  # numbers where an optimum is asked for
    scores: Floats  # (len(xs), n)


# -- where the optimum is ---------------------------------------------------------------------------------------------


def near_best(values: Mapping[float, float], within: float) -> list[float]:
    """The x, around the best without a break, at which a column of single numbers is within so much of its best."""
    xs = sorted(values)
    first, last = st.plateau([values[x] for x in xs], within, max(range(len(xs)), key=lambda i: values[xs[i]]))
    return xs[first : last + 1]


def optimum_verdict(line: Line, found: st.Estimate, published: Sequence[float]) -> str:
    """found: log10 of the best x, of seeds none of which has it at an end. published: the x that the table cannot tell
    from its best. Holds where the interval of ours meets their range."""
    if found.low is None or found.high is None:
        return OPEN
    if found.high < math.log10(min(published)) or found.low > math.log10(max(published)):
        return FAILS
    whole = math.log10(line.xs[-1]) - math.log10(line.xs[0])
    return HOLDS if found.high - found.low < whole / 2 else OPEN


def published_slope(best: Mapping[float, float]) -> float:
    """The same of single numbers: `along` → best x."""
    at, y = np.log10(list(best)), np.log10(list(best.values()))
    return float((at - at.mean()) @ y / ((at - at.mean()) @ (at - at.mean())))


def bounded(peaks: Sequence[Peaks]) -> bool:
    """Whether an optimum beyond the end of its grid could only make the slope larger: further up at the last line, or
    further down at the first. Then the slope through the ends is less than the true one, and its mean is, too."""
    ends = [one.all_ends for one in peaks]
    return not any(ends[1:-1]) and ends[0] <= {SMALLEST} and ends[-1] <= {LARGEST}


def slope_verdict(found: st.Estimate, published: float, peaks: Sequence[Peaks]) -> str:
    """An optimum at an end of its grid hides where it is: no more than a rise can be seen, where it is `bounded`."""
    if found.low is None or found.high is None:
        return OPEN
    if found.low > 0:
        return HOLDS if bounded(peaks) else OPEN
    return FAILS if not any(one.censored for one in peaks) and found.high < published else OPEN


# -- how a line runs --------------------------------------------------------------------------------------------------


def changes(lines: Sequence[Line]) -> Floats:
    """From the first to the last x along the least-squares line over their ranks, mean over the lines, by seed."""
    return np.asarray(np.mean([_change(line.scores) for line in lines], axis=0))


def _change(scores: Floats) -> Floats:
    at = np.arange(len(scores)) - (len(scores) - 1) / 2
    return np.asarray(at @ scores / (at @ at) * (len(scores) - 1))


def published_change(columns: Sequence[ArrayLike]) -> float:
    return float(np.mean([_change(np.asarray(column, dtype=float)[:, None]) for column in columns]))


def contrary_steps(lines: Sequence[Line], direction: int, tolerance: float) -> list[tuple[Any, Any]]:
    """Neighbouring x between which the scores go the other way by more than the tolerance, decidedly."""
    found = []
    for line in lines:
        for i in range(len(line.xs) - 1):
            step = st.mean_interval(line.scores[i + 1] - line.scores[i])
            if st.verdict(step, tolerance) == st.DECIDED and direction * step.mean < 0:
                found.append((line.xs[i], line.xs[i + 1]))
    return found


def monotone_verdict(found: st.Estimate, contrary: Sequence[tuple[Any, Any]], tolerance: float) -> str:
    """found: the change in the published direction."""
    if found.low is None or found.high is None:
        return OPEN
    if found.high < tolerance and found.low <= 0:
        return FAILS
    if found.low > 0:
        return FAILS if contrary else HOLDS
    return OPEN


def shortfalls(line: Line, best: int) -> list[Floats]:
    """Of every x against the best one, paired by seed: 0 is as good, positive is worse."""
    return [line.scores[best] - scores for scores in line.scores]


def plateau_verdict(lost: Sequence[st.Estimate], tolerance: float) -> str:
    """lost: the shortfalls of the x that are as good as the best in the table."""
    if any(one.low is not None and one.low > tolerance for one in lost):
        return FAILS
    inside = [one.high is not None and one.high <= tolerance for one in lost]
    return HOLDS if inside and all(inside) else OPEN


def rises(lines: Sequence[Line], start: int = 0) -> Floats:
    """From the x at `start` to the last one: means over the lines, by seed."""
    return np.asarray(np.mean([line.scores[-1] - line.scores[start] for line in lines], axis=0))


def saturation_verdict(rise: st.Estimate, last: st.Estimate, tolerance: float) -> str:
    """rise: from the first x to the last; last: from the last but one, which must be no more than the tolerance."""
    if rise.low is None or rise.high is None or last.low is None or last.high is None:
        return OPEN
    if last.low > tolerance or rise.high <= 0:
        return FAILS
    return HOLDS if rise.low > 0 and last.high <= tolerance else OPEN
