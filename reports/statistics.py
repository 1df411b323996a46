"""Every interval and verdict of a report, as pure functions of numbers: import this module as `st`.

Verdicts are here; what they rest on is one file a subject: intervals, significance, ranking, tuning.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from reports.intervals import (
    BOOTSTRAP_FROM,
    LEVEL,
    RESAMPLES,
    Estimate,
    mean_interval,
    paired_interval,
    rate_interval,
    standard_error,
)
from reports.ranking import groups, rank_intervals, spearman
from reports.significance import (
    ALPHA,
    Significance,
    holm,
    pairs_for_significance,
    sign_flip_p,
    significance,
    smallest_p,
)
from reports.tuning import (
    APPROXIMATE,
    REFUSED,
    TuningCurve,
    crossings,
    expected_best,
    tuning_curve,
    tuning_curve_allowed,
)

__all__ = [
    "ALPHA", "APPROXIMATE", "DECIDED", "EQUIVALENT", "INVALID", "LEANING", "LEVEL", "MOST_SEEDS", "REFUSED",
    "RESAMPLES", "UNDECIDED", "Estimate", "Significance", "TuningCurve", "crossings", "expected_best", "groups",
    "holm", "mean_interval", "paired_interval", "pairs_for_significance", "pairs_needed", "plateau",
    "probability_greater", "rank_intervals", "rate_interval", "seeds_needed", "sign_flip_p", "significance",
    "smallest_p", "spearman", "standard_error", "tuning_curve", "tuning_curve_allowed", "verdict",
]  # fmt: skip

POWER = 0.8  # of a proposed number of seeds
MOST_SEEDS = 100  # beyond this, more seeds are no sensible next step

DECIDED, EQUIVALENT, LEANING, UNDECIDED, INVALID = "decided", "equivalent", "leaning", "undecided", "invalid"


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


def pairs_needed(differences: ArrayLike, rope: float, most: int = MOST_SEEDS) -> int | None:
    """How many pairs would make the verdict decided or equivalent: see `seeds_needed`."""
    return seeds_needed(differences, lambda found: verdict(found, rope) in (DECIDED, EQUIVALENT), most)


def seeds_needed(values: ArrayLike, settled: Callable[[Estimate], bool], most: int = MOST_SEEDS) -> int | None:
    """How many values would have a mean whose interval is `settled`, four times out of five, if mean and spread are
    what they seem (with the margin that a power of 80 % needs).

    None where `most` would not be enough, or where fewer than two values show no spread. A forecast, not a promise.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return None
    mean, spread = float(x.mean()), float(x.std(ddof=1))
    for n in range(len(x) + 1, most + 1):
        t, margin = stats.t.ppf([(1 + LEVEL) / 2, POWER], n - 1)
        half = float(t * _widening(n) + margin) * spread / np.sqrt(n)
        if settled(Estimate(mean, mean - half, mean + half, n, "Student t")):
            return n
    return None


def _widening(n: int) -> float:
    """How much wider than Student's the interval of `mean_interval` is on normal data: the median of 400 samples is
    1.61 at n = 5, 1.20 at 8, 1.13 at 10, 1.05 at 20, 1.01 at 50."""
    return 1.0 if n < BOOTSTRAP_FROM else 1 + 15 / n**2
