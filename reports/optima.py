"""Where a hyperparameter is best at every scale, and how that place moves: a slope of logs with its interval. Pure.

A best value at an end of its grid is no optimum: it only says which way the optimum lies. One seed whose best is there,
or the mean over seeds, is enough: no value is averaged over it, and no slope is drawn through it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports import statistics as st
from reports.intervals import Floats, finite
from reports.scaling import resampled_means

SCALES = 3  # two show a difference, and no rule
_TAILS = ((1 - st.LEVEL) / 2, (1 + st.LEVEL) / 2)
_MOST_AT_EDGE = 0.05  # of the resamples of a scale: beyond, the edge cuts off its interval
SMALLEST, LARGEST = "smallest", "largest"


@dataclass(frozen=True)
class Finder:
    """What is best of what was tried: log10 of the values (values,), rising; worths (R, values) → log10 of the best
    (R,), and whether at an edge (R,)."""

    place: Callable[[Floats, Floats], tuple[Floats, Floats]]
    by_seed: bool  # every seed shows its own best; else only their mean does

    def __call__(self, logs: Floats, worths: Floats) -> tuple[Floats, Floats]:
        return self.place(logs, worths)


@dataclass(frozen=True)
class Peaks:
    """Where every seed has its best, and where their mean has."""

    logs: Floats  # (n,) log10
    ends: tuple[str, ...]  # of each seed: SMALLEST or LARGEST where its best is that, else empty
    mean_log: float
    mean_end: str

    @property
    def censored(self) -> bool:
        return any(self.all_ends)

    @property
    def all_ends(self) -> set[str]:
        return {*self.ends, self.mean_end} - {""}


@dataclass(frozen=True)
class Optimum:
    """Of one scale; None as interval where a value has one seed."""

    scale: float
    value: float
    low: float | None
    high: float | None
    edge: bool  # an end of the grid is best: the optimum may lie beyond, and the value is not one
    seeds: int


@dataclass(frozen=True)
class Rule:
    """best value ∝ scale^slope; slope None, and a reason, where it is undecided."""

    optima: list[Optimum]
    slope: st.Estimate | None
    undecided: str


def rule(tried: Mapping[float, Mapping[float, Sequence[float]]], find: Finder, seed: int = 0) -> Rule:
    """tried: scale → value tried → one worth per seed, the same seeds in one order, larger is better. Scales and values
    are positive (a value may be infinite), at least three values a scale; a worth is a finite number. ValueError else.
    """
    found = [_of_seeds(scale, tried[scale], find) if find.by_seed else _of_means(scale, tried[scale], find, seed)
             for scale in sorted(tried)]  # fmt: skip
    optima = [optimum for optimum, _ in found]
    if len(optima) < SCALES:
        return Rule(optima, None, f"{len(optima)} scales show a difference, and no rule")
    if edges := [optimum.scale for optimum in optima if optimum.edge]:
        at = ", ".join(f"{scale:g}" for scale in edges)
        return Rule(optima, None, f"the best value is at an edge of what was tried, at scale {at}")
    if any(optimum.seeds < 2 for optimum in optima):
        return Rule(optima, None, "one seed at a value gives no interval")
    if len({len(logs) for _, logs in found}) > 1 or not len(found[0][1]):
        return Rule(optima, None, "not all values were tried on the same seeds")
    slopes = slopes_of([optimum.scale for optimum in optima], [logs for _, logs in found])
    if find.by_seed:
        return Rule(optima, st.mean_interval(slopes), "")
    low, high = np.quantile(slopes[1:], _TAILS)
    n = min(optimum.seeds for optimum in optima)
    return Rule(optima, st.Estimate(float(slopes[0]), float(low), float(high), n, "bootstrap over seeds"), "")


def slopes_of(scales: Sequence[float], logs: Sequence[Floats]) -> Floats:
    """Of log10 best values, (n,) at every scale, on log10 scale by least squares: (n,)."""
    x = np.log10(scales)
    k = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return np.stack(logs, axis=1) @ k


def _of_seeds(scale: float, worths: Mapping[float, Sequence[float]], find: Finder) -> tuple[Optimum, Floats]:
    """With log10 of every seed's best; none where the values have different seeds."""
    values, samples, logs = _checked(scale, worths)
    n = min(len(sample) for sample in samples)
    if any(len(sample) > n for sample in samples):
        (at,), (edge,) = find(logs, np.array([[sample.mean() for sample in samples]]))
        return Optimum(scale, float(10**at), None, None, bool(edge), n), np.empty(0)
    found = peaks(values, np.stack(samples))
    if found.censored:
        return Optimum(scale, float(10**found.mean_log), None, None, True, n), found.logs
    best = st.mean_interval(found.logs)
    low, high = (None if bound is None else float(10**bound) for bound in (best.low, best.high))
    return Optimum(scale, float(10**best.mean), low, high, False, n), found.logs


