import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from reports import statistics as st


def planted(gaps, n, rng):
    """Arms whose true ranks are 1, 2, …: (arms, n)."""
    return (
        -np.asarray(gaps)[:, None] + rng.normal(0, 1, (len(gaps), n)) + rng.normal(0, 3, n)
    )  # what a seed does to all


# -- ranks ------------------------------------------------------------------------------------------------------------


def test_clear_ranks_have_no_width_and_one_seed_has_no_interval():
    scores = [[60.0, 61.0, 62.0, 63.0, 64.0], [80.0, 81.0, 82.0, 83.0, 84.5], [70.0, 71.2, 72.0, 73.0, 74.0]]
    assert [(e.mean, e.low, e.high) for e in st.rank_intervals(scores)] == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]
    assert [(e.mean, e.low) for e in st.rank_intervals([[1.0], [3.0], [2.0]])] == [(3, None), (1, None), (2, None)]


@given(some.lists(some.lists(some.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_mean_ranks_add_up_whatever_is_tied(scores):
    arms = len(scores)
    assert sum(e.mean for e in st.rank_intervals(scores)) == pytest.approx(arms * (arms + 1) / 2)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("gaps", [(0, 0.3, 0.6, 0.9), (0, 0.1, 2, 2.1, 4)])
def test_rank_intervals_hold_the_true_rank(n, gaps):
    rng, truth = np.random.default_rng(1), np.arange(1, len(gaps) + 1)
    held = []
    for _ in range(60):
        found = st.rank_intervals(planted(gaps, n, rng))
        held.append([e.low <= rank <= e.high for e, rank in zip(found, truth, strict=True)])
    assert np.mean(held) >= 0.92


def test_scores_that_are_no_table_of_numbers_are_refused():
    for wrong in ([1.0, 2.0], [[1.0], [float("nan")]], []):
        with pytest.raises(ValueError, match="arms, seeds"):
            st.rank_intervals(wrong)


# -- groups -----------------------------------------------------------------------------------------------------------


def test_arms_that_are_not_distinguishable_are_one_group_and_others_are_apart():
    scores = np.array([
        [70.0, 71.0, 72.0, 70.5, 71.5],
        [60.0, 61.1, 61.9, 60.4, 61.6],
        [70.3, 70.7, 72.2, 70.4, 71.4],
        [50.0, 51.2, 52.1, 50.3, 51.5],
    ])  # fmt: skip
    first, *others = st.groups(scores)
    assert set(first) == {0, 2}
    assert others == [(1,), (3,)]


def test_groups_overlap_where_the_middle_one_differs_from_neither_end():
    noise = np.array([1.0, -1.0, 0.5, -0.5, 0.0])
    scores = np.stack([noise + 1.2, -noise, noise * [1, -1, 1, -1, 1] - 1.2])
    assert not any(
        stats.ttest_rel(scores[i], scores[j]).pvalue * k < 0.05 for (i, j), k in {(0, 1): 2, (1, 2): 2}.items()
    )
    assert stats.ttest_rel(scores[0], scores[2]).pvalue * 3 < 0.05
    assert st.groups(scores) == [(0, 1), (1, 2)]


def test_one_seed_distinguishes_nothing():
    assert st.groups([[10.0], [99.0], [50.0]]) == [(1, 2, 0)]


@given(some.lists(some.lists(some.floats(0, 100), min_size=4, max_size=4), min_size=1, max_size=6))
def test_every_arm_is_in_a_group_and_no_group_is_within_another(scores):
    found = [set(group) for group in st.groups(scores)]
    assert set().union(*found) == set(range(len(scores)))
    assert not any(a <= b for i, a in enumerate(found) for j, b in enumerate(found) if i != j)


def test_equal_arms_are_rarely_told_apart():
    """Five equal arms over three seeds: some pair is told apart in about 5 % of sweeps, not in 5 % of pairs."""
    rng = np.random.default_rng(4)
    told = [len(st.groups(planted((0, 0, 0, 0, 0), 3, rng))) > 1 for _ in range(400)]
    assert np.mean(told) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


# -- correlation ------------------------------------------------------------------------------------------------------


@given(some.lists(some.tuples(some.integers(0, 9), some.integers(0, 9)), min_size=5, max_size=15))
@settings(deadline=None)
def test_rho_is_scipys_also_with_ties(pairs):
    x, y = zip(*pairs, strict=True)
    found = st.spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        assert found.mean == pytest.approx(stats.spearmanr(x, y)[0])
        assert -1 <= found.low <= found.mean + 1e-12
        assert found.mean - 1e-12 <= found.high <= 1


def test_fewer_than_five_pairs_are_refused():
    assert st.spearman([1, 2, 3, 4], [1, 2, 3, 4]) is None


def test_five_pairs_in_perfect_order_are_no_proof():
    found = st.spearman([1, 2, 3, 4, 5], [1, 4, 9, 16, 25])
    # half a step inside: 1 − 6 / (5 · 24) = 0.95; tanh(artanh 0.95 − 1.96 √(1.45125 / 2)) = 0.161
    assert (found.mean, found.high) == (pytest.approx(1.0), 1.0)
    assert found.low == pytest.approx(0.161, abs=0.001)
    mirrored = st.spearman([1, 2, 3, 4, 5], [25, 16, 9, 4, 1])
    assert (mirrored.low, mirrored.high) == (-1.0, pytest.approx(-found.low))


@pytest.mark.parametrize(("n", "pearson"), [(5, 0.0), (5, 0.9), (8, 0.5), (15, 0.9), (20, 0.5)])
def test_intervals_of_rho_hold_the_truth(n, pearson):
    truth, rng = 6 / np.pi * np.arcsin(pearson / 2), np.random.default_rng(2)  # of a bivariate normal
    held = []
    for _ in range(100):
        x, noise = rng.normal(size=(2, n))
        found = st.spearman(x, pearson * x + np.sqrt(1 - pearson**2) * noise)
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.89  # 95 % less three errors of 100 samples
