"""Ranks: of arms by their seeds, of one quantity by another, and which arms cannot be told apart."""

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from reports.intervals import BOOTSTRAP_FROM, LEVEL, Estimate, Floats
from reports.significance import ALPHA, holm

_RESAMPLES = 2_000  # each ranks all arms
CORRELATION_FROM = 5  # pairs
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def rank_intervals(scores: ArrayLike, seed: int = 0) -> list[Estimate]:
    """Rank of each arm's mean (1: the largest; ties share), with the interval that its seeds allow.

    scores: (arms, n), the same n seeds in every arm. `mean` averages the ranks over resamples of whole seeds, and from
    n = 5 the interval is theirs. Below, where such an interval covers 87 % only, it runs from one more than the number
    of arms that are better to the number of those that are not worse, by `told_apart` (Mogstad et al. 2024, "Inference
    for Ranks"). No interval at n = 1. ValueError on scores that are not finite.
    """
    x = _scores(scores)
    arms, n = x.shape
    if n == 1:
        return [Estimate(float(rank), None, None, 1, "no interval at n = 1") for rank in _ranks(x.T)[0]]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), _RESAMPLES)
    ranks = _ranks(drawn @ x.T / n)
    if n >= BOOTSTRAP_FROM:
        ends, how = np.quantile(ranks, _TAILS, axis=0, method="inverted_cdf"), "bootstrap over seeds"
    else:
        apart, means = told_apart(x), x.mean(axis=1)
        better = (apart & (means[None, :] > means[:, None])).sum(axis=1)
        worse = (apart & (means[None, :] < means[:, None])).sum(axis=1)
        ends, how = np.stack([1.0 + better, arms - 1.0 * worse]), "paired Student t, Holm"
    return [
        Estimate(float(mean), float(low), float(high), n, how)
        for mean, low, high in zip(ranks.mean(axis=0), *ends, strict=True)
    ]


def _ranks(rows: Floats) -> Floats:
    """Of each row's entries, the largest first."""
    return np.asarray(stats.rankdata(-rows, axis=-1), dtype=float)


def told_apart(scores: ArrayLike, level: float = ALPHA) -> np.ndarray:
    """(arms, arms) of bool: whether the paired difference of two arms is not 0, by Student's t over the seeds and
    after Holm over all pairs of arms. Nothing is told apart by one seed."""
    x = _scores(scores)
    pairs = list(combinations(range(len(x)), 2))
    apart = np.zeros((len(x), len(x)), dtype=bool)
    adjusted = holm([_paired_p(x[i] - x[j]) for i, j in pairs])
    for (i, j), p in zip(pairs, adjusted, strict=True):
        apart[i, j] = apart[j, i] = p <= level
    return apart


def _paired_p(differences: Floats) -> float:
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return 1.0
    error = float(differences.std(ddof=1)) / np.sqrt(n)
    if error <= 1e-12 * max(1.0, abs(mean)):  # the same in every seed
        return 1.0 if abs(mean) <= 1e-12 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, n - 1))


def groups(scores: ArrayLike, level: float = ALPHA) -> list[tuple[int, ...]]:
    """Arms that are not distinguishable: each group is a longest run of arms, ordered from the best mean, in which no
    two are told apart. An arm may be in two groups; one that differs from all others is a group of its own."""
    x = _scores(scores)
    apart, order = told_apart(x, level), np.argsort(-x.mean(axis=1), kind="stable")
    found: list[tuple[int, ...]] = []
    reached = 0  # place of the last arm of the last group, counted from 1
    for first in range(len(order)):
        last = first + 1
        while last < len(order) and not apart[order[last], order[first:last]].any():
            last += 1
        if last > reached:
            found.append(tuple(int(arm) for arm in order[first:last]))
            reached = last
    return found


def _scores(scores: ArrayLike) -> Floats:
    x = np.asarray(scores, dtype=float)
    if x.ndim != 2 or 0 in x.shape or not np.isfinite(x).all():
        raise ValueError("ranks need finite scores of shape (arms, seeds)")
    return x


def spearman(x: ArrayLike, y: ArrayLike, seed: int = 0) -> Estimate | None:
    """Spearman's ρ with its 95 % interval: Fisher's z below 20 pairs, with the error √((1 + ρ²/2)/(n − 3)) of Bonett
    and Wright (2000); a bootstrap over pairs from there. None below n = 5, and where x or y does not vary.

    A ρ of ±1 would have an infinite z: it is taken half a step inside, between 1 and the largest ρ below it.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"a correlation needs two finite lists of one length, not {a.shape} and {b.shape}")
    n = len(a)
    if n < CORRELATION_FROM or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rho = float(_spearman(a[None], b[None])[0])
    if n >= 20:
        drawn = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
        low, high = np.nanquantile(_spearman(a[drawn], b[drawn]), _TAILS)
        return Estimate(rho, float(low), float(high), n, "bootstrap over pairs")
    most = 1 - 6 / (n * (n**2 - 1))
    inside = min(max(rho, -most), most)
    half = float(stats.norm.ppf(_TAILS[1])) * np.sqrt((1 + inside**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(inside) + np.array([-half, half]))
    return Estimate(rho, -1.0 if rho < -most else float(low), 1.0 if rho > most else float(high), n, "Fisher z")


def _spearman(a: Floats, b: Floats) -> Floats:
    """(rows, n) and (rows, n) → (rows): Pearson's correlation of the ranks; NaN where a row does not vary."""
    a, b = stats.rankdata(a, axis=1), stats.rankdata(b, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)))
