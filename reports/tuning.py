"""Tuning curves: what the best of n trials of a random search is worth, and where one search overtakes another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from reports.intervals import LEVEL, Floats

_RESAMPLES = 2_000  # each costs a curve; the band moves by less than a tenth of its width with 10,000
_LONGEST = 200  # points of a curve


def expected_best(values: ArrayLike, n: int) -> float:
    """Unbiased expectation of the best of n draws without replacement from N i.i.d. scores (larger is better):
    Σ_i v_(i)·C(i−1, n−1)/C(N, n). Holds for i.i.d. random search; not for adaptive search. ValueError unless 1 ≤ n ≤ N.
    """
    v = np.sort(np.asarray(values, dtype=float))
    if not 1 <= n <= len(v):
        raise ValueError(f"the best of {n} cannot be estimated from {len(v)} values")
    return float(v @ _weights(len(v), n))


def _weights(size: int, n: int) -> Floats:
    """Of the sorted values: the probability that each is the best of n."""
    rank = np.arange(n, size + 1)  # smaller ranks cannot be the best of n
    weight = np.exp(_log_choose(rank - 1, n - 1) - _log_choose(np.array([size]), n))
    return np.concatenate([np.zeros(n - 1), weight])


def _log_choose(n: np.ndarray, k: int) -> Floats:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


@dataclass(frozen=True)
class TuningCurve:
    """Expected best of `trials` draws, and its 95 % band; the band is NaN where there is one value only."""

    trials: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    n: int  # values behind it


def tuning_curve(values: ArrayLike, seed: int = 0) -> TuningCurve:
    """Expected best of 1..N of the N scores of a random search (larger is better), for at most 200 draws.

    The band bootstraps the scores, point by point. It is no wider than what was found: no resample holds a score
    better than the best one, so towards N it says little of what a longer search might find (Dodge et al. 2019, "Show
    Your Work"; Tang et al. 2020). A trial that diverged is a draw like the others: give it the score that it is worth;
    one that was pruned has none, and its search no curve (`tuning_curve_allowed`). ValueError on what is not finite.
    """
    v = np.sort(np.asarray(values, dtype=float))
    if v.ndim != 1 or len(v) == 0 or not np.isfinite(v).all():
        raise ValueError("a tuning curve needs a list of at least one finite score")
    trials = list(range(1, min(len(v), _LONGEST) + 1))
    weights = np.stack([_weights(len(v), n) for n in trials], axis=1)  # (N, trials)
    if len(v) == 1:
        return TuningCurve(trials, [float(v[0])], [float("nan")], [float("nan")], 1)
    rng, block, curves = np.random.default_rng(seed), max(1, 2_000_000 // len(v)), []
    for start in range(0, _RESAMPLES, block):
        drawn = v[np.sort(rng.integers(0, len(v), (min(block, _RESAMPLES - start), len(v))), axis=1)]
        curves.append(drawn @ weights)
    low, high = np.quantile(np.concatenate(curves), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return TuningCurve(trials, (v @ weights).tolist(), low.tolist(), high.tolist(), len(v))


def crossings(a: Sequence[float], b: Sequence[float]) -> list[int]:
    """The n (counted from 1) from which on curve a is on the other side of curve b than before; as far as both go.

    Equal points belong to neither side: curves that meet and part again as they came do not cross.
    """
    found, before = [], 0.0
    for n, (one, other) in enumerate(zip(a, b, strict=False), start=1):
        side = float(np.sign(one - other))
        if side and before and side != before:
            found.append(n)
        before = side or before
    return found


APPROXIMATE, REFUSED = "approximate", "refused"  # the first word of what `tuning_curve_allowed` says


def tuning_curve_allowed(sampler: str, stopping: str | Mapping[str, Any] | None = None) -> str | None:
    """None where trials are i.i.d. draws; else a sentence that begins with APPROXIMATE (draw the curve and say so) or
    REFUSED (draw none). `sampler`, `stopping`: as in the sweep file."""
    if stopping:
        name = stopping if isinstance(stopping, str) else str(stopping.get("name", "early stopping"))
        return f"{REFUSED}: {name} stopped trials early, and a score that nobody waited for cannot enter"
    match sampler:
        case "random":
            return None
        case "qmc":
            return f"{APPROXIMATE}: quasi-random points are spread more evenly than the independent draws it assumes"
        case "grid":
            return f"{APPROXIMATE}: the points of a grid, taken as if they came in random order"
    return f"{REFUSED}: {sampler} chose each point by the results before it, so trials are no independent draws"
