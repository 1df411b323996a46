"""Shares of trials, and interquartile means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from reports import statistics as st


@given(some.integers(1, 60).flatmap(lambda n: some.tuples(some.integers(0, n), some.just(n))))
@settings(deadline=None)
def test_the_interval_of_a_share_is_clopper_and_pearsons(share):
    k, n = share
    known = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    found = st.rate_interval(k, n)
    assert (found.mean, found.n) == (k / n, n)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)


def test_no_collapse_in_three_seeds_leaves_room_for_many():
    # (1 − p)³ = 0.025 at p = 0.7076
    assert st.rate_interval(0, 3).high == pytest.approx(0.7076, abs=1e-4)


@pytest.mark.parametrize(("n", "rate"), [(3, 0.1), (10, 0.3), (20, 0.05)])
def test_intervals_of_a_share_cover_at_least_95_percent(n, rate):
    held = [st.rate_interval(k, n).low <= rate <= st.rate_interval(k, n).high for k in range(n + 1)]
    assert stats.binom.pmf(np.arange(n + 1), n, rate) @ held >= 0.95


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_is_refused(k, n):
    with pytest.raises(ValueError, match="no share"):
        st.rate_interval(k, n)


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    assert st.iqm([[1.0, 2.0, 3.0, 100.0], [-50.0, 4.0, 5.0, 6.0]]).mean == pytest.approx((2 + 3 + 4 + 5) / 4)


@given(some.lists(some.lists(some.floats(-100, 100), min_size=1, max_size=6), min_size=1, max_size=4))
@settings(deadline=None, max_examples=25)
def test_the_interquartile_mean_is_scipys_trimmed_mean_of_all_runs(datasets):
    together = [score for runs in datasets for score in runs]
    assert st.iqm(datasets).mean == pytest.approx(stats.trim_mean(together, 0.25), abs=1e-9)


def test_runs_are_resampled_within_their_data_set():
    """Data sets far apart, runs alike: strata kept whole, the middle half cannot move from one data set to another."""
    wide = st.iqm([[10.0, 10.1, 9.9, 10.0], [50.0, 50.1, 49.9, 50.0], [90.0, 90.1, 89.9, 90.0]])
    assert wide.mean == pytest.approx(50, abs=0.1)
    assert wide.half_width < 0.2


def test_a_data_set_with_one_run_has_no_interval():
    assert st.iqm([[1.0, 2.0], [3.0]]).low is None
    for nothing in ([], [[]]):
        with pytest.raises(ValueError, match="at least one"):
            st.iqm(nothing)


@pytest.mark.parametrize(("datasets", "runs"), [(1, 5), (3, 3), (8, 3)])
def test_intervals_of_an_interquartile_mean_cover(datasets, runs):
    """Data sets at different levels; the truth is the mean over many repetitions."""
    rng, levels = np.random.default_rng(0), np.linspace(40, 80, datasets)[:, None]
    draws = levels + rng.normal(0, 3, (4000, datasets, runs))
    truth = stats.trim_mean(draws.reshape(4000, -1), 0.25, axis=1).mean()
    found = [st.iqm(draw) for draw in draws[:100]]
    assert np.mean([e.low <= truth <= e.high for e in found]) >= 0.88  # 93 % less twice the error of 100 samples
