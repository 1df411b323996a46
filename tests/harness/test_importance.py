"""Which searched parameter mattered is written down once, when a sweep that searched ends."""

from pathlib import Path
from typing import Any

import pytest

from harness.importance import weigh
from harness.ledger import EventRow, Ledger
from harness.resume import resume_sweep
from harness.run import run_sweep
from harness.spec import SweepSpec
from tests.harness.fake import Fake
from tests.harness.searched import LR, begin, go_on, places, run, spec

DECAY = "optimizer.weight_decay"  # the fake trainer does not look at it
TWO: dict[str, Any] = {LR: {"log_uniform": [1e-5, 1e-1]}, DECAY: {"log_uniform": [1e-6, 1e-2]}}
RANDOM = {"sampler": "random", "trials": 24}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested does not need the last digit of an interval, and each resample costs 10 ms."""
    monkeypatch.setattr("harness.importance._RESAMPLES", 40)


def searched(**keys: Any) -> SweepSpec:
    return spec(**{"nuisance": TWO, "search": RANDOM, "scientific": {"method.lamb": {"grid": [0.05]}}, **keys})


def weighed(ledger: Ledger) -> list[EventRow]:
    return [event for event in ledger.events() if event.kind == "importance"]


def test_the_parameter_that_matters_is_found_and_the_other_is_not(tmp_path: Path) -> None:
    sweep = searched(search={**RANDOM, "trials": 60})
    ledger, _ = run(sweep, tmp_path)
    weigh(sweep, ledger)
    (event,) = weighed(ledger)
    assert event.key is None
    assert (event.payload["arm"], event.payload["cell"], event.payload["n"]) == ("lejepa", {"method.lamb": 0.05}, 60)
    assert event.payload["reason"] is None
    assert set(event.payload["keys"]) == {row.key for row in places(ledger, "search")}
    rate, decay = event.payload["parameters"][LR], event.payload["parameters"][DECAY]
    assert rate["mean"] > 0.7
    assert rate["mean"] + decay["mean"] == pytest.approx(1.0)
    assert rate["low"] > decay["high"]
    for share in (rate, decay):
        assert 0 <= share["low"] <= share["mean"] <= share["high"] <= 1


def test_equal_scores_give_a_reason_and_no_equal_shares(tmp_path: Path) -> None:
    sweep = searched(metric={"name": "train/loss", "mode": "min"})  # the fake's loss depends on the seed alone
    ledger, _ = run(sweep, tmp_path)
    weigh(sweep, ledger)
    payload = weighed(ledger)[0].payload
    assert (payload["parameters"], payload["reason"]) == ({}, "all 24 trials have the same score")


def test_weighing_again_changes_nothing_until_a_trial_has_finished_since(tmp_path: Path) -> None:
    sweep = searched()
    ledger = begin(sweep, tmp_path)
    go_on(sweep, ledger, Fake(), epochs=40)
    weigh(sweep, ledger)
    weigh(sweep, ledger)
    (before,) = [event.payload["n"] for event in weighed(ledger)]
    assert 8 <= before < 24
    go_on(sweep, ledger, Fake())
    weigh(sweep, ledger)
    weigh(sweep, ledger)
    assert [event.payload["n"] for event in weighed(ledger)] == [before, 24]


def test_the_same_trials_give_the_same_numbers(tmp_path: Path) -> None:
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        ledger, _ = run(searched(), folder)
        weigh(searched(), ledger)
        found.append([event.payload for event in weighed(ledger)])
    assert found[0] == found[1]


def test_trials_that_were_stopped_early_or_diverged_are_left_out_and_counted(tmp_path: Path) -> None:
    sweep = searched(stopping={"name": "asha", "reduction": 2}, search={**RANDOM, "trials": 30, "studies": 2})
    ledger, _ = run(sweep, tmp_path, Fake(diverges={1_000_001: 1}))
    weigh(sweep, ledger)
    payload, states = weighed(ledger)[0].payload, ledger.states()
    assert {states[key] for key in payload["keys"]} == {"finished"}
    assert payload["left_out"]["diverged"] == 30
    assert payload["left_out"]["pruned"] > 0
    assert payload["n"] + sum(payload["left_out"].values()) == 60


def test_fewer_than_eight_trials_and_a_single_parameter_give_a_reason(tmp_path: Path) -> None:
    few = searched(search={**RANDOM, "trials": 7})
    ledger, _ = run(few, tmp_path / "few")
    weigh(few, ledger)
    assert weighed(ledger)[0].payload["parameters"] == {}
    assert weighed(ledger)[0].payload["reason"].startswith("7 of the cell's search trials")
    single = searched(nuisance={LR: TWO[LR]})
    ledger, _ = run(single, tmp_path / "single")
    weigh(single, ledger)
    assert weighed(ledger)[0].payload["reason"].startswith("one parameter")


def test_every_cell_and_arm_is_weighed_over_its_own_parameters(tmp_path: Path) -> None:
    choice = {"choice": [128, 256]}
    sweep = searched(
        arms={
            "a": {"scientific": {"method.lamb": {"grid": [0, 0.05]}}},
            "b": {"nuisance": {**TWO, "batch_size": choice}},
            "random": {"base": {"method": {"name": "random"}}},
        },
        search={**RANDOM, "trials": 9},
    )
    ledger, _ = run(sweep, tmp_path)
    weigh(sweep, ledger)
    found = {(e.payload["arm"], e.payload["cell"].get("method.lamb")): e.payload for e in weighed(ledger)}
    assert set(found) == {("a", 0.0), ("a", 0.05), ("b", 0.05)}
    assert set(found["b", 0.05]["parameters"]) == {LR, DECAY, "batch_size"}


def test_a_published_default_outside_the_space_is_not_weighed(tmp_path: Path) -> None:
    search = {**RANDOM, "defaults_first": True}
    sweep = searched(search=search, base={"epochs": 4, "optimizer": {"lr": 0.5}})
    ledger, _ = run(sweep, tmp_path)
    weigh(sweep, ledger)
    payload = weighed(ledger)[0].payload
    assert (payload["n"], payload["left_out"]) == (23, {"outside the space": 1})


def test_a_run_ends_with_the_importance_and_a_resume_does_not_repeat_it(runs: Path) -> None:
    sweep = searched(base={"epochs": 2, "data": {"name": "digits", "size": 16}}, search={**RANDOM, "trials": 8})
    summary = run_sweep(sweep, runs / "searched", "local", trainer=Fake())
    assert not summary.interrupted
    resume_sweep(runs / "searched", "local", trainer=Fake())
    with Ledger.read(runs / "searched" / "ledger.db") as ledger:
        kinds = [event.kind for event in ledger.events()]
    assert kinds.count("importance") == 1
    assert kinds.count("recommended") == 1
    assert kinds[-3:] == ["importance", "recommended", "sweep_finished"]


def test_a_sweep_that_ended_without_it_gets_it_on_resume(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = searched(base={"epochs": 1, "data": {"name": "digits", "size": 16}}, search={**RANDOM, "trials": 8})
    with monkeypatch.context() as before:
        before.setattr("harness.drive.weigh", lambda spec, ledger: None)
        run_sweep(sweep, runs / "searched", "local", trainer=Fake())
    assert resume_sweep(runs / "searched", "local", trainer=Fake()) is None
    with Ledger.read(runs / "searched" / "ledger.db") as ledger:
        assert len(weighed(ledger)) == 1


def test_a_sweep_that_searches_nothing_has_no_such_event(tmp_path: Path) -> None:
    sweep = SweepSpec.model_validate({"name": "plain", "base": {"epochs": 2}, "pool": {"cpus": 1}})
    ledger, _ = run(sweep, tmp_path)
    weigh(sweep, ledger)
    assert not weighed(ledger)


def test_a_sweep_ends_also_where_its_importance_cannot_be_computed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*trials: object) -> dict[str, float]:
        raise RuntimeError("another version\nof Optuna")

    monkeypatch.setattr("harness.importance._importance", broken)
    summary = run_sweep(searched(), runs / "s", "local", trainer=Fake())
    assert set(summary.counts) == {"finished"}
    with Ledger.read(runs / "s" / "ledger.db") as ledger:
        assert ledger.events()[-1].kind == "sweep_finished"
        (event,) = weighed(ledger)
        assert event.payload["parameters"] == {}
        assert event.payload["reason"] == "it could not be computed: RuntimeError: another version of Optuna"
