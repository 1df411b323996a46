import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from reports import statistics as st


def estimate(low: float | None, high: float | None) -> st.Estimate:
    mean = 0.0 if low is None or high is None else (low + high) / 2
    return st.Estimate(mean, low, high, 3, "")


def test_one_value_has_a_mean_and_no_interval():
    assert st.mean_interval([4.0]) == st.Estimate(4.0, None, None, 1, "no interval at n = 1")


def test_three_values_get_students_interval():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653: half width 4.302653 / √3
    found = st.mean_interval([1.0, 2.0, 3.0])
    assert found.how == "Student t"
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_five_values_get_a_bootstrap_t_interval_that_repeats():
    values = [1.0, 2.5, 2.0, 4.0, 3.2]
    assert st.mean_interval(values) == st.mean_interval(values)
    assert st.mean_interval(values).how == "bootstrap-t"


def test_values_that_hardly_differ_in_kind_fall_back_to_student():
    assert st.mean_interval([1.0, 1.0, 1.0, 1.0, 2.0]).how == "Student t"


def test_equal_values_have_an_interval_without_width():
    found = st.mean_interval([5.0] * 8)
    assert (found.low, found.high) == (5.0, 5.0)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_an_interval_of_nothing_or_of_what_is_not_finite_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        st.mean_interval(values)


def test_pairing_removes_what_a_seed_does_to_both_arms():
    seed_effect = np.array([-5.0, 0.0, 5.0])
    paired = st.paired_interval(seed_effect + np.array([2.1, 2.0, 1.9]), seed_effect)
    assert paired.mean == pytest.approx(2.0)
    assert paired.half_width < 0.3


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="equal lengths"):
        st.paired_interval([1.0, 2.0], [1.0])


def test_probability_greater_counts_all_pairs_with_ties_half():
    # pairs: (1,1) ½, (1,2) 0, (3,1) 1, (3,2) 1 → 2.5 / 4
    assert st.probability_greater([1, 3], [1, 2]) == pytest.approx(2.5 / 4)


@given(some.lists(some.integers(-5, 5), min_size=1), some.lists(some.integers(-5, 5), min_size=1))
def test_probability_greater_of_both_directions_adds_to_one(a, b):
    assert st.probability_greater(a, b) + st.probability_greater(b, a) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.1, 3.0, st.DECIDED),
        (-3.0, -1.1, st.DECIDED),
        (-0.9, 1.0, st.EQUIVALENT),
        (0.2, 0.8, st.EQUIVALENT),  # not zero, but too small to matter
        (0.2, 3.0, st.LEANING),
        (-3.0, -0.2, st.LEANING),
        (1.0, 3.0, st.LEANING),  # touches the region
        (-0.5, 3.0, st.UNDECIDED),
        (None, None, st.UNDECIDED),
    ],
)
def test_verdicts_follow_the_region_of_practical_equivalence(low, high, said):
    assert st.verdict(estimate(low, high), rope=1.0) == said


@given(some.floats(-10, 10), some.floats(0, 10), some.floats(0, 5))
def test_a_verdict_does_not_depend_on_the_direction(low, width, rope):
    there, back = estimate(low, low + width), estimate(-low - width, -low)
    assert st.verdict(there, rope) == st.verdict(back, rope)


def test_the_plateau_is_the_unbroken_run_within_one_standard_error():
    means = [69.9, 60.0, 69.2, 70.0, 69.5, 68.0]
    assert st.plateau(means, best_error=1.0, best=3) == (2, 4)  # the first is as good, but beyond a valley


def test_without_a_standard_error_the_plateau_is_the_best_alone():
    assert st.plateau([1.0, 1.0, 1.0], best_error=float("nan"), best=1) == (1, 1)


def test_expected_best_of_two_of_three_by_hand():
    # pairs of {1, 2, 4}: best 2, 4, 4
    assert st.expected_best([4.0, 1.0, 2.0], 2) == pytest.approx(10 / 3)


@given(some.lists(some.floats(-100, 100), min_size=1, max_size=30))
def test_expected_best_runs_from_the_mean_to_the_maximum(values):
    assert st.expected_best(values, 1) == pytest.approx(np.mean(values), abs=1e-6)
    assert st.expected_best(values, len(values)) == pytest.approx(max(values), abs=1e-6)


def test_expected_best_holds_for_thousands_of_scores_and_refuses_more_than_there_are():
    values = np.arange(5000.0)
    assert st.expected_best(values, 100) == pytest.approx(100 * 5001 / 101 - 1, rel=1e-6)  # mean of a maximum of ranks
    with pytest.raises(ValueError, match="best of 5001"):
        st.expected_best(values, 5001)


def test_pairs_needed_is_the_first_n_with_the_power_to_settle_it():
    differences = [1.0, 3.0, 2.0, 4.0]  # mean 2.5, standard deviation 1.29
    needed = st.pairs_needed(differences, rope=1.0)
    # (w · t(0.975, n − 1) + t(0.8, n − 1)) · 1.291 / √n < 1.5, w = 1 + 15 / n² for the bootstrap-t:
    # at 10 (1.15 · 2.262 + 0.883) · 0.408 = 1.42, at 9 1.56
    assert needed == 10
    assert st.pairs_needed([1.0], rope=1.0) is None
    assert st.pairs_needed([1.0, 1.1, 0.9], rope=1.0) is None  # sits on the edge: no n is enough


def test_the_pairs_that_are_proposed_settle_it_about_four_times_out_of_five():
    rng = np.random.default_rng(2)
    needed = st.pairs_needed(2.5 + 1.5 * np.array([-1.0, 0.0, 1.0]), rope=1.0)
    settled = [
        st.verdict(st.mean_interval(sample), 1.0) == st.DECIDED for sample in rng.normal(2.5, 1.5, (400, needed))
    ]
    assert 0.7 <= np.mean(settled) <= 0.9
