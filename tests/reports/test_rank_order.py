"""Spearman's ρ of published numbers with true means that are planted: what its interval covers, and what it claims."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.published import load_published
from reports.rank_order import rank_order, verdict
from reports.shapes import FAILS, HOLDS

PUBLISHED = np.array([cell.value for cell in load_published().table("T7").cells][:15])
RANKS = stats.rankdata(PUBLISHED, method="ordinal") - 8  # −7 to 7


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("reports.rank_order._RESAMPLES", 500)


def related(rho):
    """True means of standard deviation 1 that are correlated with the published ranks by about so much."""

    def truth(rng):
        means = rho * RANKS / RANKS.std() + math.sqrt(1 - rho**2) * rng.normal(size=len(RANKS))
        return (means - means.mean()) / means.std()

    return truth


def in_order(step):
    return lambda rng: step * RANKS / RANKS.std()


def two_heights(rng):
    """In the paper's order, but most steps of it are far smaller than the noise."""
    return np.where(RANKS < -4, -4.0, 0.0) + 0.01 * RANKS


def measured(truth, n, noise, times, seed=0):
    """(true ρ, what is found) of so many draws of the truth and of n seeds, which share a common offset."""
    rng = np.random.default_rng(seed)
    for i in range(times):
        means = truth(rng)
        scores = means[:, None] + rng.normal(0, noise, (len(means), n)) + rng.normal(0, 1, n)
        yield float(stats.spearmanr(PUBLISHED, means)[0]), rank_order(PUBLISHED, scores, seed=i)


@pytest.mark.parametrize(
    ("truth", "n", "noise"),
    [
        (related(0.6), 3, 0.6),
        (related(0.75), 2, 0.6),
        (related(0.75), 3, 1.3),  # T7's cells at half their distance: a bootstrap of the means covers 38 %
        (related(0.9), 3, 1.3),
        (related(0.9), 5, 0.6),
        (related(0.0), 3, 0.6),
        (in_order(1.0), 3, 1.0),
        (two_heights, 2, 0.8),
    ],
)
def test_the_interval_covers_the_truth(truth, n, noise):
    found = list(measured(truth, n, noise, 40))
    assert sum(one.rho.low - 1e-9 <= true <= one.rho.high + 1e-9 for true, one in found) >= 36


@pytest.mark.parametrize(("truth", "noise"), [(in_order(0.3), 1.0), (in_order(1.0), 1.0), (two_heights, 0.8)])
@pytest.mark.parametrize("n", [2, 3])
def test_an_order_that_holds_is_hardly_ever_said_not_to(truth, noise, n):
    said = [verdict(one) for _, one in measured(truth, n, noise, 40)]
    assert said.count(FAILS) <= 1


def test_a_clear_order_and_a_clear_disorder_are_told():
    (_, found) = next(measured(in_order(1.0), 3, 0.2, 1))
    assert verdict(found) == HOLDS
    assert found.rho.high == pytest.approx(1)
    (_, found) = next(measured(in_order(-1.0), 3, 0.2, 1))
    assert verdict(found) == FAILS
    assert found.rho.low == pytest.approx(-1)


def test_seeds_that_agree_leave_nothing_to_doubt():
    means = np.array([3.0, 1, 2, 4, 5])
    found = rank_order([1, 2, 3, 4, 5], np.stack([means, means + 1], axis=1))
    assert (found.rho.low, found.rho.mean, found.rho.high) == pytest.approx((0.7, 0.7, 0.7))  # 1 − 6·6 / (5·24)


def test_one_seed_has_no_interval_and_three_cells_no_order():
    assert rank_order([1, 2, 3, 4], [[1.0], [2.0], [3.0], [4.0]]).rho.low is None
    assert rank_order([1, 2, 3], np.ones((3, 3)) * [[1], [2], [3]]) is None
    assert rank_order([1, 1, 1, 1], np.random.default_rng(0).normal(size=(4, 3))) is None


def test_the_order_of_few_cells_can_be_chance():
    scores = np.arange(4)[:, None] + 0.01 * np.random.default_rng(0).normal(size=(4, 3))
    assert rank_order([1, 2, 3, 4], scores).p == pytest.approx(1 / math.factorial(4))  # one order of all is as good
