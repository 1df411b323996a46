"""From a sweep to its trials: which, in which order, and when two are the same."""

from typing import Any

import pytest

from harness.spec import STUDY_SEEDS, SweepSpec
from harness.trials import TrialSpec, code_hash, confirm_trials, enumerate_trials, search_trial
from lejepa.config import DataConfig, TrainConfig


def fingerprint(data: DataConfig) -> str:
    return f"print of {data.name} at {data.size}"


def spec(**keys: Any) -> SweepSpec:
    return SweepSpec.model_validate({"name": "a", "base": {"epochs": 4}, **keys})


def trials(**keys: Any) -> list[TrialSpec]:
    return enumerate_trials(spec(**keys), fingerprint)


def trial(config: TrainConfig, data: str = "d") -> TrialSpec:
    return TrialSpec("a", {}, 0, 0, "evidence", config, data)


def test_cells_times_seeds_run_seed_by_seed_after_the_floors() -> None:
    listed = trials(
        scientific={"method.lamb": {"grid": [0, 0.1]}},
        arms={"lejepa": {}, "pixels": {"base": {"method": {"name": "pixels"}}}},
        seeds=[3, 7],
    )
    assert [(t.arm, t.cell.get("method.lamb"), t.ordinal, t.config.seed, t.purpose, t.length) for t in listed] == [
        ("pixels", None, 0, 3, "floor", 1),
        ("pixels", None, 1, 7, "floor", 1),
        ("lejepa", 0.0, 0, 3, "evidence", 4),
        ("lejepa", 0.1, 0, 3, "evidence", 4),
        ("lejepa", 0.0, 1, 7, "evidence", 4),
        ("lejepa", 0.1, 1, 7, "evidence", 4),
    ]
    assert len({t.key for t in listed}) == 6
    assert all(t.reads_test for t in listed)


def test_other_images_to_be_judged_on_make_another_trial() -> None:
    def key(judged_on: str, *transfer: str) -> str:
        base = {"epochs": 4, "probe": {"transfer": transfer}}
        (one,) = enumerate_trials(
            SweepSpec.model_validate({"name": "a", "base": base, "seeds": [0]}),
            lambda data: judged_on if data.name == "pets" else fingerprint(data),
        )
        return one.key

    assert key("these", "pets") == key("these", "pets") != key("those", "pets")
    assert key("these") == key("those")


def test_the_key_is_of_what_is_trained_and_not_of_where() -> None:
    config = TrainConfig(data=DataConfig(name="mine"))
    elsewhere = TrainConfig(data=DataConfig.model_validate({"name": "mine", "root": "/else"}), device="cpu", threads=3)
    assert trial(config).key == trial(elsewhere).key
    others = [
        trial(TrainConfig(data=DataConfig(name="mine"), seed=1)),
        trial(TrainConfig(data=DataConfig(name="mine"), epochs=3)),
        trial(TrainConfig(data=DataConfig(name="mine"), precision="bf16")),
        trial(config, data="other images"),
    ]
    assert len({t.key for t in (trial(config), *others)}) == 5
    assert len(trial(config).key) == 16
    assert int(trial(config).key, 16) >= 0


def test_numbers_written_differently_are_the_same_trial_and_the_same_cell() -> None:
    (whole,), (broken,) = (trials(scientific={"method.lamb": {"grid": [one]}}, seeds=1) for one in (1, 1.0))
    assert whole.key == broken.key
    assert repr(whole.cell) == repr(broken.cell) == "{'method.lamb': 1.0}"


def test_two_arms_may_share_a_trial() -> None:
    listed = trials(
        arms={"grid": {"scientific": {"method.lamb": {"grid": [0.05, 0.1]}}}, "default": {"scientific": {}}}, seeds=1
    )
    assert len(listed) == 3
    assert len({t.key for t in listed}) == 2


def test_the_data_of_a_config_are_read_once() -> None:
    asked = []

    def counting(data: DataConfig) -> str:
        asked.append(data.size)
        return "f"

    enumerate_trials(spec(scientific={"data.size": {"grid": [16, 32]}}), counting)
    assert asked == [16, 32]


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_every_cell_and_study_is_searched_at_the_same_budget_with_points_of_its_own(sampler: str) -> None:
    listed = trials(
        scientific={"method.lamb": {"grid": [0, 0.1]}},
        nuisance={"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}},
        search={"sampler": sampler, "trials": 5, "studies": 2},
    )
    groups: dict[tuple[float, int], list[TrialSpec]] = {}
    for t in listed:
        groups.setdefault((t.cell["method.lamb"], t.study), []).append(t)
    assert {place: len(group) for place, group in groups.items()} == dict.fromkeys(groups, 5)
    assert len(groups) == 4
    assert len({t.config.optimizer.lr for t in listed}) == 20
    assert {(t.study, t.config.seed) for t in listed} == {(0, STUDY_SEEDS), (1, STUDY_SEEDS + 1)}
    assert not any(t.reads_test for t in listed)
    assert [t.ordinal for t in listed] == sorted(t.ordinal for t in listed)  # point by point: no cell is left behind


def test_sampler_grid_runs_every_combination() -> None:
    nuisance = {"optimizer.lr": {"grid": [0.1, 0.2]}, "batch_size": {"choice": [32, 64, 128]}}
    listed = trials(nuisance=nuisance, search={"sampler": "grid"})
    assert len({(t.config.optimizer.lr, t.config.batch_size) for t in listed}) == len(listed) == 6


def test_a_sweep_enumerated_again_has_the_same_keys_in_the_same_order() -> None:
    keys = {"nuisance": {"optimizer.lr": {"uniform": [0.1, 0.2]}}, "search": {"sampler": "qmc", "trials": 3}}
    assert [t.key for t in trials(**keys)] == [t.key for t in trials(**keys, name="other")]


def test_tpe_lists_nothing_beforehand_and_its_trials_are_made_one_by_one() -> None:
    sweep = spec(nuisance={"optimizer.lr": {"uniform": [0.1, 0.2]}}, search={"sampler": "tpe"})
    assert enumerate_trials(sweep, fingerprint) == []
    (cell,) = sweep.cells()
    asked = search_trial(sweep, cell, 1, 3, {"optimizer.lr": 0.15}, fingerprint)
    assert (asked.config.optimizer.lr, asked.config.seed, asked.purpose) == (0.15, STUDY_SEEDS + 1, "search")


def test_a_winner_is_confirmed_on_the_same_fresh_seeds_in_every_cell() -> None:
    sweep = spec(nuisance={"optimizer.lr": {"uniform": [0.1, 0.2]}}, confirm={"top": 2, "seeds": 3})
    winner = enumerate_trials(sweep, fingerprint)[4]
    confirmed = confirm_trials(sweep, winner, rank=1)
    assert [t.config.seed for t in confirmed] == [0, 1, 2]
    assert [t.ordinal for t in confirmed] == [3, 4, 5]
    assert {t.config.optimizer.lr for t in confirmed} == {winner.config.optimizer.lr}
    assert all(t.purpose == "confirm" and t.reads_test for t in confirmed)
    assert not {t.key for t in confirmed} & {t.key for t in enumerate_trials(sweep, fingerprint)}


def test_the_code_hash_is_of_the_trainer_alone() -> None:
    assert code_hash() == code_hash()
    assert len(code_hash()) == 64
