"""Parameters under a condition are there where it holds, and nowhere else: in arms, in cells, in points."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from harness.spec import SpecError, SweepSpec, load_sweep
from harness.trials import default_point, enumerate_trials, search_points
from tests.harness.fake import Fake
from tests.harness.searched import all_ended, begin, fingerprint, go_on, places

MOMENTUM, NAME, LR = "optimizer.momentum", "optimizer.name", "optimizer.lr"
OPTIMIZERS: dict[str, Any] = {
    NAME: {"grid": ["adamw", "sgd"]},
    MOMENTUM: {"grid": [0.8, 0.9], "when": {NAME: "sgd"}},
}
ARMS: dict[str, Any] = {"lejepa": {}, "vicreg": {"base": {"method": {"name": "vicreg"}}}}


def spec(**keys: Any) -> SweepSpec:
    return SweepSpec.model_validate({"name": "a", "base": {"epochs": 2}, "confirm": None, **keys})


def points(sweep: SweepSpec) -> list[dict[str, Any]]:
    return [point for cell in sweep.cells() for point in search_points(sweep, cell, 0)]


# -- by arm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [{"method.name": "lejepa"}, {"method.name": ["lejepa", "dino"]}, {"arm": "lejepa"}])
def test_a_searched_parameter_is_that_of_the_arms_for_which_its_condition_holds(when: dict[str, Any]) -> None:
    nuisance = {"method.slices": {"int": [64, 4096], "when": when}, LR: {"uniform": [0.1, 0.2]}}
    sweep = spec(nuisance=nuisance, arms=ARMS)
    assert {name: list(arm.nuisance) for name, arm in sweep.arms.items()} == {
        "lejepa": ["method.slices", LR],
        "vicreg": [LR],
    }
    assert {t.arm for t in enumerate_trials(sweep, fingerprint)} == set(ARMS)


def test_a_compared_parameter_makes_cells_only_where_it_applies() -> None:
    grid = {"method.slices": {"grid": [64, 256], "when": {"method.name": "lejepa"}}, "epochs": {"grid": [2, 3]}}
    sweep = spec(scientific=grid, arms=ARMS)
    assert [(cell.arm, len(cell.values)) for cell in sweep.cells()] == [("lejepa", 2)] * 4 + [("vicreg", 1)] * 2


def test_an_arm_in_which_nothing_is_left_to_search_is_trained_on_every_seed() -> None:
    sweep = spec(nuisance={"method.slices": {"int": [64, 256], "when": {"arm": "lejepa"}}}, arms=ARMS, seeds=2)
    assert [t.purpose for t in enumerate_trials(sweep, fingerprint) if t.arm == "vicreg"] == ["evidence"] * 2


# -- between parameters -----------------------------------------------------------------------------------------------


def test_all_combinations_are_those_that_differ() -> None:
    sweep = spec(nuisance=OPTIMIZERS, search={"sampler": "grid"})
    assert points(sweep) == [{NAME: "adamw"}, {NAME: "sgd", MOMENTUM: 0.8}, {NAME: "sgd", MOMENTUM: 0.9}]
    assert len({t.key for t in enumerate_trials(sweep, fingerprint)}) == 3
    assert len(spec(scientific=OPTIMIZERS).cells()) == 3


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_drawn_point_holds_what_applies_and_nothing_else(sampler: str) -> None:
    nuisance = {**OPTIMIZERS, MOMENTUM: {"uniform": [0.5, 0.95], "when": {NAME: "sgd"}}, LR: {"uniform": [0.1, 0.2]}}
    drawn = points(spec(nuisance=nuisance, search={"sampler": sampler, "trials": 16}))
    assert {(point[NAME], MOMENTUM in point) for point in drawn} == {("adamw", False), ("sgd", True)}
    assert all(LR in point for point in drawn)


def test_what_hangs_on_a_parameter_that_does_not_apply_does_not_apply() -> None:
    chain = {**OPTIMIZERS, LR: {"grid": [0.1, 0.2], "when": {MOMENTUM: 0.9}}}
    assert points(spec(nuisance=chain, search={"sampler": "grid"})) == [
        {NAME: "adamw"},
        {NAME: "sgd", MOMENTUM: 0.8},
        {NAME: "sgd", MOMENTUM: 0.9, LR: 0.1},
        {NAME: "sgd", MOMENTUM: 0.9, LR: 0.2},
    ]


def test_a_searched_parameter_may_hang_on_the_cell() -> None:
    nuisance = {MOMENTUM: {"uniform": [0.5, 0.95], "when": {NAME: "sgd"}}, LR: {"uniform": [0.1, 0.2]}}
    sweep = spec(scientific={NAME: {"grid": ["adamw", "sgd"]}}, nuisance=nuisance)
    assert [list(sweep.searched(cell)) for cell in sweep.cells()] == [[LR], [MOMENTUM, LR]]
    assert [len(search_points(sweep, cell, 0)[0]) for cell in sweep.cells()] == [1, 2]


def test_the_corners_see_both_ends_of_a_parameter_where_it_applies() -> None:
    nuisance = {**OPTIMIZERS, MOMENTUM: {"uniform": [0.5, 0.95], "when": {NAME: "sgd"}}}
    (cell,) = (sweep := spec(nuisance=nuisance)).cells()
    assert {point.get(MOMENTUM) for point in sweep.corners(cell)} == {None, 0.5, 0.95}
    assert all((MOMENTUM in point) == (point[NAME] == "sgd") for point in sweep.corners(cell))


def test_the_default_point_holds_what_applies() -> None:
    (cell,) = (sweep := spec(nuisance=OPTIMIZERS, search={"defaults_first": True})).cells()
    assert default_point(sweep, cell) == {NAME: "adamw"}


@pytest.mark.parametrize("defaults_first", [False, True])
def test_tpe_asks_for_what_applies_and_repeats_itself_after_a_crash(tmp_path: Path, defaults_first: bool) -> None:
    nuisance = {**OPTIMIZERS, MOMENTUM: {"uniform": [0.5, 0.95], "when": {NAME: "sgd"}}, LR: {"uniform": [0.1, 0.2]}}
    search = {"sampler": "tpe", "trials": 14, "defaults_first": defaults_first}
    sweep = spec(nuisance=nuisance, search=search, base={"epochs": 1})
    whole, cut = begin(sweep, tmp_path / "whole"), begin(sweep, tmp_path / "cut")
    go_on(sweep, whole, Fake())
    go_on(sweep, cut, Fake(), epochs=6)
    go_on(sweep, cut, Fake())
    assert all_ended(whole)
    asked = [event.payload["point"] for event in whole.events() if event.kind == "suggested"]
    assert len(asked) == 14
    assert {(point[NAME], MOMENTUM in point) for point in asked} == {("adamw", False), ("sgd", True)}
    assert asked == [event.payload["point"] for event in cut.events() if event.kind == "suggested"]
    assert [row.key for row in places(whole, "search")] == [row.key for row in places(cut, "search")]


# -- as written -------------------------------------------------------------------------------------------------------


def test_the_resolved_sweep_reads_back_to_itself_and_keeps_the_conditions_that_are_left() -> None:
    nuisance = {**OPTIMIZERS, "method.slices": {"int": [64, 256], "when": {"arm": "lejepa"}}}
    sweep = spec(nuisance=nuisance, arms=ARMS)
    raw = yaml.safe_load(sweep.to_yaml())
    assert raw["arms"]["lejepa"]["nuisance"]["method.slices"] == {"int": [64, 256]}
    assert raw["arms"]["vicreg"]["nuisance"][MOMENTUM] == {"grid": [0.8, 0.9], "when": {NAME: "sgd"}}
    assert SweepSpec.model_validate(raw) == sweep


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (
            {"nuisance": {LR: {"uniform": [0.1, 0.2], "when": {"optimiser.name": "sgd"}}}},
            "did you mean 'optimizer.name'",
        ),
        ({"nuisance": {LR: {"uniform": [0.1, 0.2], "when": {LR: 0.1}}}}, "hangs on itself"),
        ({"nuisance": {LR: {"uniform": [0.1, 0.2], "when": "sgd"}}}, "when is a mapping"),
        ({"nuisance": {LR: {"uniform": [0.1, 0.2], "when": {NAME: []}}}}, "give one value"),
        ({"nuisance": {LR: {"uniform": [0.1, 0.2], "when": {"method.name": "dino"}}}}, "holds in no arm"),
        ({"nuisance": {**OPTIMIZERS, LR: {"uniform": [0.1, 0.2], "when": {NAME: "lars"}}}}, "its space does not hold"),
        (
            {"nuisance": {NAME: {"grid": ["sgd", "adamw"]}}, "scientific": {LR: {"grid": [1], "when": {NAME: "sgd"}}}},
            "cannot hang on that",
        ),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused_with_its_reason(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        spec(**keys)


def test_a_mistake_in_a_file_names_its_line_and_a_cell_without_a_search_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    text = "name: a\nnuisance:\n  optimizer.lr: {uniform: [0.1, 0.2], when: {optimizer.nam: sgd}}\n"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"s.yaml:3: nuisance.optimizer.lr: when: no training has 'optimizer.nam'"):
        load_sweep(file)
    file.write_text(text.replace("nam:", "name:") + "scientific: {optimizer.name: {grid: [sgd, lars]}}\n")
    with pytest.raises(SpecError, match=r"s.yaml:2: nuisance: nothing applies where .*'lars'"):
        load_sweep(file)
