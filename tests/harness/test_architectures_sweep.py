"""sweeps/architectures.yaml compares encoders under one method: whatever else differs is said here."""

from typing import Any

import pytest

from harness.plan import plan
from harness.spec import SweepSpec, load_sweep
from lejepa.config import TrainConfig

PROFILES = [None, "cpu", "gpu", "paper"]


def load(profile: str | None) -> SweepSpec:
    return load_sweep("architectures", profile)


def trained(sweep: SweepSpec) -> dict[str, TrainConfig]:
    """Encoder → its training, floors left out."""
    configs = [sweep.config(cell, 0) for cell in sweep.cells()]
    return {str(config.encoder): config for config in configs if config.method.name != "random"}


def rest(config: TrainConfig) -> dict[str, Any]:
    dumped = config.model_dump(exclude={"encoder": True})
    dumped["optimizer"].pop("weight_decay")  # of ResNets, and of the others (paper §6.1)
    return dumped


@pytest.mark.parametrize("profile", PROFILES)
def test_the_encoders_are_trained_alike_but_for_the_weight_decay_of_their_kind(profile: str | None) -> None:
    sweep = load(profile)
    configs = trained(sweep)
    assert len(configs) >= 8
    assert len(configs) == sum(arm.cells for arm in plan(sweep).arms if not arm.arm.startswith("random"))
    first, *others = (rest(config) for config in configs.values())
    assert first["method"]["name"] == "lejepa"
    assert all(other == first for other in others)
    assert {config.optimizer.weight_decay for config in configs.values()} == {5e-4, 0.05}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_cell_has_three_seeds_at_least(profile: str | None) -> None:
    for arm in plan(load(profile)).arms:
        assert arm.evidence >= 3 * arm.cells


@pytest.mark.parametrize("profile", [None, "gpu"])
def test_every_encoder_also_stands_at_its_initialisation(profile: str | None) -> None:
    sweep = load(profile)
    configs = [sweep.config(cell, 0) for cell in sweep.cells()]
    assert {str(config.encoder) for config in configs if config.method.name == "random"} == trained(sweep).keys()


def test_on_a_gpu_every_encoder_is_searched_at_one_budget_after_the_settings_that_were_carried_over() -> None:
    sweep = load("gpu")
    assert sweep.search.defaults_first
    assert sweep.search.studies >= 2
    assert sweep.stopping is None
    searched = {arm.search // arm.cells for arm in plan(sweep).arms if arm.search}
    assert searched == {sweep.search.studies * (sweep.search.trials or 0)}


def test_as_written_the_budgets_differ_by_less_than_the_epochs_so_that_equal_flops_can_be_read() -> None:
    """The smallest encoder's whole training must pay for at least one measured epoch of most others."""
    config = next(iter(trained(load(None)).values()))
    assert config.probe.every == 1
    assert config.epochs >= 10
