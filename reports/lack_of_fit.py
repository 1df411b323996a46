"""Whether a law may stand before the noise of seeds, and what a curve does where none may. Pure functions of numbers.

The test is the classical F test of lack of fit against pure error: what the means of scales miss the law by, over what
seeds differ by within scales (Draper and Smith, Applied Regression Analysis, 3rd ed., section 2.1; Kutner et al.,
Applied Linear Statistical Models, 5th ed., section 3.7). Both are relative, as the least squares of the law are: noise
is taken to be so many percent at every scale. For a law that is not linear in its parameters the test is an
approximation: its level is checked by simulation (tests/reports/test_lack_of_fit.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, stats

from reports.intervals import LEVEL, Floats

REJECTED = 0.01  # below this p: a report tests a dozen laws, and a true one is seldom to be refused
POWER = 0.9  # of misfits as large as `unseen`, so many are rejected
_MOST = 1e7  # noncentrality: with one degree of freedom within, 1e5 may be too little
_SAME = 1e-9  # relative: seeds that differ by less do not differ


@dataclass(frozen=True)
class LackOfFit:
    """F(between, within), and the share of true laws that would miss as much or more."""

    f: float
    between: int  # degrees of freedom: scales less parameters
    within: int  # seeds less scales
    scales: int
    p: float
    seed: float  # relative standard deviation of one seed

    @property
    def rejected(self) -> bool:
        return self.p < REJECTED

    @cached_property
    def unseen(self) -> float:
        """Relative misfit, root mean square over seeds, that the test would reject with POWER: a smaller one may pass.

        F is noncentral then, by the sum of squares of the misfit over the variance of a seed.
        """
        least = stats.f.isf(REJECTED, self.between, self.within)

        def short(noncentrality: float) -> float:
            return float(stats.ncf.sf(least, self.between, self.within, noncentrality)) - POWER

        seeds = self.within + self.scales
        return self.seed * float(np.sqrt(optimize.brentq(short, 1e-9, _MOST) / seeds))


@dataclass(frozen=True)
class Local:
    """The exponent of a part of the scales: minus the slope of log y over log x."""

    low: float  # the scales
    high: float
    b: float
    bounds: tuple[float, float]  # 95 %, from the noise of all scales
    start: float  # y at `low`, on the line through the logs


@dataclass(frozen=True)
class Halves:
    """The lower and the upper half of the scales; of an odd number the middle one is in both."""

    lower: Local
    upper: Local
    change: tuple[float, float]  # 95 % of how much larger the upper exponent is

    @property
    def bends(self) -> int:
        """+1: falls faster with scale, −1: slower, 0: seeds do not tell."""
        return int(self.change[0] > 0) - int(self.change[1] < 0)


def noise(samples: Sequence[Floats]) -> tuple[float, int] | None:
    """Relative variance of one seed, pooled over scales, and its degrees of freedom; None where seeds tell none."""
    freedom = sum(len(sample) - 1 for sample in samples)
    if not freedom:
        return None
    variance = sum(float(((sample / sample.mean() - 1) ** 2).sum()) for sample in samples) / freedom
    return (variance, freedom) if variance > _SAME**2 else None


def lack_of_fit(samples: Sequence[Floats], predicted: Floats, parameters: int) -> LackOfFit | None:
    """Of a law at every scale, (scales,), with more scales than parameters. None without noise to hold it against: one
    seed at every scale, or seeds that do not differ."""
    if (known := noise(samples)) is None:
        return None
    variance, within = known
    between = len(samples) - parameters
    missed = sum(len(sample) * (y / sample.mean() - 1) ** 2 for sample, y in zip(samples, predicted, strict=True))
    f = float(missed) / between / variance
    p = float(stats.f.sf(f, between, within))
    return LackOfFit(f, between, within, len(samples), p, float(np.sqrt(variance)))


def halves(x: Floats, samples: Sequence[Floats]) -> Halves | None:
    """Local exponents at (scales,) x, rising, at least three; None where seeds tell no noise."""
    if (known := noise(samples)) is None:
        return None
    variance, freedom = known
    logs = np.log([sample.mean() for sample in samples])
    spread = np.sqrt(variance / np.array([len(sample) for sample in samples]))  # of a log mean
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    n = len(x)
    parts = [slice(0, (n + 1) // 2), slice(n // 2, n)]
    weights = [_slope_of(x, part) for part in parts]
    lower, upper = (_local(x, logs, k, part, reach * spread) for k, part in zip(weights, parts, strict=True))
    apart = weights[0] - weights[1]
    half = float(np.linalg.norm(apart * reach * spread))
    change = float(apart @ logs)
    return Halves(lower, upper, (change - half, change + half))


def _slope_of(x: Floats, part: slice) -> Floats:
    """(scales,) weights whose sum with log y is the least squares slope over the part."""
    along = np.log(x[part]) - np.log(x[part]).mean()
    weights = np.zeros(len(x))
    weights[part] = along / (along @ along)
    return weights


def _local(x: Floats, logs: Floats, k: Floats, part: slice, reach: Floats) -> Local:
    b, half = -float(k @ logs), float(np.linalg.norm(k * reach))
    start = np.exp(logs[part].mean() + b * (np.log(x[part]).mean() - np.log(x[part][0])))
    return Local(float(x[part][0]), float(x[part][-1]), b, (b - half, b + half), float(start))
