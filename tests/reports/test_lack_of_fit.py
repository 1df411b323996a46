"""Misfit of a law on numbers whose truth is known: true laws stand, bent curves are refused and not continued."""

import numpy as np
import pytest

from reports import scaling
from reports.lack_of_fit import halves, lack_of_fit
from reports.scaling import Fit, Misfit, Refusal

X = np.geomspace(0.7, 420, 14)  # a front of compute; the noise, too, is of the order of what real sweeps had
NOISE = 0.013


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    """Resamples: hundreds of fits."""
    monkeypatch.setattr(scaling, "RESAMPLES", 400)


def pure(x):
    return 70 * (np.asarray(x) / 0.7) ** -0.09


def offset(x):
    return 15 + 40 * (np.asarray(x) / 0.7) ** -0.3


def bent(x):
    """The local exponent grows from 0.045 to 0.14."""
    logs = np.log(x)
    return np.exp(4.19 - 0.0506 * logs - 0.0075 * logs**2)


def sampled(truth, x, n, seed, noise=NOISE):
    rng = np.random.default_rng(seed)
    return [list(y * np.exp(rng.normal(0, noise, n))) for y in truth(np.asarray(x))]


def fits(truth, x, n, samples, noise=NOISE):
    return [scaling.fit(x, sampled(truth, x, n, seed, noise)) for seed in range(samples)]


def continued(found):
    return isinstance(found, Fit) and not isinstance(scaling.extrapolate(found), Refusal)


# -- the test ---------------------------------------------------------------------------------------------------------


def test_f_is_what_means_miss_over_what_seeds_differ_by():
    """By hand: seeds differ by 0.02 + 0.005 + 0.02 at 3 degrees of freedom, means miss by 2·0.05² + 2·0.1² + 0."""
    samples = [np.array([9.0, 11.0]), np.array([19.0, 21.0]), np.array([4.5, 5.5])]
    found = lack_of_fit(samples, np.array([10.5, 18.0, 5.0]), 2)
    assert (found.between, found.within) == (1, 3)
    assert found.f == pytest.approx((2 * 0.05**2 + 2 * 0.1**2) / (0.045 / 3))
    assert found.p == pytest.approx(0.288, abs=0.001)  # Student's t of √f at 3 degrees of freedom, two-sided


def test_a_misfit_as_large_as_may_be_unseen_is_rejected_nine_times_of_ten():
    """Planted as a bend around a line in the logarithm, orthogonal to it, so that a fit cannot take it up."""
    x = np.geomspace(1, 100, 8)
    basis = np.linalg.qr(np.stack([np.ones(8), np.log(x), np.log(x) ** 2], axis=1))[0][:, 2] * np.sqrt(8)
    unseen = lack_of_fit([np.array([1 - NOISE, 1.0, 1 + NOISE])] * 8, np.ones(8), 2).unseen
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        values = 1 + NOISE * rng.normal(size=(8, 3))
        fitted = np.polyval(np.polyfit(np.log(x), (values + unseen * basis[:, None]).mean(axis=1), 1), np.log(x))
        rejected += lack_of_fit(list(values + unseen * basis[:, None]), fitted, 2).rejected
    assert 0.86 <= rejected / 400 <= 0.94


def test_true_laws_are_seldom_refused():
    for truth in (pure, offset):
        refused = [found for found in fits(truth, X[::2], 2, 40) if isinstance(found, Misfit)]
        assert len(refused) <= 3  # of 0.4 expected


def test_a_bent_curve_has_no_law_and_is_not_continued():
    for n in (2, 3):
        for found in fits(bent, X, n, 20):
            assert isinstance(found, Misfit)
            assert found.reason == "the points bend, and no single exponent describes them"
            assert found.lack.p < 0.01


def test_with_few_scales_a_bent_curve_is_still_seldom_continued():
    assert sum(map(continued, fits(bent, X[::3], 3, 40))) <= 2


