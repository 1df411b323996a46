"""Every interval and verdict of a report, as pure functions of numbers.

Which interval when was settled by simulation (nominal 95 %): at n = 3 only Student t covers (95.6 %, bootstrap-t 80 %);
at n = 5 bootstrap-t covers on normal (95.4 %) and on lognormal data (σ = 0.8: 92 %, Student t 88 %; σ = 1: 89 to 90 %
against 84 %).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

LEVEL = 0.95
RESAMPLES = 10_000
BOOTSTRAP_FROM = 5  # values
POWER = 0.8  # of a proposed number of seeds

DECIDED, EQUIVALENT, LEANING, UNDECIDED, INVALID = "decided", "equivalent", "leaning", "undecided", "invalid"


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `low` and `high` are None where n allows none."""

    mean: float
    low: float | None
    high: float | None
    n: int
    how: str  # "Student t" | "bootstrap-t" | "no interval at n = 1"

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(values: ArrayLike, seed: int = 0) -> Estimate:
    """Mean of n ≥ 1 values: no interval at n = 1, Student t below n = 5, bootstrap-t from there. ValueError on none."""
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("an interval needs a list of at least one finite number")
    if len(x) == 1:
        return Estimate(float(x[0]), None, None, 1, "no interval at n = 1")
    if len(x) < BOOTSTRAP_FROM:
        return _student(x)
    return _bootstrap_t(x, seed)


def paired_interval(a: ArrayLike, b: ArrayLike, seed: int = 0) -> Estimate:
    """Mean of a − b over pairs (same seed in both), with the interval of `mean_interval`."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal lengths, not {a.shape} and {b.shape}")
    return mean_interval(a - b, seed)


def _student(x: NDArray[np.float64]) -> Estimate:
    half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * standard_error(x)
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x), "Student t")


def _bootstrap_t(x: NDArray[np.float64], seed: int) -> Estimate:
    mean, error = x.mean(), standard_error(x)
    block = max(1, 2_000_000 // len(x))  # resamples at a time, so that 10,000 × n never has to fit in memory
    pivots = []
    for start in range(0, RESAMPLES, block):
        drawn = x[_resample(len(x), min(block, RESAMPLES - start), seed + start)]
        spread = drawn.std(axis=1, ddof=1) / np.sqrt(len(x))
        usable = spread > 1e-12 * max(1.0, abs(mean))
        pivots.append((drawn.mean(axis=1)[usable] - mean) / spread[usable])
    t = np.concatenate(pivots)
    # A resample of equal values has no pivot. Few are left out (n = 5, all distinct: 0.16 %); where ties make many,
    # what remains is no longer the distribution of t.
    if len(t) < 0.98 * RESAMPLES:
        return _student(x)
    low, high = np.quantile(t, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(mean), float(mean - high * error), float(mean - low * error), len(x), "bootstrap-t")


@lru_cache(maxsize=8)
def _resample(n: int, count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, n, (count, n))


def standard_error(values: ArrayLike) -> float:
    """Of the mean; NaN at n = 1."""
    x = np.asarray(values, dtype=float)
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")


def probability_greater(a: ArrayLike, b: ArrayLike) -> float:
    """P(A > B) over all pairs of a draw from a and one from b, ties ½."""
    x, y = np.asarray(a, dtype=float), np.sort(np.asarray(b, dtype=float))
    below, not_above = np.searchsorted(y, x, "left"), np.searchsorted(y, x, "right")
    return float((below + not_above).mean() / (2 * len(y)))


def verdict(difference: Estimate, rope: float) -> str:
    """What an interval of a difference says, given the region of practical equivalence [−rope, rope].

    decided: excludes the region · equivalent: lies inside it · leaning: excludes 0 but not the region · else undecided.
    """
    low, high = difference.low, difference.high
    if low is None or high is None:
        return UNDECIDED
    if low > rope or high < -rope:
        return DECIDED
    if -rope <= low and high <= rope:
        return EQUIVALENT
    return LEANING if low > 0 or high < 0 else UNDECIDED


def plateau(means: Sequence[float], best_error: float, best: int) -> tuple[int, int]:
    """First and last index of the unbroken run around `best` whose means (larger is better) lie within one standard
    error of the best one; (best, best) where the error is NaN."""
    inside = [mean >= means[best] - best_error for mean in means]
    first = last = best
    while first > 0 and inside[first - 1]:
        first -= 1
    while last < len(means) - 1 and inside[last + 1]:
        last += 1
    return first, last


def expected_best(values: ArrayLike, n: int) -> float:
    """Unbiased expectation of the best of n draws without replacement from N i.i.d. scores (larger is better):
    Σ_i v_(i)·C(i−1, n−1)/C(N, n). Holds for i.i.d. random search; not for adaptive search. ValueError unless 1 ≤ n ≤ N.
    """
    v = np.sort(np.asarray(values, dtype=float))
    if not 1 <= n <= len(v):
        raise ValueError(f"the best of {n} cannot be estimated from {len(v)} values")
    rank = np.arange(n, len(v) + 1)  # smaller ranks cannot be the best of n
    weight = np.exp(_log_choose(rank - 1, n - 1) - _log_choose(np.array([len(v)]), n))
    return float(np.sum(v[n - 1 :] * weight))


def _log_choose(n: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def pairs_needed(differences: ArrayLike, rope: float, most: int = 100) -> int | None:
    """How many pairs would make the verdict decided or equivalent, four times out of five, if mean and spread are what
    they seem (Student t, with the margin that a power of 80 % needs).

    None where `most` would not be enough, or where fewer than two pairs show no spread. A forecast, not a promise.
    """
    x = np.asarray(differences, dtype=float)
    if len(x) < 2:
        return None
    mean, spread = float(x.mean()), float(x.std(ddof=1))
    for n in range(len(x) + 1, most + 1):
        half = float(stats.t.ppf([(1 + LEVEL) / 2, POWER], n - 1).sum()) * spread / np.sqrt(n)
        if verdict(Estimate(mean, mean - half, mean + half, n, "Student t"), rope) in (DECIDED, EQUIVALENT):
            return n
    return None
