"""A smooth fit through all trials of a search: it finds a planted optimum where the luckiest trial does not."""

import math
from typing import Any

import numpy as np
import pytest

from harness.space import Space
from harness.surface import Seen, Surface, surface

LAMB, LR = "method.lamb", "optimizer.lr"
LAMBS, LRS = [0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5], [1e-3, 1e-2, 1e-1]
NOISE = 3.0


def spaces(**kinds: Any) -> dict[str, Space]:
    given = kinds or {LAMB: {"choice": LAMBS}, LR: {"choice": LRS}}
    return {path: Space.model_validate(space) for path, space in given.items()}


def worth(lamb: float, lr: float) -> float:
    """Best at λ = 0.02, learning rate 0.01: a parabola of the logs."""
    return 70 - 12 * (math.log10(lamb) - math.log10(0.02)) ** 2 - 5 * (math.log10(lr) + 2) ** 2


def grid(rng: np.random.Generator, noise: float = NOISE, factor: float = 1.0) -> list[Seen]:
    return [
        Seen({LAMB: factor * lamb, LR: lr}, {9: worth(lamb, lr) + noise * rng.normal()}, True)
        for lamb in LAMBS
        for lr in LRS
    ]


def fit(trials: list[Seen], **kinds: Any) -> Surface:
    found = surface(spaces(**kinds), trials)
    assert isinstance(found, Surface), found
    return found


def best(found: Surface) -> dict[str, Any]:
    return found.points[int(found.mean.argmax())]


def test_the_best_by_the_fit_loses_less_than_the_best_single_trial() -> None:
    lost = {"fit": 0.0, "trial": 0.0}
    for number in range(12):
        trials = grid(np.random.default_rng(number))
        luckiest = max(trials, key=lambda trial: trial.curve[9]).point
        for name, point in (("fit", best(fit(trials))), ("trial", luckiest)):
            lost[name] += 70 - worth(point[LAMB], point[LR])
    assert lost["fit"] < 0.6 * lost["trial"]


def test_the_noise_of_a_training_is_that_which_repeats_show() -> None:
    rng = np.random.default_rng(0)
    found = fit([trial for _ in range(3) for trial in grid(rng)])
    assert 0.7 * NOISE < found.noise < 1.4 * NOISE
    assert len(found.points) == len(LAMBS) * len(LRS), "a point with repeats is there once"
    errors = np.array([mean - worth(p[LAMB], p[LR]) for p, mean in zip(found.points, found.mean, strict=True)])
    assert np.sqrt((errors**2).mean()) < NOISE / math.sqrt(3), "closer than the means of three repeats"


def test_a_lucky_end_among_trials_that_were_stopped_is_not_believed() -> None:
    """A flat parabola with noise of 2 points, and at λ = 0.5 one end that is eleven points better than it should be."""
    rng, trials = np.random.default_rng(0), []
    for lamb in LAMBS:
        for lr in LRS:
            flat, lucky = 70 - 4 * (math.log10(lamb / 0.02)) ** 2, (lamb, lr) == (0.5, 1e-2)
            finished = lucky or 0.005 <= lamb <= 0.1
            epochs = (1, 3, 9) if finished else (1, 3)
            curve = {epoch: flat - 10 / epoch + 2 * rng.normal() for epoch in epochs}
            trials.append(Seen({LAMB: lamb, LR: lr}, curve | ({9: 73.0} if lucky else {}), finished))
    ended = [trial for trial in trials if trial.finished]
    assert max(ended, key=lambda trial: trial.curve[9]).point[LAMB] == 0.5
    found = fit(trials)
    assert 0.01 <= best(found)[LAMB] <= 0.05
    assert {point[LAMB] for point in found.points} == {lamb for lamb in LAMBS if 0.005 <= lamb <= 0.1} | {0.5}


def test_only_ratios_of_a_parameter_on_the_log_scale_count() -> None:
    one = fit(grid(np.random.default_rng(1)))
    scaled = {LAMB: {"choice": [1000 * lamb for lamb in LAMBS]}, LR: {"choice": LRS}}
    other = fit(grid(np.random.default_rng(1), factor=1000.0), **scaled)
    assert other.mean == pytest.approx(one.mean, rel=1e-6)


def test_zero_has_a_place_below_the_smallest_value() -> None:
    trials = [Seen({LAMB: lamb}, {9: 70 - 12 * abs(math.log10(max(lamb, 1e-3) / 0.02))}, True) for lamb in [0, *LAMBS]]
    assert best(fit(trials, **{LAMB: {"choice": [0, *LAMBS]}})) == {LAMB: 0.02}


def test_what_collapsed_is_left_out_and_a_diverging_loss_does_not_flatten_the_rest() -> None:
    trials = grid(np.random.default_rng(2), noise=0.5)
    trials[0] = Seen(trials[0].point, {9: -math.inf}, True)
    trials[1] = Seen(trials[1].point, {9: -1e7}, True)
    found = fit(trials)
    assert trials[0].point not in found.points
    assert best(found) == {LAMB: 0.02, LR: 1e-2}


def test_draws_are_as_uncertain_as_the_data() -> None:
    sure, unsure = fit(grid(np.random.default_rng(3), noise=0.2)), fit(grid(np.random.default_rng(3), noise=8.0))
    chances = [float((found.best_of_draws(500, 0) == found.mean.argmax()).mean()) for found in (sure, unsure)]
    assert chances[0] > 0.9 > chances[1]


@pytest.mark.parametrize(
    ("kinds", "n", "reason"),
    [
        ({LAMB: {"choice": LAMBS}, "encoder.name": {"choice": ["small", "large"]}}, 18, "encoder.name is no number"),
        ({LAMB: {"choice": LAMBS, "when": {LR: 0.1}}}, 18, "method.lamb is no number in every trial"),
        ({LAMB: {"choice": LAMBS}, LR: {"choice": LRS}}, 7, "7 trials have a value"),
    ],
)
def test_where_there_is_no_fit_it_says_why(kinds: dict[str, Any], n: int, reason: str) -> None:
    found = surface(spaces(**kinds), grid(np.random.default_rng(0))[:n])
    assert isinstance(found, str)
    assert reason in found
