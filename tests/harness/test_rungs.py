"""Early stopping: the decisions are Ray's, the scopes are the sweep's, and a ledger brings them back."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.ledger import Ledger
from harness.record import recorded
from harness.rungs import Halving, Rungs
from harness.spec import SweepSpec
from harness.trials import TrialSpec
from tests.harness.fake import Fake
from tests.harness.searched import begin, go_on, places, run, spec

ASHA = {"name": "asha", "grace": 1, "reduction": 2}
Reports = list[tuple[int, int, float]]  # trial, epochs since its last report, value


@settings(deadline=None)
@given(
    first=st.integers(1, 5),
    reduction=st.integers(2, 4),
    longest=st.integers(1, 100),
    mode=st.sampled_from(["max", "min"]),
    reports=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20), st.floats(-100, 100)), max_size=80),
)
def test_rungs_decide_as_rays_asynchronous_hyperband_does(
    first: int, reduction: int, longest: int, mode: str, reports: Reports
) -> None:
    from ray.tune.schedulers.async_hyperband import _Bracket

    rungs, bracket = Rungs(first, reduction, longest, mode), _Bracket(first, longest, reduction, 0)
    epochs: dict[int, int] = {}
    for trial, further, value in reports:
        epochs[trial] = epoch = min(longest, epochs.get(trial, 0) + further)

        class RayTrial:
            trial_id = str(trial)

        decision = bracket.on_result(RayTrial(), epoch, value if mode == "max" else -value)
        assert rungs.report(str(trial), epoch, value) == (decision == "STOP")


def test_at_a_rung_the_better_part_of_those_before_goes_on() -> None:
    rungs = Rungs(1, 3, 27, "max")
    assert [rungs.report(f"trial {value}", 1, value) for value in (50, 40, 60, 53, 70)] == [
        False,  # the first has nobody before it
        True,
        False,
        True,  # two thirds of the way through 40, 50, 60 lies 53.3
        False,
    ]
    assert not rungs.report("trial 50", 2, 0.0), "between rungs nothing is decided"
    assert not rungs.report("trial 50", 3, 0.0), "the first at its rung"
    assert not rungs.report("trial 60", 3, 1.0)
    assert rungs.report("trial 70", 3, 0.5)


def test_where_less_is_better_the_greater_values_stop() -> None:
    rungs = Rungs(1, 2, 4, "min")
    assert [rungs.report(str(value), 1, value) for value in (0.5, 0.4, 0.6)] == [False, False, True]


def two(sweep: SweepSpec, folder: Path) -> tuple[Ledger, Halving, list[TrialSpec]]:
    ledger = begin(sweep, folder)
    return ledger, Halving(sweep, ledger), recorded(ledger)


RANDOM: dict[str, Any] = {"search": {"sampler": "random", "trials": 2}, "stopping": ASHA}


def test_cells_do_not_compete_with_each_other(tmp_path: Path) -> None:
    _, halving, trials = two(spec(**RANDOM), tmp_path)
    cells = [trial.cell["method.lamb"] for trial in trials]
    assert cells == [0.0, 0.05, 0.0, 0.05]
    values = [10.0, 90.0, 11.0, 89.0]
    decisions = [halving.report(trial, 1, {"val/linear": v}) for trial, v in zip(trials, values, strict=True)]
    assert decisions == [False, False, False, True]


@pytest.mark.parametrize(
    ("scope", "stopped"), [("cell", [False, False]), ("arm", [False, False]), ("sweep", [False, True])]
)
def test_the_scope_says_who_competes(tmp_path: Path, scope: str, stopped: list[bool]) -> None:
    sweep = spec(**{**RANDOM, "scientific": {}, "arms": {"a": {}, "b": {"base": {"batch_size": 64}}}})
    asked = sweep.model_copy(update={"stopping": sweep.stopping and sweep.stopping.model_copy(update={"scope": scope})})
    _, halving, trials = two(asked, tmp_path)
    values = {"a": 90.0, "b": 10.0}
    assert [halving.report(trial, 1, {"val/linear": values[trial.arm]}) for trial in trials[:2]] == stopped


def test_an_epoch_without_the_metric_decides_nothing_and_takes_no_place(tmp_path: Path) -> None:
    sweep = spec(**{**RANDOM, "stopping": {**ASHA, "reduction": 4}}, scientific={})
    _, halving, trials = two(sweep, tmp_path)
    assert not halving.report(trials[0], 1, {"val/linear": 50.0})
    assert not halving.report(trials[1], 1, {"train/loss": 0.1})
    assert halving.report(trials[1], 2, {"val/linear": 40.0}), "it is judged when it is measured"


def test_the_last_epoch_stops_nothing(tmp_path: Path) -> None:
    _, halving, trials = two(spec(**RANDOM, scientific={}), tmp_path)
    assert not halving.report(trials[0], 4, {"val/linear": 50.0})
    assert not halving.report(trials[1], 4, {"val/linear": 40.0})


@pytest.mark.parametrize("purpose", ["evidence", "floor", "confirm"])
def test_trials_that_are_evidence_never_stop_nor_stop_others(tmp_path: Path, purpose: str) -> None:
    _, halving, trials = two(spec(**RANDOM, scientific={}), tmp_path)
    assert not halving.report(replace(trials[0], purpose=purpose), 1, {"val/linear": 99.0})
    assert not halving.report(trials[1], 1, {"val/linear": 40.0})
    assert not halving.report(replace(trials[1], purpose=purpose), 1, {"val/linear": 0.0})


def test_grace_moves_the_first_rung(tmp_path: Path) -> None:
    _, halving, trials = two(spec(**{**RANDOM, "stopping": {**ASHA, "grace": 2}}, scientific={}), tmp_path)
    for trial, value in zip(trials, (50.0, 40.0), strict=True):
        assert not halving.report(trial, 1, {"val/linear": value})
    assert not halving.report(trials[0], 2, {"val/linear": 50.0})
    assert halving.report(trials[1], 2, {"val/linear": 40.0})


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_halving_rebuilt_from_a_ledger_decides_as_the_one_that_saw_it_happen(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    draw = random.Random(seed)
    sweep = spec(**{**RANDOM, "search": {"sampler": "random", "trials": 6}})
    with begin(sweep, tmp_path_factory.mktemp("half")) as ledger:
        live, running = Halving(sweep, ledger), dict.fromkeys(recorded(ledger), 0)
        for step in range(20):
            if not running:
                break
            trial = draw.choice(list(running))
            running[trial] += 1
            metrics = {"val/linear": draw.uniform(0, 100)}
            ledger.add_epoch(trial.key, running[trial], metrics, {}, at=float(step))
            if live.report(trial, running[trial], metrics) or running[trial] == trial.length:
                ledger.add_event("pruned" if running[trial] < trial.length else "finished", trial.key)
                del running[trial]
        again, states = Halving(sweep, ledger), ledger.states()
        assert ledger.states() == states, "nothing was left to write down"
        for trial, epoch in running.items():
            metrics = {"val/linear": draw.uniform(0, 100)}
            assert again.report(trial, epoch + 1, metrics) == live.report(trial, epoch + 1, metrics)


@pytest.mark.parametrize(("last_event", "state"), [("started", "pruned"), ("interrupted", "waiting")])
def test_a_verdict_that_its_driver_did_not_live_to_write_down_is_written_down(
    tmp_path: Path, last_event: str, state: str
) -> None:
    ledger, _, trials = two(spec(**RANDOM, scientific={}), tmp_path)
    for at, (trial, value) in enumerate(zip(trials, (50.0, 40.0), strict=True)):
        ledger.add_event("started", trial.key, attempt=1, epoch=0, info={})
        ledger.add_epoch(trial.key, 1, {"val/linear": value}, {}, at=float(at))
    if last_event != "started":
        ledger.add_event(last_event, trials[1].key, reason="Ctrl-C")
    Halving(spec(**RANDOM, scientific={}), ledger)
    assert ledger.states() == {trials[0].key: "running", trials[1].key: state}


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid", "tpe"])
def test_every_sampler_can_be_stopped_early_and_only_search_trials_are(tmp_path: Path, sampler: str) -> None:
    space = {"grid": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 3e-3]} if sampler == "grid" else {"log_uniform": [1e-5, 1e-1]}
    search = {"sampler": sampler} if sampler == "grid" else {"sampler": sampler, "trials": 6}
    arms = {"lejepa": {}, "plain": {"nuisance": {}}, "random": {"base": {"method": {"name": "random"}}}}
    sweep = spec(nuisance={"optimizer.lr": space}, search=search, arms=arms, stopping=ASHA)
    ledger, _ = run(sweep, tmp_path)
    states = ledger.states()
    ends = {purpose: {states[row.key] for row in places(ledger, purpose)} for purpose in ("search", "confirm")}
    assert ends == {"search": {"finished", "pruned"}, "confirm": {"finished"}}
    assert {states[row.key] for row in [*places(ledger, "floor"), *places(ledger, "evidence")]} == {"finished"}
    for cell in (0.0, 0.05):
        in_cell = [states[row.key] for row in places(ledger, "search") if row.cell["method.lamb"] == cell]
        assert "finished" in in_cell, "no cell is stopped by the other"


def test_pruned_trials_are_not_taken_up_again(tmp_path: Path) -> None:
    sweep = spec(stopping=ASHA)
    ledger, _ = run(sweep, tmp_path)
    before = ledger.states()
    assert "pruned" in before.values()
    assert go_on(sweep, ledger, Fake()).exhausted
    assert ledger.states() == before


def test_rungs_of_a_sweep_without_stopping_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no `stopping`"):
        Halving(spec(), begin(spec(), tmp_path))
