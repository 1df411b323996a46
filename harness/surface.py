"""A smooth fit through all that a search has seen of a cell: what each config is worth at the end of its training.

The best of many noisy trials is often best by luck, and a trial that was stopped early says something, too. A Gaussian
process (Rasmussen & Williams 2006, ch. 2) takes both into account: over the searched parameters and the log of the
epoch, the sum of a surface that all epochs share, one that changes with them, a trend of the epochs alone, and noise.
Scales and noise are those of the largest marginal likelihood. What stopped a trial is in the fit, so what was not
trained for it is missing at random, and biases no mean as leaving the trial out would (Rubin 1976).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.ledger import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sklearn.gaussian_process.kernels import Kernel

    from harness.space import Space

_FINISHED = 2  # trials at least that were trained to their end: a choice
_MOST = 600  # values in a fit, whose time grows with their cube: those of the latest epochs
_WORST = 5.0  # how far below the median a value counts, in distances of the best from it: diverging losses know no end


@dataclass(frozen=True)
class Seen:
    """A trial: its searched parameters, and epoch → worth, larger is better; trained to its end or not."""

    point: Mapping[str, Any]
    curve: Mapping[int, float]
    finished: bool


@dataclass(frozen=True)
class Surface:
    """The points that were trained to their end, once each, and what they are worth by the fit; larger is better."""

    points: list[dict[str, Any]]
    mean: np.ndarray  # (points,)
    covariance: np.ndarray  # (points, points), without the noise of a training
    noise: float  # standard deviation of one value around the surface
    trials: int
    values: int

    def best_of_draws(self, n: int, seed: int) -> np.ndarray:
        """(n,) index of the best point in draws from the posterior."""
        drawn = np.random.default_rng(seed).multivariate_normal(self.mean, self.covariance, n, method="eigh")
        return np.asarray(drawn.argmax(axis=1))


def surface(spaces: Mapping[str, Space], seen: Sequence[Seen], first: int = 1, reduction: int = 3) -> Surface | str:
    """The fit, over parameters that are numbers and have no condition; else, or of too few trials, why there is none.

    Epochs in the fit: first, first·reduction, first·reduction², … (the rungs of `stopping`), and a trial's last.
    """
    scales = {path: _scale(space) for path, space in spaces.items() if not space.finite or len(space.values) > 1}
    if odd := [path for path, scale in scales.items() if scale is None]:
        return f"{odd[0]} is no number in every trial"
    known = [(trial, values) for trial in seen if (values := _looked_at(trial.curve, first, reduction))]
    ended = [trial for trial, values in known if trial.finished and max(trial.curve) in values]
    fewest = 4 + 2 * len(scales)
    if len(known) < fewest or len(ended) < _FINISHED or not scales:
        return (
            f"{len(known)} trials have a value and {len(ended)} were trained to their end, and a fit over "
            f"{len(scales)} searched takes {fewest} and {_FINISHED}"
        )
    places = [[scale(trial.point[path]) for path, scale in scales.items() if scale] for trial, _ in known]
    rows = [(*place, epoch, value) for place, (_, values) in zip(places, known, strict=True)
            for epoch, value in values.items()]  # fmt: skip
    rows = sorted(rows, key=lambda row: -row[-2])[:_MOST]
    points = list({canonical(dict(trial.point)): dict(trial.point) for trial in ended}.values())
    targets = [[scale(point[path]) for path, scale in scales.items() if scale] for point in points]
    mean, covariance, noise = _predicted(np.array(rows), np.array(targets))
    return Surface(points, mean, covariance, noise, len(known), len(rows))


def _looked_at(curve: Mapping[int, float], first: int, reduction: int) -> dict[int, float]:
    """Epoch → value where the curve is in the fit; without what has collapsed, which has no finite value."""
    if not curve:
        return {}
    last, epochs = max(curve), {max(curve)}
    while first < last:
        epochs.add(min(epoch for epoch in curve if epoch >= first))
        first *= reduction
    return {epoch: curve[epoch] for epoch in sorted(epochs) if math.isfinite(curve[epoch])}


def _scale(space: Space) -> Callable[[Any], float] | None:
    """A value's place, 0 to 1 in the space; None where values are no numbers, or not always there.

    On the log scale where the space says so, or where listed numbers span a factor of ten; 0 lies a step below the
    smallest other then.
    """
    if space.when or any(isinstance(value, bool) or not isinstance(value, int | float) for value in space.values):
        return None
    positive = sorted(value for value in space.values if value > 0)
    wide = space.finite and min(space.values) >= 0 and len(positive) > 1 and positive[-1] >= 10 * positive[0]
    if not (wide or space.kind.startswith("log_")):
        low, high = min(space.values), max(space.values)
        return lambda value: float((value - low) / (high - low))
    steps = len(positive) - 1 if space.finite else 1
    bottom, top = math.log(positive[0]), math.log(positive[-1])
    zero = bottom - (top - bottom) / steps
    low = zero if 0 in space.values else bottom
    return lambda value: ((math.log(value) if value > 0 else zero) - low) / (top - low)


def _predicted(rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """rows: (values, parameters + 2) places, epoch, value; targets: (points, parameters). Mean, covariance, noise."""
    from sklearn.gaussian_process import GaussianProcessRegressor  # half a second, only where something is fitted

    longest = max(rows[:, -2].max(), 2.0)
    x, y = rows[:, :-1].copy(), rows[:, -1]
    x[:, -1] = np.log(x[:, -1]) / np.log(longest)
    middle = np.median(y)
    y = np.maximum(y, middle - _WORST * (y.max() - middle)) if y.max() > middle else y
    centre, spread = y.mean(), y.std() or 1.0
    process = GaussianProcessRegressor(_kernel(targets.shape[1]), alpha=1e-8, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a scale at its bound: a parameter that does not matter
        process.fit(x, (y - centre) / spread)
        mean, covariance = process.predict(np.column_stack([targets, np.ones(len(targets))]), return_cov=True)
    noise = float(process.kernel_.k2.noise_level)
    surface = spread**2 * (covariance - noise * np.eye(len(mean)))  # scikit-learn adds the noise of new trainings
    return centre + spread * mean, surface, float(spread * math.sqrt(noise))


def _kernel(parameters: int) -> Kernel:
    """Of the standardised values, over the searched parameters and the epoch, all of order 1."""
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    smooth, all_alike = (0.5, 2.0), (1e6, 1e6)  # length scales: the first bends once or twice, the second ignores
    shared = RBF([1.0] * parameters + [1e6], [smooth] * parameters + [all_alike])
    changing = RBF([1.0] * (parameters + 1), [smooth] * parameters + [(0.3, 3.0)])
    trend = RBF([1e6] * parameters + [1.0], [all_alike] * parameters + [(0.3, 3.0)])
    return (
        ConstantKernel(1.0, (0.01, 100.0)) * shared
        + ConstantKernel(0.5, (0.01, 100.0)) * changing
        + ConstantKernel(0.5, (1e-3, 30.0)) * trend
    ) + WhiteKernel(0.1, (1e-3, 2.0))
