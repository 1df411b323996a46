"""The difference of two means whose values are not paired."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from reports.statistics import LEVEL, Estimate, standard_error


def unpaired_interval(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Mean of a − mean of b with Welch's interval (unequal spreads; Welch 1947). `n` is the smaller of the two.

    No interval where either side has one value. ValueError where either has none, or holds what is not finite.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    for values in (x, y):
        if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
            raise ValueError("a difference needs at least one finite number on each side")
    mean, n = float(x.mean() - y.mean()), min(len(x), len(y))
    if n == 1:
        return Estimate(mean, None, None, n, "no interval: one seed on a side")
    parts = np.array([standard_error(x) ** 2, standard_error(y) ** 2])
    error = math.sqrt(float(parts.sum()))
    if error == 0:
        return Estimate(mean, mean, mean, n, "Welch t, unpaired")
    freedom = float(parts.sum() ** 2 / (parts**2 / np.array([len(x) - 1, len(y) - 1])).sum())
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Estimate(mean, mean - half, mean + half, n, "Welch t, unpaired")
