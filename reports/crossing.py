"""Two laws over the scales that both were measured at: which falls faster, and where they cross. Pure functions.

Nothing is said of scales beyond the measurements of either: there laws cross easily, and prove nothing.
"""

from dataclasses import dataclass

import numpy as np

from reports.intervals import LEVEL, Floats
from reports.scaling import Fit

_GRID = 129  # scales, evenly on a log axis
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True)
class Race:
    """log(A / B) of two laws over the scales that both cover; lower is better, so that below 0 A leads."""

    low: float  # the scales
    high: float
    gain: tuple[float, float, float]  # what log(A / B) changes by from low to high, and its 95 % interval
    ahead_low: int  # −1: A leads at `low`, 1: B does, 0: seeds do not tell
    ahead_high: int
    throughout: bool  # the one that is ahead at both ends is so everywhere between
    crossing: tuple[float, float, float] | None  # scale and 95 % interval, where opposite arms lead at the ends

    @property
    def steeper(self) -> int:
        """−1: A falls faster, 1: B does, 0: undecided."""
        return -1 if self.gain[2] < 0 else 1 if self.gain[1] > 0 else 0


def race(a: Fit, b: Fit) -> Race | str:
    """Or why there is none. Resampled laws are taken in pairs, in the order in which they were drawn."""
    low, high = max(a.x[0], b.x[0]), min(a.x[-1], b.x[-1])
    if not low < high:
        return "they share no range of scales"
    if a.drawn is None or b.drawn is None:
        return "one seed at a scale gives no interval"
    x = np.geomspace(low, high, _GRID)
    drawn = np.log(a.drawn(x)) - np.log(b.drawn(x))  # (R, X)
    fitted = np.log(a.law(x)) - np.log(b.law(x))
    bottom, top = np.quantile(drawn, _TAILS, axis=0)
    leads = np.where(top < 0, -1, np.where(bottom > 0, 1, 0))
    change = drawn[:, -1] - drawn[:, 0]
    least, most = np.quantile(change, _TAILS)
    gain = (float(fitted[-1] - fitted[0]), float(least), float(most))
    crossing = _crossing(x, fitted, drawn) if leads[0] * leads[-1] < 0 else None
    throughout = leads[0] != 0 and bool((leads == leads[0]).all())
    return Race(float(low), float(high), gain, int(leads[0]), int(leads[-1]), throughout, crossing)


def _crossing(x: Floats, fitted: Floats, drawn: Floats) -> tuple[float, float, float] | None:
    """First change of sign of the fitted laws, and of the resampled ones that have one."""
    at = _roots(x, fitted[None])
    all_at = _roots(x, drawn)
    if np.isnan(at[0]):
        return None
    low, high = np.quantile(all_at[~np.isnan(all_at)], _TAILS)
    return float(at[0]), float(low), float(high)


def _roots(x: Floats, y: Floats) -> Floats:
    """Of each row of y (R, X): the scale at which it first changes sign, linear between grid points on a log axis; NaN
    where it never does."""
    changes = np.sign(y[:, :-1]) != np.sign(y[:, 1:])
    i = changes.argmax(axis=1)
    before, after = (np.take_along_axis(y, (i + step)[:, None], axis=1)[:, 0] for step in (0, 1))
    share = before / np.where(before == after, 1.0, before - after)
    logs = np.log(x)
    return np.where(changes.any(axis=1), np.exp(logs[i] + share * (logs[i + 1] - logs[i])), np.nan)
