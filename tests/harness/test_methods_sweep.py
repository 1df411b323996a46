"""sweeps/methods.yaml trains every method by its recipe, as written on the CPU and as published."""

from typing import Any

import pytest

from harness.plan import data_name, plan
from harness.spec import load_sweep
from harness.trials import default_point, enumerate_trials
from lejepa.config import FLOORS, TrainConfig
from lejepa.recipes import RECIPES, Scale, recipe

# what is this sweep's own: LeJEPA on the others' encoder, the bare objective without its switches, when to evaluate
OWN = {"paper": {"lejepa", "lejepa-vit", "bare", "random", "random-vit", "pixels"}, "cpu": {"lejepa-vit", "random-vit"}}


def configs(profile: str) -> dict[str, TrainConfig]:
    sweep = load_sweep("methods", profile=profile)
    return {cell.arm: sweep.config(cell, 0, {}) for cell in sweep.cells()}


def told(config: TrainConfig) -> dict[str, Any]:
    return config.model_dump(exclude={"probe": True, "device": True, "threads": True, "data": {"root"}})


@pytest.mark.parametrize(("profile", "scale"), [("cpu", "cpu"), ("paper", "gpu")])
def test_every_arm_is_its_methods_recipe(profile: str, scale: Scale) -> None:
    for arm, config in configs(profile).items():
        if arm not in OWN[profile]:
            expected = TrainConfig.model_validate(recipe(config.method.name, scale))
            assert told(config) == told(expected), arm


def test_every_method_is_there() -> None:
    assert {config.method.name for config in configs("cpu").values()} == set(RECIPES)


CONTROLS = {"tuned": {"bare", "supervised"}, "gpu": set()}  # trained, and not searched


@pytest.mark.parametrize("profile", ["gpu", "tuned"])
def test_every_method_is_tuned_in_its_own_space_at_one_budget_and_confirmed_on_fresh_seeds(profile: str) -> None:
    sweep = load_sweep("methods", profile=profile)
    floors = {name for name, config in configs(profile).items() if config.method.name in FLOORS}
    tuned = {name: arm for name, arm in sweep.arms.items() if arm.nuisance}
    assert sweep.arms.keys() - tuned.keys() == floors | CONTROLS[profile]
    assert {"optimizer.lr", "optimizer.weight_decay"} <= set.intersection(
        *(set(arm.nuisance) for arm in tuned.values())
    )
    assert tuned["lejepa"].nuisance == tuned["lejepa-vit"].nuisance
    assert "method.lamb" in tuned["lejepa"].nuisance
    search, confirm = sweep.search, sweep.confirm
    assert (search.sampler, search.defaults_first, sweep.stopping) == ("random", True, None)
    assert search.studies >= 2
    assert confirm
    assert len(confirm.seeds) >= 3
    prices = [arm for arm in plan(sweep).arms if arm.arm in tuned]
    assert len({(arm.search, arm.evidence, arm.epochs) for arm in prices}) == 1


@pytest.mark.parametrize("profile", ["gpu", "tuned"])
def test_the_first_trial_of_every_search_is_the_recipe_as_written_and_lies_in_the_space(profile: str) -> None:
    sweep = load_sweep("methods", profile=profile)
    for trial in enumerate_trials(sweep, data_name):
        if trial.purpose == "search" and trial.ordinal == 0:
            (cell,) = (cell for cell in sweep.cells() if cell.arm == trial.arm)
            assert trial.config == sweep.config(cell, trial.config.seed)
            outside = {
                path for path, value in default_point(sweep, cell).items()
                if not sweep.arms[trial.arm].nuisance[path].holds(value)
            }  # fmt: skip
            assert outside == ({"method.predictor_hidden"} if trial.arm == "simsiam" else set())  # None: a quarter


def test_the_tuned_profile_of_the_cpu_is_the_gpus_question_in_small() -> None:
    small, large = (load_sweep("methods", profile=profile) for profile in ("tuned", "gpu"))
    assert small.arms.keys() == large.arms.keys()
    for name, arm in small.arms.items():
        if name not in CONTROLS["tuned"]:
            assert arm.nuisance == large.arms[name].nuisance
    assert plan(small).epochs * 6400 < 0.02 * plan(large).epochs * 45_000


@pytest.mark.parametrize("profile", ["cpu", "gpu", "tuned"])
def test_lejepa_and_a_floor_stand_beside_the_methods_of_every_encoder(profile: str) -> None:
    names: dict[str, set[str]] = {}
    for config in configs(profile).values():
        names.setdefault(str(config.encoder), set()).add(config.method.name)
    assert len(names) == 2
    assert all({"lejepa", "random"} <= methods for methods in names.values())
