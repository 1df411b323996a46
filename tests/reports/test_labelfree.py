"""Label-free selection and the interaction of two parameters, as functions of numbers, on planted truth."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports import labelfree
from reports import statistics as st
from reports.interaction import Try, best_of_each, slope
from reports.sections import labelfree as section
from reports.sections.lambda_labelfree import Criterion

LAMBDAS = np.repeat(10.0 ** np.linspace(-3, -0.3, 10), 3)  # ten λ, three seeds
CELLS = LAMBDAS.tolist()


def planted(alpha, noise=0.0):
    """Losses and accuracies of which accuracy falls with loss / λ^α and with nothing else."""
    rng = np.random.default_rng(1)
    scaled = rng.uniform(1.0, 2.0, len(LAMBDAS))
    return scaled * LAMBDAS**alpha, 90 - 20 * scaled + noise * rng.normal(size=len(LAMBDAS))


@pytest.mark.parametrize("alpha", [0.0, 0.4, 0.75])
def test_a_planted_alpha_is_found(alpha):
    loss, accuracy = planted(alpha)
    assert labelfree.best_alpha(loss, LAMBDAS, accuracy) == pytest.approx(alpha, abs=0.03)
    assert labelfree.correlation(labelfree.scaled_loss(loss, LAMBDAS, alpha), accuracy) == pytest.approx(-1)


def test_a_held_out_training_is_placed_by_an_alpha_that_its_cell_did_not_choose():
    loss, accuracy = planted(0.4)
    out = np.isclose(LAMBDAS, LAMBDAS[0])
    accuracy[out] = 200.0  # this cell alone would choose another α
    places, alphas = labelfree.held_out(loss, LAMBDAS, accuracy, CELLS)
    assert alphas[out] == pytest.approx(0.4, abs=0.03)
    expected = stats.rankdata(labelfree.scaled_loss(loss, LAMBDAS, float(alphas[0])))[0]
    assert places[0] == pytest.approx((expected - 1) / 29)


def test_held_out_places_of_a_planted_truth_rank_the_trainings():
    loss, accuracy = planted(0.4)
    places, _ = labelfree.held_out(loss, LAMBDAS, accuracy, CELLS)
    assert labelfree.correlation(places, accuracy) < -0.98


def test_noise_is_fitted_by_an_alpha_chosen_on_it_and_not_by_one_chosen_elsewhere():
    inside, outside = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        loss, accuracy = rng.uniform(1, 2, 30), rng.normal(size=30)
        alpha = labelfree.best_alpha(loss, LAMBDAS, accuracy)
        inside.append(labelfree.correlation(labelfree.scaled_loss(loss, LAMBDAS, alpha), accuracy))
        outside.append(labelfree.correlation(labelfree.held_out(loss, LAMBDAS, accuracy, CELLS)[0], accuracy))
    assert np.mean(inside) < -0.1
    assert abs(np.mean(outside)) < 0.15 or np.mean(outside) > 0


def test_with_two_lambdas_nothing_is_held_out():
    loss = np.array([1.0, 2.0, 3.0, 4.0])
    lambdas = np.array([0.1, 0.1, 0.2, 0.2])
    assert labelfree.held_out(loss, lambdas, -loss, lambdas.tolist()) is None


def test_the_correlation_is_spearmans_with_ties():
    x, y = [1, 2, 2, 3, 5, 5], [2, 1, 4, 4, 4, 9]
    assert labelfree.correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert math.isnan(labelfree.correlation([1, 1, 1], [1, 2, 3]))


def test_many_pairs_get_an_interval_too():
    x = np.arange(1500.0)
    found = labelfree.correlation_interval(x, x + np.random.default_rng(0).normal(0, 800, 1500))
    assert found.low < found.mean < found.high < 1
    assert found.high - found.low < 0.12


def test_the_regret_is_the_judging_value_that_choosing_by_the_score_gives_away():
    score, selecting, judging = [1, 2, 3, 2, 1, 3], [10, 30, 20, 30, 10, 20], [11, 29, 21, 33, 9, 20]
    found = labelfree.regret(score, selecting, judging, [0, 0, 0, 1, 1, 1])
    assert found.mean == pytest.approx((29 - 11 + 33 - 9) / 2)
    assert found.n == 2


def test_of_equal_scores_one_is_chosen_at_random():
    assert labelfree.regret([1, 1, 2], [5, 9, 7], [5, 9, 7], [0, 0, 0]).mean == pytest.approx(9 - 7)


def test_loss_over_lambda_is_refused_at_zero():
    with pytest.raises(ValueError, match="λ > 0"):
        labelfree.scaled_loss([1.0], [0.0], 0.4)


def criterion(rho, rising=False):
    return Criterion("a number", np.zeros(3), rising, "0", rho, st.Estimate(0.0, None, None, 1, ""))


@pytest.mark.parametrize(
    ("low", "high", "foretells", "misleads"),
    [(0.19, 0.67, False, True), (-0.67, -0.19, True, False), (-0.2, 0.4, False, False)],
)
def test_a_correlation_on_the_wrong_side_of_zero_misleads_and_one_that_holds_zero_says_nothing(
    low, high, foretells, misleads
):
    """Of a loss, where lower should be better; of what should be high, the sides are swapped."""
    rho = st.Estimate((low + high) / 2, low, high, 40, "")
    assert (criterion(rho).foretells, criterion(rho).misleads) == (foretells, misleads)
    mirrored = st.Estimate(-rho.mean, -high, -low, 40, "")
    assert (criterion(mirrored, True).foretells, criterion(mirrored, True).misleads) == (foretells, misleads)


def test_without_an_interval_a_correlation_neither_foretells_nor_misleads():
    for rho in (None, st.Estimate(0.4, None, None, 4, "")):
        assert (criterion(rho).foretells, criterion(rho).misleads) == (None, False)


@pytest.mark.parametrize(
    ("low", "mean", "high", "said"),
    [
        (0.2, 0.9, 1.6, "the choice costs 0.9 [0.2, 1.6] points of test linear-probe accuracy"),
        (-0.4, 0.9, 2.2, "the choice is not shown to cost or gain, at 0.9 [−0.4, 2.2] points of test"),
        (-1.6, -0.9, -0.2, "the choice gains 0.9 [0.2, 1.6] points of test linear-probe accuracy"),
    ],
)
def test_a_choice_without_labels_is_said_to_cost_what_its_interval_shows(low, mean, high, said):
    lost = st.Estimate(mean, low, high, 3, "")
    one = section.Choice(
        SimpleNamespace(name="lejepa"), "6 cells", "λ = 0.1", "λ = 0.2", lost, None, "test/linear", "seed", ()
    )
    trials = pd.DataFrame({"key": ["a"], "method": ["lejepa"], "outcome": ["trained"]})
    study = SimpleNamespace(sweep=SimpleNamespace(trials=trials), metric="−loss/λ^0.4", judge_text="accuracy")
    assert said in section.sentence(study, [one])


# -- λ × learning rate ------------------------------------------------------------------------------------------------


def ridge(power, rounds, spread=0.05, tries=30):
    """Accuracy falls with the squared distance, in decades, to lr = 0.01·(λ/0.1)^power."""
    rng = np.random.default_rng(2)
    for name in range(rounds):
        for x in (0.001, 0.01, 0.1, 1.0):
            for y in 10 ** rng.uniform(-4, 0, tries):
                off = math.log10(y / (0.01 * (x / 0.1) ** power))
                yield Try(x, float(y), -(off**2) + spread * rng.normal(), name)


def test_a_planted_best_rate_is_found_and_does_not_move():
    tries = list(ridge(0.0, rounds=6))
    assert [best.y for best in best_of_each(tries)] == pytest.approx([0.01] * 4, rel=0.6)
    assert not slope(tries).moves


def test_a_planted_slope_is_found_from_several_rounds_and_from_one():
    several, one = slope(list(ridge(0.5, rounds=5))), slope(list(ridge(0.5, rounds=1)))
    assert several.value == pytest.approx(0.5, abs=0.12)
    assert several.moves
    assert several.rounds == 5
    assert one.low <= one.value <= one.high
    assert one.low <= 0.5 <= one.high


def test_the_bootstrap_of_the_best_is_that_of_drawn_resamples():
    tries = [Try(1.0, 10.0**k, value, 0) for k, value in enumerate([3.0, 9.0, 5.0, 7.0, 1.0])]
    (best,) = best_of_each(tries)
    drawn = np.random.default_rng(0).integers(0, 5, (200_000, 5))
    values = np.array([t.value for t in tries])[drawn]
    winners = drawn[np.arange(len(drawn)), values.argmax(axis=1)]
    low, high = np.quantile(winners, [0.025, 0.975])
    assert (math.log10(best.low), math.log10(best.high)) == pytest.approx((low, high))


def test_one_rate_alone_has_no_interval_and_one_lambda_no_slope():
    (best,) = best_of_each([Try(0.1, 1e-3, 5.0, 0)])
    assert (best.y, best.low) == (pytest.approx(1e-3), None)
    assert slope([Try(0.1, 1e-3, 5.0, 0), Try(0.1, 1e-2, 6.0, 0)]) is None


def test_lambda_zero_has_a_best_rate_and_no_part_in_the_slope():
    tries = [Try(x, y, -abs(math.log10(y) + 2), 0) for x in (0.0, 0.1, 1.0) for y in (1e-3, 1e-2, 1e-1)]
    assert [best.x for best in best_of_each(tries)] == [0.0, 0.1, 1.0]
    assert slope(tries).value == pytest.approx(0)
