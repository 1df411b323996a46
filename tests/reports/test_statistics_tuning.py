import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reports import statistics as st

scores = some.lists(some.integers(-50, 50), min_size=1, max_size=9)


@given(scores)
def test_each_point_is_the_mean_best_over_all_subsets(values):
    found = st.tuning_curve(values)
    for n, point in zip(found.trials, found.mean, strict=True):
        assert point == pytest.approx(np.mean([max(part) for part in combinations(values, n)]))
        assert point == pytest.approx(st.expected_best(values, n))


@given(scores, some.randoms())
@settings(max_examples=25)
def test_a_curve_rises_holds_its_band_and_ignores_the_order_of_trials(values, random):
    found = st.tuning_curve(values)
    assert all(later >= sooner - 1e-9 for sooner, later in zip(found.mean, found.mean[1:], strict=False))
    if len(values) > 1:
        assert all(low <= high <= max(values) + 1e-9 for low, high in zip(found.low, found.high, strict=True))
    random.shuffle(values)
    assert st.tuning_curve(values) == found or math.isnan(found.low[0])


def test_the_band_holds_the_true_curve_of_random_search():
    """Uniform scores: the best of n draws is n / (n + 1) on average. Of 24 trials, up to a third of them."""
    rng, held = np.random.default_rng(0), []
    for _ in range(100):
        found = st.tuning_curve(rng.uniform(size=24))
        held.append([found.low[n - 1] <= n / (n + 1) <= found.high[n - 1] for n in (1, 2, 4, 8)])
    assert np.mean(held, axis=0).min() >= 0.85


def test_the_mean_of_curves_is_unbiased():
    rng = np.random.default_rng(0)
    curves = [st.expected_best(rng.uniform(size=12), 6) for _ in range(3000)]
    assert np.mean(curves) == pytest.approx(6 / 7, abs=0.005)


def test_a_long_search_is_drawn_to_two_hundred_trials_and_one_trial_has_no_band():
    assert st.tuning_curve(np.arange(1000.0)).trials[-1] == 200
    assert math.isnan(st.tuning_curve([3.0]).low[0])
    with pytest.raises(ValueError, match="finite"):
        st.tuning_curve([1.0, float("nan")])


def test_a_crossing_is_the_first_trial_of_the_new_order():
    assert st.crossings([5, 6, 7, 8], [6, 6.5, 6.9, 7]) == [3]
    assert st.crossings([1, 5, 1, 5], [2, 2, 2, 2]) == [2, 3, 4]
    assert st.crossings([1, 2, 3], [1, 2, 3]) == []
    assert st.crossings([1, 2, 3, 9], [1, 2, 4, 3, 0]) == [4]  # equal, behind, ahead; as far as both go


def test_curves_that_touch_and_part_as_they_came_do_not_cross():
    assert st.crossings([1, 2, 3], [0, 2, 2]) == []


def test_a_method_that_wins_only_after_many_trials_crosses_there():
    """Always 60, against 70 in one of ten trials and 59 else: from 59 + 11 · (1 − 0.9ⁿ) > 60 on, n = 1 at 0.1 · 11."""
    safe, lucky = [60.0] * 100, [70.0] * 2 + [59.0] * 98
    # 59 + 11 · (1 − C(98, n) / C(100, n)) > 60 first at n = 5: 1 − (95 · 94) / (100 · 99) = 0.098, at 4 0.079
    assert st.crossings(st.tuning_curve(safe).mean, st.tuning_curve(lucky).mean) == [5]


def test_only_independent_draws_get_a_curve_without_reserve():
    assert st.tuning_curve_allowed("random") is None
    assert st.tuning_curve_allowed("random", None) is None
    for sampler in ("qmc", "grid"):
        assert st.tuning_curve_allowed(sampler).startswith(st.APPROXIMATE)
    assert st.tuning_curve_allowed("tpe").startswith(st.REFUSED)
    for stopping in ("asha", {"name": "asha", "scope": "cell"}):
        said = st.tuning_curve_allowed("random", stopping)
        assert said.startswith(st.REFUSED)
        assert "asha" in said
