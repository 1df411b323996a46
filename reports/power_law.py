"""The law y = c + a·(x / x₁)^(−b), x₁ the smallest scale, and its weighted least squares. Pure functions of numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reports.intervals import Floats

EXPONENTS = (0.01, 5.0)  # sought between; at its end an exponent is no estimate
_STARTS, _FINER, _ROUNDS = 32, 9, 5  # exponents tried, and how often finer ones around the best
EXACT = 12  # rounds of a law whose misfit is tested


@dataclass(frozen=True)
class Law:
    """y = c + a·(x / unit)^(−b). As arrays of one shape, one law each."""

    a: Floats
    b: Floats
    c: Floats
    unit: float

    def __call__(self, x: ArrayLike) -> Floats:
        """(…) laws at (X,) scales → (…, X)."""
        a, b, c = (np.asarray(part, dtype=float)[..., None] for part in (self.a, self.b, self.c))
        return np.asarray(c + a * (np.asarray(x, dtype=float) / self.unit) ** -b)


def solve(x: Floats, y: Floats, weights: Floats, offset: bool, rounds: int = _ROUNDS) -> Law:
    """Weighted least squares for each row of y (R, scales), a ≥ 0 and c ≥ 0.

    For a given b the best a and c have a closed form, so that b alone is searched: on a grid over all of EXPONENTS,
    then finer around the best. That is a start at every b, and cannot end in a local minimum between wide bounds.
    """
    low, high = np.log(EXPONENTS)
    grid = np.linspace(low, high, _STARTS)[None]  # (1, B), then (R, B)
    step = grid[0, 1] - grid[0, 0]
    for _ in range(rounds):
        a, c, squares = _profile(x / x[0], y, weights, np.exp(grid), offset)
        best = squares.argmin(axis=1)[:, None]
        at, a, c = (np.take_along_axis(np.broadcast_to(p, squares.shape), best, axis=1) for p in (grid, a, c))  # (R, 1)
        found = Law(a[:, 0], np.exp(at[:, 0]), c[:, 0], float(x[0]))
        grid = np.clip(at + np.linspace(-step, step, _FINER), low, high)
        step = 2 * step / (_FINER - 1)
    return found


def _profile(x: Floats, y: Floats, w: Floats, b: Floats, offset: bool) -> tuple[Floats, Floats, Floats]:
    """Best a and c, and the sum of squares, for rows y (R, scales) at exponents b (1 or R, B) → (R, B) each."""
    u = x ** -b[..., None]  # (1 or R, B, scales)
    wy = w * y  # (R, scales)
    uy, uu, su = (u @ wy[..., None])[..., 0], u**2 @ w, u @ w
    sy, yy, total = wy.sum(1)[:, None], (wy * y).sum(1)[:, None], w.sum()
    a, c = uy / uu, np.zeros_like(uy)
    if offset:
        slope = (total * uy - su * sy) / (total * uu - su**2)
        level = (sy - slope * su) / total
        a, c = np.where(level > 0, slope, a), np.maximum(level, 0.0)
        a, c = np.maximum(a, 0.0), np.where(a > 0, c, sy / total)
    return a, c, yy - 2 * (a * uy + c * sy) + a**2 * uu + 2 * a * c * su + c**2 * total