def test_points_that_scatter_around_a_law_by_more_than_seeds_do_not_bend():
    off = np.where(np.arange(14) % 2, 1.03, 0.97)
    found = scaling.fit(X, sampled(lambda x: pure(x) * off, X, 3, 0, noise=0.004))
    assert isinstance(found, Misfit)
    assert found.reason.startswith("the points lie off every power law by more than seeds explain")
    assert found.halves.bends == 0


def test_without_noise_between_seeds_misfit_is_not_tested():
    for values in ([[y] for y in bent(X)], [[y, y] for y in bent(X)]):
        found = scaling.fit(X, values)
        assert isinstance(found, Fit)
        assert found.lack is None


def test_one_scale_with_two_seeds_is_noise_enough_to_test():
    values = [[y] for y in bent(X)]
    values[3] = [values[3][0] * 0.999, values[3][0] * 1.001]
    assert scaling.fit(X, values).lack.within == 1


def test_exponents_of_the_halves_are_the_slopes_of_the_curve_there():
    """Of a parabola the least squares slope over evenly spaced points is its slope at their middle."""
    samples = [np.array(v) for v in sampled(bent, X, 3, 1)]
    found = halves(X, samples)
    for part, middle in ((found.lower, np.log(X[:7]).mean()), (found.upper, np.log(X[7:]).mean())):
        low, high = part.bounds
        assert low < 0.0506 + 2 * 0.0075 * middle < high
    assert (found.lower.low, found.lower.high, found.upper.low, found.upper.high) == (X[0], X[6], X[7], X[13])
    assert found.bends == 1
    assert halves(X, samples[::-1]).lower.b < 0


def test_of_an_odd_number_of_scales_the_middle_one_is_in_both_halves():
    found = halves(X[:5], [np.array(v) for v in sampled(bent, X[:5], 2, 0)])
    assert found.lower.high == found.upper.low == X[2]


# -- what is predicted ------------------------------------------------------------------------------------------------


def covered(truth, x, n, samples):
    """Shares of the intervals at twice and four times the largest scale that hold the truth, and how many there are."""
    points = [scaling.extrapolate(found) for found in fits(truth, x, n, samples) if isinstance(found, Fit)]
    kept = [found for found in points if not isinstance(found, Refusal)]
    held = np.array([[p.low <= truth(p.x) <= p.high for p in found] for found in kept])
    return held.mean(axis=0), len(kept)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("truth", [pure, offset])
def test_predictions_of_true_laws_hold_the_truth(truth, n):
    shares, kept = covered(truth, X[::3], n, 40)
    assert kept >= 34
    assert (shares >= 0.84).all()  # 0.95 less three standard errors


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("x", [X, X[::3], X[:10:3]], ids=["14 scales", "5", "4"])
@pytest.mark.parametrize("truth", [pure, offset])
def test_predictions_of_true_laws_hold_the_truth_9_times_of_10(truth, x, n):
    shares, kept = covered(truth, x, n, 150)
    assert kept >= 130
    assert (shares >= 0.9).all()


# -- offsets ----------------------------------------------------------------------------------------------------------


def test_an_offset_of_nothing_is_none():
    """A curve that falls slightly faster with scale leaves an offset nothing to do, in every resample."""

    def steeper(x):
        return np.exp(4.19 - 0.0506 * np.log(x) - 0.0025 * np.log(x) ** 2)

    found = [one for one in (*fits(pure, X, 3, 20), *fits(steeper, X, 2, 20)) if isinstance(one, Fit)]
    assert len(found) >= 30
    assert all(one.law.c > 1e-3 * one.means.min() for one in found if one.offset)
    assert not any(one.lack.rejected for one in found)
    told = [one for one in found if one.identified and not one.offset]
    assert len(told) >= 10
    assert all(one.bounds["c"] == (0.0, 0.0) and one.other is None for one in told)
