"""Laws of scale on numbers whose truth is known: recovered, refused, continued with care, and compared."""

import math

import numpy as np
import pytest
from scipy import optimize

from reports import optima, scaling
from reports.crossing import race
from reports.scaling import Fit, Misfit, Refusal

X = np.geomspace(1e5, 1e7, 6)


def law(x, a=40.0, b=0.5, c=15.0, unit=1e5):
    return c + a * (np.asarray(x) / unit) ** -b


def seeds(means, n=3, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return [list(mean + rng.normal(0, noise, n)) for mean in means]


def reason(found):
    assert isinstance(found, Refusal)
    return found.reason


# -- what is recovered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("b", [0.1, 0.5, 1.3])
def test_without_noise_the_law_itself_is_found(b):
    found = scaling.fit(X, seeds(law(X, b=b), noise=0.0))
    assert found.offset
    assert found.identified
    assert (found.law.a, found.law.b, found.law.c) == pytest.approx((40.0, b, 15.0), rel=1e-3)
    assert np.abs(found.missed).max() < 1e-3


def test_the_fit_is_the_best_of_many_restarts_of_a_general_optimiser():
    """Least squares of relative errors over log a, log b and log c, by scipy from 30 starting points."""
    values = seeds(law(X), noise=2.0, seed=4)
    means = np.mean(values, axis=1)

    def errors(theta):
        a, b, c = np.exp(theta)
        return (c + a * (X / X[0]) ** -b) / means - 1

    rng, squares = np.random.default_rng(0), []
    bounds = (np.log([1e-3, 0.01, 1e-6]), np.log([1e3, 5.0, 1e3]))
    for _ in range(30):
        start = rng.uniform(*bounds)
        squares.append(2 * optimize.least_squares(errors, start, bounds=bounds).cost)
    found = scaling.fit(X, values)
    mine = float((((found.law(X)) / means - 1) ** 2).sum())
    assert found.offset
    assert mine <= min(squares) * (1 + 1e-4)


def test_a_pure_power_law_is_told_from_one_with_an_offset_or_said_not_to_be():
    found = scaling.fit(X, seeds(law(X, c=0.0), noise=0.05, seed=3))
    assert not found.identified
    low, high = found.bounds["c"]
    assert low < 0.2
    assert high < 2.0
    assert len(found.missed_other) == len(X)


def test_the_form_that_predicts_left_out_scales_better_is_taken_where_seeds_do_not_tell():
    for seed in range(8):
        found = scaling.fit(X[:4], seeds(law(X[:4], c=2.0), noise=1.0, seed=seed))
        if isinstance(found, Fit) and not found.identified:
            other = np.sqrt(np.mean(found.missed_other**2))
            assert found.error <= other
            break
    else:
        pytest.fail("no sample left the offset open")


def test_the_order_of_scales_does_not_matter_and_units_only_move_the_unit():
    values = seeds(law(X))
    straight, turned = scaling.fit(X, values), scaling.fit(X[::-1] / 1e5, values[::-1])
    assert turned.law.unit == pytest.approx(1.0)
    assert (straight.law.b, straight.law.c) == pytest.approx((turned.law.b, turned.law.c), rel=1e-6)


def coverage(samples, n=3, noise=0.3):
    held, inside, drawn = np.zeros(3), 0.0, 0
    for seed in range(samples):
        found = scaling.fit(X, seeds(law(X), n, noise, seed))
        if isinstance(found, Misfit):  # 1 in 100, and more where noise is no share of the value
            continue
        for place, (name, truth) in enumerate(zip("abc", (40.0, 0.5, 15.0), strict=True)):
            low, high = found.bounds[name]
            held[place] += low <= truth <= high
        grid = np.geomspace(X[0], X[-1], 9)
        low, high = found.band(grid)
        inside += float(np.mean((low <= law(grid)) & (law(grid) <= high)))
        drawn += 1
    assert drawn >= 0.95 * samples
    return held / drawn, inside / drawn


def test_intervals_and_band_hold_the_planted_law():
    held, inside = coverage(24)
    assert (held >= 0.75).all()
    assert inside >= 0.8  # 0.95 less three standard errors of 24 samples


@pytest.mark.slow
@pytest.mark.parametrize(("n", "noise"), [(3, 0.3), (5, 0.3), (3, 1.0)])
def test_intervals_and_band_cover_at_least_84_percent(n, noise):
    held, inside = coverage(300, n, noise)
    assert (held >= 0.84).all()
    assert inside >= 0.84


# -- what is refused --------------------------------------------------------------------------------------------------


def test_three_scales_are_refused():
    assert reason(scaling.fit(X[:3], seeds(law(X[:3])))) == "3 scales, and a law with an offset needs 4"


def test_flat_data_have_no_trend_and_rising_data_rise():
    flat = [scaling.fit(X, seeds([30.0] * 6, seed=seed)) for seed in range(20)]
    refused = [found.reason for found in flat if isinstance(found, Refusal)]
    assert len(refused) >= 19  # the noise of one in forty falls
    assert sum(said.startswith("no trend (log–log slope ") for said in refused) >= 16
    assert reason(scaling.fit(X, seeds(law(X)[::-1]))).startswith("it rises")
    alone = scaling.fit(X, [[30.0 + 0.3 * (-1) ** i] for i in range(6)])
    assert reason(alone).startswith("no trend")


def test_a_fall_that_ends_after_the_smallest_scale_has_no_exponent():
    found = scaling.fit(X, seeds([60.0, 20.0, 20.0, 20.0, 20.0, 20.0], noise=0.001))
    assert "the exponent is at its bound 5" in reason(found)


def test_values_that_are_not_positive_are_refused_and_broken_lists_are_errors():
    assert "not positive" in reason(scaling.fit(X, seeds(law(X) - 20)))
    with pytest.raises(ValueError, match="all different"):
        scaling.fit([1.0, 1.0], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="as many lists"):
        scaling.fit([1.0, 2.0], [[1.0]])
    with pytest.raises(ValueError, match="finite"):
        scaling.fit([1.0, 2.0], [[1.0], [float("nan")]])


# -- beyond what was measured -----------------------------------------------------------------------------------------


def test_a_law_is_continued_with_an_interval_that_widens_and_at_most_four_times():
    found = scaling.fit(X, seeds(law(X)))
    near, far = scaling.extrapolate(found)
    assert (near.x, far.x) == pytest.approx((2e7, 4e7))
    assert near.low < near.y < near.high
    assert far.high - far.low > near.high - near.low > 0
    with pytest.raises(ValueError, match="at most 4 times"):
        scaling.extrapolate(found, [5.0])


def test_intervals_of_what_lies_beyond_hold_the_truth_where_the_law_holds():
    beyond = [scaling.extrapolate(scaling.fit(X, seeds(law(X), seed=seed))) for seed in range(20)]
    far = [points[-1] for points in beyond if not isinstance(points, Refusal)]
    assert len(far) >= 18
    assert sum(p.low <= law(p.x) <= p.high for p in far) >= 14  # 0.95 less three standard errors


def test_a_law_that_did_not_predict_the_largest_scale_is_not_continued():
    broken = law(X)
    broken[-1] = broken[-2] * 0.995  # the fall ends
    assert isinstance(scaling.fit(X, seeds(broken, noise=0.02)), Misfit)
    noisy = [scaling.fit(X, seeds(broken, noise=1.5, seed=seed)) for seed in range(12)]
    found = [scaling.extrapolate(one) for one in noisy if isinstance(one, Fit)]  # too noisy to reject the law
    refused = [one.reason for one in found if isinstance(one, Refusal)]
    assert len(refused) >= 0.6 * len(found) > 0
    assert all(said.startswith("from the smaller scales the law misses the largest by") for said in refused)


def test_a_law_that_predicts_no_better_than_repeating_the_last_value_is_not_continued():
    found = scaling.fit(X, seeds(law(X, b=0.15, c=0.0), noise=3.0, seed=0))
    assert isinstance(found, Fit)
    low, high = found.missed_largest
    assert low < 0 < high
    assert "and repeating the value before it by" in reason(scaling.extrapolate(found))


def test_one_seed_gives_a_fit_without_intervals_and_nothing_beyond():
    found = scaling.fit(X, [[y] for y in law(X)])
    assert found.bounds == {"a": None, "b": None, "c": None}
    assert found.band(X) is None
    assert reason(scaling.extrapolate(found)) == "one seed at a scale gives no interval"


# -- which arm scales better ------------------------------------------------------------------------------------------


def fitted(seed, **changes):
    return scaling.fit(X, seeds(law(X, **changes), seed=seed))


def test_a_crossing_inside_the_range_is_found_where_it_is():
    a, b = fitted(0, a=45.0, b=0.9, c=10.0), fitted(1, a=35.0, b=0.4, c=12.0)
    truth = optimize.brentq(lambda x: law(x, 45.0, 0.9, 10.0) - law(x, 35.0, 0.4, 12.0), X[0], X[-1])
    found = race(a, b)
    at, low, high = found.crossing
    assert (found.ahead_low, found.ahead_high, found.steeper) == (1, -1, -1)
    assert low < truth < high
    assert at == pytest.approx(truth, rel=0.2)


def test_a_crossing_beyond_the_range_is_not_claimed():
    ahead, behind = fitted(0, a=40.0, b=0.3, c=2.0), fitted(1, a=60.0, b=0.35, c=2.0)  # cross at 3000 times the range
    found = race(ahead, behind)
    assert found.crossing is None
    assert found.throughout
    assert found.ahead_low == found.ahead_high == -1
    assert found.high == X[-1]


def test_two_samples_of_one_law_are_not_told_apart():
    found = race(fitted(0), fitted(1))
    assert (found.crossing, found.throughout) == (None, False)


def test_no_race_without_a_shared_range_or_seeds():
    apart = scaling.fit(X * 1e3, seeds(law(X)))
    assert race(fitted(0), apart) == "they share no range of scales"
    assert "one seed" in race(fitted(0), scaling.fit(X, [[y] for y in law(X)]))


# -- hyperparameters across scale -------------------------------------------------------------------------------------


def hills(scales, best, values, noise=0.05, n=3, width=0.8):
    """Worth falls with the squared distance (in decades) from the best value of each scale."""
    rng = np.random.default_rng(2)
    return {
        scale: {v: list(70 - np.log10(v / best(scale)) ** 2 / width**2 + rng.normal(0, noise, n)) for v in values}
        for scale in scales
    }


def test_the_exponent_of_a_planted_rule_is_recovered():
    tried = hills([2, 4, 8], lambda v: 0.005 * v, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3])
    found = optima.rule(tried, optima.peak)
    assert found.undecided == ""
    assert found.slope.low < 1.0 < found.slope.high
    assert [o.value for o in found.optima] == pytest.approx([0.01, 0.02, 0.04], rel=0.2)


