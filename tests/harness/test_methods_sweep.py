"""sweeps/methods.yaml trains every method by its recipe, as written on the CPU and as published."""

from typing import Any

import pytest

from harness.spec import load_sweep
from lejepa.config import TrainConfig
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


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_lejepa_and_a_floor_stand_beside_the_methods_of_every_encoder(profile: str) -> None:
    names: dict[str, set[str]] = {}
    for config in configs(profile).values():
        names.setdefault(str(config.encoder), set()).add(config.method.name)
    assert len(names) == 2
    assert all({"lejepa", "random"} <= methods for methods in names.values())
