"""Where a hyperparameter is best at every scale, and how that place moves: a slope of logs with its interval. Pure.

A best value at an end of its grid is no optimum: it only says which way the optimum lies. No slope is drawn through it.
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

# (values,) log10 of what was tried, rising; (R, values) worths → (R,) log10 of the best, and (R,) whether at an edge
Finder = Callable[[Floats, Floats], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Optimum:
    """Of one scale; None as interval where a value has one seed."""

    scale: float
    value: float
    low: float | None
    high: float | None
    edge: bool  # the end of the grid is best, or is so often in resamples that the interval ends there
    seeds: int


@dataclass(frozen=True)
class Rule:
    """best value ∝ scale^slope; slope None, and a reason, where it is undecided."""

    optima: list[Optimum]
    slope: st.Estimate | None
    undecided: str


def rule(tried: Mapping[float, Mapping[float, Sequence[float]]], find: Finder, seed: int = 0) -> Rule:
    """tried: scale → value tried → one worth per seed, larger is better. Scales and values are positive (a value may be
    infinite), at least three values a scale; a worth is a finite number. ValueError else."""
    found = [_optimum(scale, tried[scale], find, seed) for scale in sorted(tried)]
    optima = [optimum for optimum, _, _ in found]
    if len(optima) < SCALES:
        return Rule(optima, None, f"{len(optima)} scales show a difference, and no rule")
    if edges := [optimum.scale for optimum in optima if optimum.edge]:
        at = ", ".join(f"{scale:g}" for scale in edges)
        return Rule(optima, None, f"the best value is at an edge of what was tried, at scale {at}")
    if any(drawn is None for _, _, drawn in found):
        return Rule(optima, None, "one seed at a value gives no interval")
    x = np.log10([optimum.scale for optimum in optima])
    k = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slopes = np.stack([drawn for _, _, drawn in found if drawn is not None], axis=1) @ k
    low, high = np.quantile(slopes, _TAILS)
    value = float(np.array([at for _, at, _ in found]) @ k)
    n = min(optimum.seeds for optimum in optima)
    return Rule(optima, st.Estimate(value, float(low), float(high), n, "bootstrap over seeds"), "")


def _optimum(
    scale: float, worths: Mapping[float, Sequence[float]], find: Finder, seed: int
) -> tuple[Optimum, float, Floats | None]:
    """With its log10, and those of resampled seeds."""
    values = sorted(worths)
    if not (0 < scale < np.inf and all(value > 0 for value in values)):
        raise ValueError("scales and values must be positive: a rule is one of logs")
    if len(values) < 3:
        raise ValueError(
            f"an optimum lies between values: at least 3 must be tried, not {len(values)} (scale {scale:g})"
        )
    samples, logs = [finite(worths[value]) for value in values], np.log10(values)
    (at,), (edge,) = find(logs, np.array([[sample.mean() for sample in samples]]))
    resampled, n = resampled_means(samples, seed), min(len(sample) for sample in samples)
    if resampled is None:
        return Optimum(scale, float(10**at), None, None, bool(edge), n), float(at), None
    drawn, at_edge = find(logs, resampled)
    edge = bool(edge) or float(at_edge.mean()) > _MOST_AT_EDGE
    low, high = np.quantile(drawn, _TAILS, method="inverted_cdf")  # an infinite value is never averaged
    return Optimum(scale, float(10**at), float(10**low), float(10**high), edge, n), float(at), drawn


def peak(logs: Floats, worths: Floats) -> tuple[Floats, Floats]:
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

    return find