def test_a_parabola_of_uneven_steps_has_its_vertex_where_calculus_puts_it():
    logs = np.array([-3.0, -2.2, -1.9, 0.0])
    (at,), (edge,) = optima.peak(logs, -((logs + 2.1) ** 2)[None])
    assert at == pytest.approx(-2.1)
    assert not edge


def test_an_optimum_at_the_edge_of_its_grid_leaves_the_rule_undecided():
    found = optima.rule(hills([2, 4, 8], lambda v: 0.005 * v**3, [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]), optima.peak)
    assert found.slope is None
    assert found.undecided == "the best value is at an edge of what was tried, at scale 8"


def test_two_scales_make_no_rule_and_one_seed_no_interval():
    values = [0.001, 0.01, 0.1]
    assert "no rule" in optima.rule(hills([2, 4], lambda v: 0.01, values), optima.peak).undecided
    alone = optima.rule(hills([2, 4, 8], lambda v: 0.01, values, n=1), optima.peak)
    assert alone.undecided == "one seed at a value gives no interval"


def test_slices_needed_are_where_the_loss_to_the_most_reaches_the_tolerance():
    def rising(dim):
        return {
            m: [70 - 4 * max(0.0, math.log2(2 * dim / m) if m < math.inf else 0.0)] * 3
            for m in (16, 64, 256, 1024, np.inf)
        }

    found = optima.rule({dim: rising(dim) for dim in (16, 64, 256)}, optima.enough(1.0))
    assert found.slope.mean == pytest.approx(1.0, abs=0.05)
    exact_only = {m: [70.0 if m == np.inf else 60.0] * 3 for m in (16, 64, np.inf)}
    always = {m: [70.0] * 3 for m in (16, 64, np.inf)}
    for edge in (exact_only, always):
        assert optima.rule({1: edge, 2: edge, 4: edge}, optima.enough(1.0)).slope is None


def test_a_rule_needs_positive_scales_and_three_values():
    with pytest.raises(ValueError, match="must be positive"):
        optima.rule({2: {0: [1.0], 0.1: [1.0], 1: [1.0]}}, optima.peak)
    with pytest.raises(ValueError, match="at least 3"):
        optima.rule({2: {0.1: [1.0], 1: [1.0]}}, optima.peak)
