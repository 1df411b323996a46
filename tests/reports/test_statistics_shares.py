"""Shares of trials."""

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
