"""sweeps/heuristics.yaml asks what it says: arms differ from each other by the heuristics in their names alone."""

from typing import Any

import pytest

from harness.plan import plan
from harness.spec import SweepSpec, load_sweep
from lejepa.heuristics_config import Heuristics, PredictiveConfig

# What each switch sets beside itself, and what an arm of its name therefore may differ in.
SWITCHES = {
    "stop_gradient": {"stop_gradient"},
    "ema_teacher": {"ema_teacher", "stop_gradient"},
    "ema_schedule": {"ema_schedule", "ema_teacher", "stop_gradient"},
    "predictor": {"predictor"},
    "batch": {"normalisation"},
    "layer": {"normalisation"},
    "whitening": {"normalisation"},
    "negatives": {"negatives"},
    "variance_covariance": {"variance_covariance"},
    "wd_schedule": {"wd_schedule"},
}


@pytest.fixture(scope="module")
def sweep() -> SweepSpec:
    return load_sweep("heuristics")


def heuristics(sweep: SweepSpec, arm: str) -> dict[str, Any]:
    (cell,) = (cell for cell in sweep.cells() if cell.arm == arm)
    method = sweep.config(cell, 0).method
    assert isinstance(method, PredictiveConfig)
    return method.heuristics.model_dump()


def differences(sweep: SweepSpec, one: str, other: str) -> set[str]:
    a, b = heuristics(sweep, one), heuristics(sweep, other)
    return {name for name in a if a[name] != b[name]}


@pytest.mark.parametrize("profile", [None, "cpu", "gpu", "paper"])
def test_it_is_planned_in_every_profile_without_data(
    profile: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path))
    sweep = load_sweep("heuristics", profile)
    *trained, random, pixels = plan(sweep).arms
    assert (random.arm, pixels.arm) == ("random", "pixels")
    assert all(arm.evidence == len(sweep.seeds) for arm in trained)
    assert all((arm.search > 0) == (profile == "gpu") for arm in trained)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_heuristic_is_added_alone_to_the_bare_objective_and_to_lejepa(sweep: SweepSpec, switch: str) -> None:
    assert differences(sweep, f"bare+{switch}", "bare") == SWITCHES[switch]
    if switch != "layer":  # which contradicts SIGReg
        assert differences(sweep, f"lejepa+{switch}", "lejepa") == SWITCHES[switch]


def test_lejepa_is_the_bare_objective_with_sigreg_alone(sweep: SweepSpec) -> None:
    assert differences(sweep, "lejepa", "bare") == {"sigreg"}
    assert heuristics(sweep, "bare") == Heuristics().model_dump()


def test_an_arm_with_a_minus_lacks_one_thing_of_its_recipe(sweep: SweepSpec) -> None:
    without = [arm for arm in sweep.arms if "-" in arm]
    assert len(without) >= 8
    for arm in without:
        recipe, removed = arm.split("-")
        if recipe != "vicreg":
            assert differences(sweep, arm, recipe) == {"normalisation" if removed == "layer" else removed}
    whole = heuristics(sweep, "bare+variance_covariance")["variance_covariance"]
    for removed in ("variance", "covariance"):
        assert heuristics(sweep, f"vicreg-{removed}")["variance_covariance"] == whole | {removed: 0}


@pytest.mark.parametrize(
    ("recipe", "removed", "left"),
    [("byol", {"ema_teacher", "ema_schedule"}, "simsiam"), ("simclr", {"negatives"}, "bare+layer"),
     ("simclr", {"normalisation"}, "bare+negatives")],
)  # fmt: skip
def test_where_what_is_left_has_a_name_of_its_own_it_stands_once(
    sweep: SweepSpec, recipe: str, removed: set[str], left: str
) -> None:
    assert differences(sweep, recipe, left) == removed
