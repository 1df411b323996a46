"""Tests of declared contrasts, corrected for their number, and refused where so few pairs cannot decide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reports.intervals import Floats

ALPHA = 0.05
_EXACT_UP_TO = 16  # pairs: 32,768 patterns of signs
_DRAWS = 100_000


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979), in the order given. ValueError unless all lie in [0, 1]."""
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values lie between 0 and 1, not {list(p_values)}")
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty(len(p))
    adjusted[order] = stepped
    return [float(value) for value in adjusted]


def sign_flip_p(differences: ArrayLike, seed: int = 0) -> float:
    """Two-sided p of a mean difference of 0, were the sign of each pair's difference a coin's: the share of all 2ⁿ
    patterns of signs whose mean lies as far from 0. Exact up to 16 pairs, by 100,000 draws above. ValueError on none.
    """
    x = np.asarray(differences, dtype=float)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("a test needs a list of at least one finite difference")
    seen = abs(x.sum()) - 1e-9 * np.abs(x).sum()  # rounding must not make the pattern that was seen less extreme
    if len(x) <= _EXACT_UP_TO:
        return float((np.abs(_all_signs(len(x)) @ x) >= seen).mean())
    rng, block, extreme = np.random.default_rng(seed), max(1, 2_000_000 // len(x)), 0
    for start in range(0, _DRAWS, block):
        signs = 1.0 - 2.0 * rng.integers(0, 2, (min(block, _DRAWS - start), len(x)))
        extreme += int((np.abs(signs @ x) >= seen).sum())
    return (extreme + 1) / (_DRAWS + 1)  # the pattern that was seen is one of them


def _all_signs(n: int) -> Floats:
    """(2ⁿ⁻¹, n): every pattern once, up to its mirror image, which is as far from 0."""
    patterns = np.arange(2 ** (n - 1))[:, None] >> np.arange(n)
    return np.asarray(1.0 - 2.0 * (patterns & 1), dtype=float)


def smallest_p(n: int) -> float:
    """The smallest two-sided p that n pairs can give in a sign-flip test: 2 / 2ⁿ. ValueError below n = 1."""
    if n < 1:
        raise ValueError(f"{n} pairs give no p")
    return float(max(2.0 ** (1 - n), 0.0 if n <= _EXACT_UP_TO else 1 / (_DRAWS + 1)))


def pairs_for_significance(contrasts: int = 1, level: float = ALPHA) -> int:
    """The fewest pairs with which each of so many contrasts could be significant after Holm, and all at once."""
    return 1 + max(0, math.ceil(math.log2(contrasts / level) - 1e-9))


@dataclass(frozen=True)
class Significance:
    """`p` and `adjusted` are None where n makes significance impossible, or there is nothing to test; `reason` says
    which."""

    n: int  # pairs
    p: float | None
    adjusted: float | None  # after Holm
    reason: str = ""


def significance(differences_of_each_contrast: Sequence[ArrayLike], level: float = ALPHA) -> list[Significance]:
    """Sign-flip p of each declared contrast, adjusted over all of them; refused where even the clearest data could not
    have reached `level`.

    Holm's adjusted p never falls when any p rises, so that the adjusted smallest p's are what the clearest data give.
    A contrast without pairs stays among the declared ones, with p = 1.
    """
    contrasts = [np.asarray(differences, dtype=float) for differences in differences_of_each_contrast]
    p = [sign_flip_p(x) if len(x) else 1.0 for x in contrasts]
    adjusted, best = holm(p), holm([smallest_p(len(x)) if len(x) else 1.0 for x in contrasts])
    return [
        Significance(len(x), None, None, _refusal(len(x), best[i], len(contrasts), level))
        if best[i] > level
        else Significance(len(x), p[i], adjusted[i])
        for i, x in enumerate(contrasts)
    ]


def _refusal(n: int, best: float, contrasts: int, level: float) -> str:
    if n == 0:
        return "there are no pairs"
    after = f", after Holm over {contrasts} contrasts," if contrasts > 1 else ""
    pairs, needed = f"{n} pair{'s' if n > 1 else ''}", pairs_for_significance(contrasts, level)
    return f"the smallest p that {pairs} can give{after} is {best:.3g}; {needed} could reach {level:g}"
