"""Where a second parameter is best for every value of a first, and whether that place moves. Pure functions.

Both parameters are positive and live on log axes: λ and the learning rate. What was tried belongs to a round (an
independent study of a search, or a seed of a crossed grid): within a round, the best of a λ is the best that it tried.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports import statistics as st

RESAMPLES = 10_000


@dataclass(frozen=True)
class Try:
    x: float  # λ
    y: float  # learning rate
    value: float  # larger is better
    round: Hashable


@dataclass(frozen=True)
class Best:
    """The best y of one x: geometric mean over rounds, or, with one round, the best y that it tried."""

    x: float
    y: float
    low: float | None  # 95 %
    high: float | None
    rounds: int
    tries: int
    how: str


@dataclass(frozen=True)
class Slope:
    """Decades of the best y per decade of x."""

    value: float
    low: float | None
    high: float | None
    rounds: int
    how: str

    @property
    def moves(self) -> bool | None:
        """Whether the interval excludes 0; None without one."""
        return None if self.low is None or self.high is None else not self.low <= 0 <= self.high


def best_of_each(tries: Sequence[Try]) -> list[Best]:
    """By increasing x, 0 included. From two rounds on the interval is over rounds; in one, it is where the best of a
    resample of its tries lies (bootstrap percentiles: approximate, and none where only one y was tried)."""
    return [_best(x, [t for t in tries if t.x == x]) for x in sorted({t.x for t in tries})]


def slope(tries: Sequence[Try]) -> Slope | None:
    """Least squares of log best y over log x, x > 0; None with fewer than two x in every round."""
    positive = [t for t in tries if t.x > 0]
    rounds = [fit for name in dict.fromkeys(t.round for t in positive)
              if (fit := _fit(_winners([t for t in positive if t.round == name]))) is not None]  # fmt: skip
    if not rounds:
        return None
    if len(rounds) > 1:
        found = st.mean_interval(rounds)
        return Slope(found.mean, found.low, found.high, found.n, f"{found.how} over rounds")
    xs = sorted({t.x for t in positive})
    drawn = np.stack([_resampled_best([t for t in positive if t.x == x], seed) for seed, x in enumerate(xs)])
    along = np.log10(xs) - np.log10(xs).mean()
    low, high = _middle(along @ drawn / (along @ along))
    return Slope(rounds[0], low, high, 1, "bootstrap over trials")


def _best(x: float, tries: Sequence[Try]) -> Best:
    names = dict.fromkeys(t.round for t in tries)
    logs = [np.log10(_winners([t for t in tries if t.round == name])[x]) for name in names]
    if len(logs) > 1:
        found = st.mean_interval(logs)
        low, high = (None if bound is None else float(10**bound) for bound in (found.low, found.high))
        return Best(x, float(10**found.mean), low, high, found.n, len(tries), f"{found.how} over rounds")
    if len({t.y for t in tries}) < 2:
        return Best(x, float(10 ** logs[0]), None, None, 1, len(tries), "one value tried")
    low, high = _middle(_resampled_best(tries, 0))
    return Best(x, float(10 ** logs[0]), float(10**low), float(10**high), 1, len(tries), "bootstrap over trials")


def _winners(tries: Sequence[Try]) -> Mapping[float, float]:
    """x → y of the highest value."""
    return {x: max((t for t in tries if t.x == x), key=lambda t: t.value).y for x in {t.x for t in tries}}


def _fit(winners: Mapping[float, float]) -> float | None:
    if len(winners) < 2:
        return None
    x, y = np.log10(list(winners)), np.log10(list(winners.values()))
    along = x - x.mean()
    return float(along @ y / (along @ along))


def _resampled_best(tries: Sequence[Try], seed: int) -> NDArray[np.float64]:
    """log10 of the best y of resamples. The i-th best of n is the best of a resample with probability
    (1 − (i−1)/n)^n − (1 − i/n)^n, so nothing is drawn but that."""
    ordered = sorted(tries, key=lambda t: -t.value)
    n = len(ordered)
    left = (1 - np.arange(n + 1) / n) ** n
    rng = np.random.default_rng(seed)
    return np.asarray(np.log10([t.y for t in ordered])[rng.choice(n, RESAMPLES, p=left[:-1] - left[1:])])


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - st.LEVEL) / 2, (1 + st.LEVEL) / 2])
    return float(low), float(high)
