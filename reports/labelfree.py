"""Choosing a training without labels: whether a number that needs none ranks trainings as their accuracy does.

LeJEPA ranks trainings of different λ by loss / λ^α (paper §4.4), with α chosen on the trainings that it ranks. Here the
place of a training is given by an α that its own cell had no part in choosing. Pure functions of numbers.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports import statistics as st

PAPER_ALPHA = 0.4  # LeJEPA §4.4
ALPHAS = np.linspace(0.0, 1.0, 41)
FOLDS = 20  # at most; with fewer cells, every cell is one

MANY = 1000  # trainings

Floats = NDArray[np.float64]


def correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's ρ; NaN where either does not vary."""
    a, b = _ranks(x), _ranks(y)
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else float("nan")


def correlation_interval(x: ArrayLike, y: ArrayLike) -> st.Estimate | None:
    """Spearman's ρ with its interval, as st.spearman; beyond MANY pairs by Fisher's z, since resamples of so many would
    not fit in memory. None below five pairs, and where either does not vary."""
    n = len(np.asarray(x))
    if n <= MANY:
        return st.spearman(x, y)
    rho = correlation(x, y)
    if np.isnan(rho):
        return None
    half = 1.96 * np.sqrt((1 + rho**2 / 2) / (n - 3))  # Bonett and Wright (2000)
    low, high = np.tanh(np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12)) + np.array([-half, half]))
    return st.Estimate(rho, float(low), float(high), n, "Fisher z")


def scaled_loss(loss: ArrayLike, lamb: ArrayLike, alpha: float) -> Floats:
    """loss / λ^α; lower is better. ValueError where a λ is not positive."""
    share = np.asarray(lamb, dtype=float)
    if (share <= 0).any():
        raise ValueError("loss / λ^α needs λ > 0")
    return np.asarray(loss, dtype=float) / share**alpha


def best_alpha(loss: ArrayLike, lamb: ArrayLike, accuracy: ArrayLike) -> float:
    """The α in [0, 1] at which lower loss / λ^α goes best with higher accuracy; of equal ones, the middle. NaN where
    nothing varies."""
    rho = np.array([correlation(scaled_loss(loss, lamb, alpha), accuracy) for alpha in ALPHAS])
    if np.isnan(rho).all():
        return float("nan")
    return float(np.median(ALPHAS[rho <= np.nanmin(rho) + 1e-9]))


def held_out(
    loss: ArrayLike, lamb: ArrayLike, accuracy: ArrayLike, cells: Sequence[Hashable]
) -> tuple[Floats, Floats] | None:
    """Place of every training among all, from 0 (lowest loss / λ^α, hence the one to choose) to 1, and the α behind it,
    chosen on the trainings of all other cells.

    Places, since loss / λ^α at different α cannot be compared. None where leaving out a cell leaves nothing to choose α
    by: fewer than two λ, or no variation.
    """
    fold = _folds(cells)
    x, share, y = (np.asarray(values, dtype=float) for values in (loss, lamb, accuracy))
    places, alphas = np.empty(len(x)), np.empty(len(x))
    for out in np.unique(fold):
        mine, rest = fold == out, fold != out
        if len(np.unique(share[rest])) < 2:
            return None
        alpha = best_alpha(x[rest], share[rest], y[rest])
        if np.isnan(alpha):
            return None
        ranks = stats.rankdata(scaled_loss(x, share, alpha))
        places[mine], alphas[mine] = (ranks[mine] - 1) / max(len(x) - 1, 1), alpha
    return places, alphas


def regret(score: ArrayLike, selecting: ArrayLike, judging: ArrayLike, rounds: Sequence[Hashable]) -> st.Estimate:
    """What choosing by the lowest score costs, against choosing by the highest selecting value: judging value of the
    one minus that of the other, in every round (a seed, a study), and its mean over the rounds.

    Of equal scores, one is chosen at random: their mean counts.
    """
    s, v, judged = (np.asarray(values, dtype=float) for values in (score, selecting, judging))
    members: dict[Hashable, list[int]] = {}
    for place, name in enumerate(rounds):
        members.setdefault(name, []).append(place)
    lost = []
    for mine in members.values():
        chosen = judged[mine][s[mine] <= s[mine].min()].mean()
        lost.append(judged[mine][v[mine] >= v[mine].max()].mean() - chosen)
    return st.mean_interval(lost)


def _ranks(values: ArrayLike) -> Floats:
    ranks = stats.rankdata(np.asarray(values, dtype=float))
    return np.asarray(ranks - ranks.mean(), dtype=float)


def _folds(cells: Sequence[Hashable]) -> NDArray[np.int64]:
    order = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    return np.array([order[cell] % FOLDS for cell in cells])
