"""`search.defaults_first`: the config as written is the first trial of every study, and nothing else changes."""

from pathlib import Path
from typing import Any

import pytest

from harness.spec import STUDY_SEEDS, SpecError, SweepSpec, load_sweep
from harness.trials import TrialSpec, default_point, enumerate_trials
from tests.harness.fake import Fake
from tests.harness.searched import LR, begin, curve, fingerprint, go_on, numbers, places, run, spec
from tests.harness.test_adaptive import studies

WRITTEN = 2e-3  # the learning rate of the base
INSIDE, OUTSIDE = {"log_uniform": [1e-4, 1e-2]}, {"log_uniform": [1e-2, 1e-1]}


def sweep(space: dict[str, Any], sampler: str = "random", first: bool = True, **keys: Any) -> SweepSpec:
    return spec(
        base={"epochs": 4, "optimizer": {"lr": WRITTEN}},
        nuisance={LR: space},
        search={"sampler": sampler, "trials": 4, "studies": 2, **({"defaults_first": True} if first else {})},
        **keys,
    )


def listed(spec: SweepSpec) -> dict[tuple[Any, ...], TrialSpec]:
    return {(t.arm, *t.cell.values(), t.study, t.ordinal): t for t in enumerate_trials(spec, fingerprint)}


@pytest.mark.parametrize("sampler", ["random", "qmc"])
@pytest.mark.parametrize("space", [INSIDE, OUTSIDE])
def test_the_default_stands_first_and_every_other_trial_is_the_one_that_it_was(
    sampler: str, space: dict[str, Any]
) -> None:
    with_default, drawn = listed(sweep(space, sampler)), listed(sweep(space, sampler, first=False))
    assert with_default.keys() == drawn.keys()
    for place, trial in with_default.items():
        if place[-1] == 0:
            assert trial.config.optimizer.lr == WRITTEN
            assert trial.purpose == "search"
        else:
            assert trial.key == drawn[place].key


def test_studies_train_the_default_with_their_own_seeds_so_it_is_a_trial_in_each() -> None:
    firsts = [trial for place, trial in listed(sweep(INSIDE)).items() if place[-1] == 0]
    assert {trial.config.seed for trial in firsts} == {STUDY_SEEDS, STUDY_SEEDS + 1}
    assert len({trial.key for trial in firsts}) == len(firsts) == 4  # two cells, two studies


def test_a_parameter_that_the_base_leaves_out_has_the_default_of_the_config() -> None:
    plain = spec(
        base={"epochs": 4}, nuisance={LR: INSIDE}, search={"sampler": "random", "trials": 2, "defaults_first": True}
    )
    cell = plain.cells()[0]
    assert default_point(plain, cell) == {LR: plain.config(cell, 0).optimizer.lr}


def test_a_parameter_of_a_part_that_the_default_switches_off_is_nothing_there() -> None:
    path = "method.heuristics.variance_covariance.variance"
    searched = spec(
        base={"epochs": 4, "method": {"name": "predictive"}}, scientific={},
        nuisance={path: {"uniform": [1, 50]}}, search={"sampler": "tpe", "trials": 2, "defaults_first": True},
    )  # fmt: skip
    assert default_point(searched, searched.cells()[0]) == {path: None}


@pytest.mark.parametrize(("space", "known"), [(INSIDE, 4), (OUTSIDE, 3)])
def test_tpe_begins_with_the_default_and_learns_from_it_where_it_lies_in_the_space(
    tmp_path: Path, space: dict[str, Any], known: int
) -> None:
    ledger, search = run(sweep(space, "tpe"), tmp_path)
    rows = places(ledger, "search")
    assert len(rows) == 2 * 2 * 4
    for row in rows:
        lr = ledger.trial(row.key).config["optimizer"]["lr"]
        assert (lr == WRITTEN) == (row.ordinal == 0)
    for study in studies(search):
        assert len(study.trials) == known
        assert all(trial.state.name == "COMPLETE" for trial in study.trials)
        assert (study.trials[0].params[LR] == WRITTEN) == (known == 4)


@pytest.mark.parametrize("space", [INSIDE, OUTSIDE])
def test_a_search_by_tpe_that_is_cut_in_pieces_asks_for_the_same_trials(tmp_path: Path, space: dict[str, Any]) -> None:
    whole = sweep(space, "tpe", pool={"cpus": 1, "max_concurrent": 1})
    ledger, _ = run(whole, tmp_path / "whole", Fake())
    cut = begin(whole, tmp_path / "cut")
    for _ in range(16):  # 88 epochs, 7 at a time
        go_on(whole, cut, Fake(), epochs=7)
    assert numbers(cut) == numbers(ledger)


def test_the_default_can_win_and_is_then_confirmed_on_fresh_seeds(tmp_path: Path) -> None:
    far = {"log_uniform": [5e-2, 1e-1]}  # every drawn rate is worse
    ledger, _ = run(sweep(far, confirm={"top": 1, "seeds": 2}), tmp_path)
    confirmed = [ledger.trial(row.key).config for row in places(ledger, "confirm")]
    assert {config["optimizer"]["lr"] for config in confirmed} == {WRITTEN}
    assert {config["seed"] for config in confirmed} == {0, 1}
    assert all(curve(ledger, row.key, "val/linear") for row in places(ledger, "confirm"))


def test_a_default_that_no_training_takes_is_refused_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "name: s\nbase:\n  encoder: {name: small_vit, patch: 5}\n"
        "nuisance: {encoder.patch: {choice: [4, 8]}}\nsearch: {sampler: random, trials: 2, defaults_first: true}\n"
    )
    with pytest.raises(SpecError, match=r"s.yaml:\d+: .*patches of 5"):
        load_sweep(file)
    file.write_text(file.read_text().replace(", defaults_first: true", ""))
    assert load_sweep(file).search.trials == 2