def _of_means(scale: float, worths: Mapping[float, Sequence[float]], find: Finder, seed: int) -> tuple[Optimum, Floats]:
    """With log10 of the best by the means, then by those of resampled seeds. Where an end of the grid is best too often
    in these, it cuts off the interval."""
    _, samples, logs = _checked(scale, worths)
    (at,), (edge,) = find(logs, np.array([[sample.mean() for sample in samples]]))
    resampled, n = resampled_means(samples, seed), min(len(sample) for sample in samples)
    if resampled is None:
        return Optimum(scale, float(10**at), None, None, bool(edge), n), np.array([at])
    drawn, at_edge = find(logs, resampled)
    edge = bool(edge) or float(at_edge.mean()) > _MOST_AT_EDGE
    low, high = np.quantile(drawn, _TAILS, method="inverted_cdf")  # an infinite value is never averaged
    return Optimum(scale, float(10**at), float(10**low), float(10**high), edge, n), np.array([at, *drawn])


def _checked(scale: float, worths: Mapping[float, Sequence[float]]) -> tuple[list[float], list[Floats], Floats]:
    values = sorted(worths)
    if not (0 < scale < np.inf and all(value > 0 for value in values)):
        raise ValueError("scales and values must be positive: a rule is one of logs")
    if len(values) < 3:
        raise ValueError(
            f"an optimum lies between values: at least 3 must be tried, not {len(values)} (scale {scale:g})"
        )
    return values, [finite(worths[value]) for value in values], np.log10(values)


# -- what is best -----------------------------------------------------------------------------------------------------


def peaks(values: Sequence[float], worths: Floats) -> Peaks:
    """values > 0, rising, at least three; worths (values, n seeds), larger is better."""
    logs = np.log10(values)
    at, edge = peak(logs, np.vstack([worths.T, worths.mean(axis=1)]))
    ends = ["" if not e else SMALLEST if x == logs[0] else LARGEST for x, e in zip(at, edge, strict=True)]
    return Peaks(at[:-1], tuple(ends[:-1]), float(at[-1]), ends[-1])


def _vertex(logs: Floats, worths: Floats) -> tuple[Floats, Floats]:
    """The vertex of the parabola through the best value and its neighbours, on a log axis; at an edge, the edge."""
    best = worths.argmax(axis=1)
    edge = (best == 0) | (best == len(logs) - 1)
    i = np.clip(best, 1, len(logs) - 2)
    rows = np.arange(len(worths))
    left, right = logs[i] - logs[i - 1], logs[i + 1] - logs[i]
    down, up = (worths[rows, i] - worths[rows, i - 1]) / left, (worths[rows, i + 1] - worths[rows, i]) / right
    bend = down - up
    vertex = logs[i] + np.where(bend > 0, (down * right + up * left) / np.where(bend > 0, 2 * bend, 1.0), 0.0)
    return np.where(edge, logs[best], vertex), edge


peak = Finder(_vertex, by_seed=True)


def enough(tolerance: float) -> Finder:
    """Finds the smallest value from which on none is worse than the largest by more than `tolerance`, linear on the log
    axis between the last that is and the first that is not. At an edge where all are as good, or none but the last."""

    def find(logs: Floats, worths: Floats) -> tuple[Floats, Floats]:
        short = worths[:, -1:] - worths  # of the largest, (R, values)
        bad = short > tolerance
        last = len(logs) - 1 - bad[:, ::-1].argmax(axis=1)  # the largest value that is not enough
        none = ~bad.any(axis=1)
        i = np.clip(last, 0, len(logs) - 2)
        rows = np.arange(len(worths))
        before, after = short[rows, i], short[rows, i + 1]
        share = (before - tolerance) / np.where(before > after, before - after, 1.0)
        edge = none | (i == len(logs) - 2)
        finite_logs = np.where(np.isfinite(logs), logs, logs[:-1].max())
        between = finite_logs[i] + share * (finite_logs[i + 1] - finite_logs[i])
        return np.where(none, logs[0], np.where(edge, logs[i + 1], between)), edge

    return Finder(find, by_seed=False)
