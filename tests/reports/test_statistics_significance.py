"""Tests of contrasts against references that are derived here: by hand, by enumeration, by another library."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from reports import statistics as st

p_values = some.lists(some.floats(0, 1), min_size=1, max_size=8)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04 → never falling 0.04, 0.06, 0.06, 0.06
    assert st.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert st.holm([0.7, 0.6]) == [1.0, 1.0]
    assert st.holm([]) == []


@given(p_values)
def test_holm_is_the_closed_test_of_bonferroni(p):
    """An adjusted p is the largest Bonferroni p, size · smallest p, over all sets of hypotheses that hold it."""
    for i, adjusted in enumerate(st.holm(p)):
        sets = [[q for q, kept in zip(p, mask, strict=True) if kept] for mask in product([0, 1], repeat=len(p))
                if mask[i]]  # fmt: skip
        assert adjusted == pytest.approx(min(1.0, max(len(part) * min(part) for part in sets)))


@given(p_values, some.randoms())
def test_holm_does_not_depend_on_the_order(p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    assert st.holm([p[i] for i in order]) == pytest.approx([st.holm(p)[i] for i in order])


@pytest.mark.parametrize("p", [[-0.1], [1.1], [float("nan")]])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        st.holm(p)


differences = some.lists(some.integers(-20, 20), min_size=1, max_size=8)


@given(differences)
def test_the_sign_flip_p_is_the_share_of_all_patterns_that_are_as_extreme(x):
    sums = [abs(sum(s * d for s, d in zip(signs, x, strict=True))) for signs in product([1, -1], repeat=len(x))]
    assert st.sign_flip_p(x) == pytest.approx(np.mean([s >= abs(sum(x)) for s in sums]))


def test_the_sign_flip_p_agrees_with_scipys_permutation_test():
    x = np.random.default_rng(3).normal(0.8, 1.0, 9)
    known = stats.permutation_test((x, np.zeros(9)), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples",
                                   vectorized=True, n_resamples=np.inf)  # fmt: skip
    assert st.sign_flip_p(x) == pytest.approx(known.pvalue)


def test_a_sampled_sign_flip_p_comes_close_to_the_exact_one_and_is_never_zero():
    rng = np.random.default_rng(0)
    x = rng.normal(0.4, 1.0, 18)
    patterns = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    exact = np.mean(np.abs(patterns @ x) >= abs(x.sum()) - 1e-9)
    assert st.sign_flip_p(x) == pytest.approx(exact, abs=4 * np.sqrt(exact / 100_000))
    assert st.sign_flip_p(np.full(40, 3.0)) == pytest.approx(1e-5, rel=0.01)


@given(differences, some.floats(0.01, 100))
def test_a_p_does_not_depend_on_direction_or_unit(x, scale):
    assert st.sign_flip_p([-scale * d for d in x]) == pytest.approx(st.sign_flip_p(x))


def test_differences_of_zero_say_nothing():
    assert st.sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    with pytest.raises(ValueError, match="at least one"):
        st.sign_flip_p([])


@pytest.mark.parametrize("n", range(1, 12))
def test_the_smallest_p_is_that_of_pairs_which_all_agree(n):
    assert st.smallest_p(n) == pytest.approx(st.sign_flip_p(np.arange(1.0, n + 1)))


def test_the_smallest_p_of_three_pairs_is_a_quarter():
    assert st.smallest_p(3) == 0.25
    assert st.smallest_p(25) == pytest.approx(1e-5, rel=0.01)  # so many are sampled
    with pytest.raises(ValueError, match="0 pairs"):
        st.smallest_p(0)


@given(some.integers(1, 10), some.sampled_from([0.01, 0.05, 0.1]))
def test_the_pairs_that_are_asked_for_are_the_fewest_that_can_do(contrasts, level):
    n = st.pairs_for_significance(contrasts, level)
    possible = [contrasts * st.smallest_p(pairs) <= level for pairs in (max(1, n - 1), n)]
    assert possible == [False, True]


def test_three_pairs_are_refused_with_the_reason():
    found = st.significance([[5.0, 5.1, 4.9]])
    assert (found[0].p, found[0].adjusted) == (None, None)
    assert found[0].reason == "the smallest p that 3 pairs can give is 0.25; 6 could reach 0.05"


def test_six_pairs_that_would_do_for_one_contrast_are_refused_among_three():
    clear = np.arange(1.0, 7.0)
    assert st.significance([clear])[0].adjusted == pytest.approx(2 / 64)
    found = st.significance([clear, clear, clear])
    assert {s.adjusted for s in found} == {None}
    assert (
        found[0].reason
        == "the smallest p that 6 pairs can give, after Holm over 3 contrasts, is 0.0938; 7 could reach 0.05"
    )


def test_a_contrast_with_many_pairs_is_tested_beside_one_with_few():
    many, few = np.arange(1.0, 11.0), [1.0, 2.0, 3.0]
    found = st.significance([few, many, []])
    assert [s.adjusted is None for s in found] == [True, False, True]
    assert found[1].adjusted == pytest.approx(3 * 2 / 2**10)  # all three are declared
    assert found[2].reason == "there are no pairs"


@given(some.lists(some.lists(some.floats(-5, 5), max_size=9), min_size=1, max_size=5))
def test_what_is_refused_could_never_have_been_significant_and_nothing_else_is(contrasts):
    clearest = [[float(i) for i in range(1, len(x) + 1)] for x in contrasts]
    best = st.holm([st.sign_flip_p(x) if x else 1.0 for x in clearest])
    for found, least in zip(st.significance(contrasts), best, strict=True):
        assert (found.adjusted is None) == (least > 0.05)
        assert found.adjusted is None or least - 1e-12 <= found.adjusted <= 1


def test_the_family_errs_in_one_of_twenty_at_most():
    """Three contrasts of nothing but noise, 8 pairs each, skewed: some adjusted p below 0.05 in at most 5 %."""
    rng = np.random.default_rng(5)
    noise = rng.laplace(0, 1, (600, 3, 8))
    wrong = [any(s.adjusted <= 0.05 for s in st.significance(list(x))) for x in noise]
    assert np.mean(wrong) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
