"""TPE, one study per arm, cell and study: what Optuna is told, at what budget, and how a ledger brings it back."""

import math
import random
from collections import Counter
from pathlib import Path
from statistics import pstdev
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adaptive import Adaptive, Group
from harness.executors import RayExecutor
from harness.ledger import ENDED, Ledger
from harness.search import Search, search_for
from harness.source import SpecError
from harness.space import random_points
from harness.spec import STUDY_SEEDS, SweepSpec
from harness.trials import enumerate_trials
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport
from tests.harness.fake import BEST_LR, Fake, FakeTrainer
from tests.harness.searched import LR, Writer, all_ended, begin, curve, fingerprint, go_on, numbers, places, run, spec

ASHA = {"name": "asha", "grace": 1, "reduction": 2}
STATE = {"finished": "COMPLETE", "pruned": "PRUNED", "diverged": "FAIL", "failed": "FAIL", "running": "RUNNING"}


def moody(config: TrainConfig, checkpoints: Path) -> FakeTrainer:
    """Great learning rates diverge, small ones raise."""
    lr, seed = config.optimizer.lr, config.seed
    fake = Fake(diverges={seed: 2}) if lr > 1e-2 else Fake(raises={seed: 1}) if lr < 4e-5 else Fake()
    return fake(config, checkpoints)


def with_everything(**keys: Any) -> SweepSpec:
    arms = {"lejepa": {}, "random": {"base": {"method": {"name": "random"}}}}
    return spec(search={"sampler": "tpe", "trials": 7, "studies": 2}, stopping=ASHA, arms=arms, **keys)


def studies(search: Search) -> list[optuna.Study]:
    """Optuna's studies inside a search."""
    while not isinstance(search, Adaptive):
        search = vars(search)["_search"]
    return search.studies


Ran = tuple[SweepSpec, Ledger, Search]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    sweep = with_everything()
    return sweep, *run(sweep, tmp_path_factory.mktemp("ran"), moody)


# -- what Optuna is told ----------------------------------------------------------------------------------------------


def test_optuna_hears_of_every_trial_what_the_ledger_says_of_it(ran: Ran) -> None:
    _, ledger, search = ran
    states, told = ledger.states(), {study.study_name: study.trials for study in studies(search)}
    for row in places(ledger, "search"):
        name = f'["searched","lejepa",{{"method.lamb":{row.cell["method.lamb"]:g}}},{row.study}]'
        trial, values = told[name][row.ordinal], curve(ledger, row.key, "val/linear")
        assert trial.params == {LR: ledger.trial(row.key).config["optimizer"]["lr"]}
        assert trial.state.name == STATE[states[row.key]]
        assert trial.intermediate_values == values
        if trial.state.name != "FAIL":
            assert trial.value == values[max(values)]
    assert Counter(trial.state.name for trials in told.values() for trial in trials).keys() == {
        "COMPLETE",
        "PRUNED",
        "FAIL",
    }


def test_every_cell_and_study_has_a_study_of_its_own_and_the_same_number_of_trials(ran: Ran) -> None:
    _, ledger, search = ran
    names = [study.study_name for study in studies(search)]
    assert len(set(names)) == len(names) == 4
    assert all(len(study.trials) == 7 for study in studies(search))
    groups = Counter((row.cell["method.lamb"], row.study) for row in places(ledger, "search"))
    assert groups == dict.fromkeys([(0.0, 0), (0.0, 1), (0.05, 0), (0.05, 1)], 7)


def test_no_group_is_ever_more_than_one_trial_ahead(ran: Ran) -> None:
    asked: Counter[tuple[float, int]] = Counter()
    for row in places(ran[1], "search"):
        asked[row.cell["method.lamb"], row.study] += 1
        assert asked.total() < 4 or max(asked.values()) - min(asked.values()) <= 1


def test_search_trials_train_with_their_studys_seed_and_never_read_test(ran: Ran) -> None:
    _, ledger, _ = ran
    tests = {event.key: event.payload["test"] for event in ledger.events() if event.kind == "finished"}
    for row in places(ledger, "search"):
        assert ledger.trial(row.key).seed == STUDY_SEEDS + row.study
        assert tests.get(row.key, {}) == {}
    assert all(tests[row.key] for row in [*places(ledger, "confirm"), *places(ledger, "floor")])


def test_where_less_is_better_optuna_minimises(tmp_path: Path) -> None:
    _, search = run(spec(metric={"name": "train/loss", "mode": "min"}), tmp_path)
    assert {study.direction.name for study in studies(search)} == {"MINIMIZE"}


# -- what it asks for -------------------------------------------------------------------------------------------------


def group(name: str, **keys: Any) -> Group:
    sweep = spec(name=name, scientific={}, **keys)
    return Group(sweep, sweep.cells()[0], 0, fingerprint)


def test_trials_asked_for_side_by_side_do_not_crowd_at_the_best_that_is_known() -> None:
    asking = group("parallel", search={"sampler": "tpe", "trials": 16})
    for ordinal in range(8):
        asking.tell(ordinal, "finished", {1: -abs(math.log10(asking.ask()[0][LR]) + 3)})
    together = [math.log10(asking.ask()[0][LR]) for _ in range(8)]
    assert pstdev(together) > 0.4, "powers of ten; without the constant liar about 0.15"


def test_names_decide_what_is_asked_for() -> None:
    one, again, other = group("one"), group("one"), group("other")
    asked = [group.ask()[0][LR] for group in (one, again, other, again)]
    assert asked[0] == asked[1]
    assert len(set(asked)) == 3


def regret(config: TrainConfig) -> float:
    """Distance to the fake's best learning rate and to a best weight decay, in powers of ten."""
    by_decay = math.log10(config.optimizer.weight_decay / 1e-3)
    return abs(math.log10(config.optimizer.lr / BEST_LR)) + abs(by_decay) / 2


def test_tpe_comes_closer_to_a_known_optimum_than_chance() -> None:
    spaces = {LR: {"log_uniform": [1e-5, 1e-1]}, "optimizer.weight_decay": {"log_uniform": [1e-6, 1.0]}}
    by_tpe, by_chance = [], []
    for repetition in range(16):
        asking = group(f"r{repetition}", nuisance=spaces, search={"sampler": "tpe", "trials": 24})
        found = []
        for ordinal in range(24):
            config = asking.ask()[1].config
            found.append(regret(config))
            asking.tell(ordinal, "finished", {4: -found[-1]})
        sweep = spec(name=f"r{repetition}", scientific={}, nuisance=spaces)
        points = random_points(sweep.arms["lejepa"].nuisance, 24, repetition)
        by_tpe.append(min(found))
        by_chance.append(min(regret(sweep.config(sweep.cells()[0], 0, point)) for point in points))
    assert sum(by_tpe) < 0.7 * sum(by_chance)


def test_a_pruned_trial_teaches_and_is_no_result() -> None:
    asking = group("pruned")
    for ordinal, (state, value) in enumerate([("pruned", 99.0), ("finished", 50.0), ("diverged", 100.0)]):
        asking.ask()
        asking.tell(ordinal, state, {1: value})
    assert asking.study.best_value == 50.0
    assert [trial.value for trial in asking.study.trials] == [99.0, 50.0, None]


def test_a_point_that_was_asked_for_before_counts_and_is_not_trained_again(tmp_path: Path) -> None:
    sweep = spec(nuisance={LR: {"choice": [1e-3, 1e-2]}}, search={"sampler": "tpe", "trials": 6})
    ledger, search = run(sweep, tmp_path)
    for study, cell in zip(studies(search), (0.0, 0.05), strict=True):
        keys = [row.key for row in places(ledger, "search") if row.cell["method.lamb"] == cell]
        assert len(keys) == len(study.trials) == 6
        assert len(set(keys)) <= 2
        ends = {key: max(curve(ledger, key, "val/linear").items())[1] for key in keys}
        assert [trial.value for trial in study.trials] == [ends[key] for key in keys]
    begun = [event.key for event in ledger.events() if event.kind == "started"]
    assert len(begun) == len(set(begun))


def test_a_point_that_is_asked_for_again_while_it_trains_is_told_when_it_ends(tmp_path: Path) -> None:
    sweep = spec(scientific={}, nuisance={LR: {"choice": [1e-3]}}, search={"sampler": "tpe", "trials": 4}, confirm=None)
    ledger = begin(sweep, tmp_path)
    search = search_for(sweep, ledger, fingerprint)
    trial = search.suggest()
    assert trial
    assert search.suggest() is None
    assert search.exhausted
    assert [t.state.name for t in studies(search)[0].trials] == ["RUNNING"] * 4
    ledger.add_epoch(trial.key, 4, {"val/linear": 70.0}, {})
    ledger.add_event("finished", trial.key, test={}, info={})
    search.ended(trial, "finished")
    assert [t.value for t in studies(search)[0].trials] == [70.0] * 4


def test_arms_that_ask_for_the_same_training_share_it(tmp_path: Path) -> None:
    arms = {"grid": {"scientific": {"method.lamb": {"grid": [0.05, 0.1]}}}, "default": {"scientific": {}}}
    sweep = spec(scientific={}, nuisance={LR: {"choice": [1e-3]}}, arms=arms, search={"sampler": "tpe", "trials": 1})
    ledger, search = run(sweep, tmp_path)
    assert len(places(ledger, "search")) == 3
    assert len({row.key for row in places(ledger, "search")}) == 2
    assert [study.trials[0].state.name for study in studies(search)] == ["COMPLETE"] * 3
    assert len(places(ledger, "confirm")) == 9
    assert len({row.key for row in places(ledger, "confirm")}) == 6


VIT = {"encoder": {"name": "small_vit"}, "data": {"size": 32}, "epochs": 2}  # patches of 4


def test_points_that_no_training_takes_are_asked_for_anew_and_do_not_count(tmp_path: Path) -> None:
    nuisance = {"views.local_size": {"int": [8, 16]}}
    sweep = spec(base=VIT, scientific={}, nuisance=nuisance, search={"sampler": "tpe", "trials": 6})
    ledger, search = run(sweep, tmp_path)
    sizes = [ledger.trial(row.key).config["views"]["local_size"] for row in places(ledger, "search")]
    assert len(sizes) == 6
    assert set(sizes) <= {8, 12, 16}
    asked = Counter(trial.state.name for trial in studies(search)[0].trials)
    assert asked["COMPLETE"] == 6
    assert asked["FAIL"] > 0


def test_a_space_without_a_point_that_can_be_trained_is_an_error_that_says_so() -> None:
    with pytest.raises(SpecError, match=r"no point that arm 'lejepa' can train: .*patches of 4"):
        group("none", base=VIT, nuisance={"views.local_size": {"int": [9, 11]}}).ask()


# -- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 3, 17])
def test_a_search_that_is_cut_in_pieces_ends_as_one_that_is_not(ran: Ran, tmp_path: Path, piece: int) -> None:
    sweep, whole, _ = ran
    ledger = begin(sweep, tmp_path)
    for _ in range(200):
        search = go_on(sweep, ledger, moody, epochs=piece)
        if search.exhausted and all_ended(ledger):
            break
    assert numbers(ledger) == numbers(whole)
    started = [event.key for event in ledger.events() if event.kind == "started"]
    assert len(started) > len(set(started)), "trials were cut, and went on"


def test_a_rebuilt_study_is_the_one_that_was_lost(ran: Ran) -> None:
    sweep, ledger, search = ran
    again = studies(search_for(sweep, ledger, fingerprint))
    for study, twin in zip(studies(search), again, strict=True):
        for trial, same in zip(study.trials, twin.trials, strict=True):
            assert (trial.params, trial.state, trial.value) == (same.params, same.state, same.value)
            assert trial.intermediate_values == same.intermediate_values


def test_a_suggestion_that_was_written_down_and_not_started_comes_first(tmp_path: Path) -> None:
    sweep = spec()
    ledger = begin(sweep, tmp_path)
    before = search_for(sweep, ledger, fingerprint)
    suggested = [before.suggest() for _ in range(3)]
    after = search_for(sweep, ledger, fingerprint)
    assert [trial.state.name for study in studies(after) for trial in study.trials] == ["RUNNING"] * 3
    assert [after.suggest() for _ in range(3)] == suggested
    fourth, fifth = before.suggest(), after.suggest()
    assert fourth == fifth


def test_a_trial_that_is_tried_again_is_told_by_its_new_end(tmp_path: Path) -> None:
    sweep = spec(scientific={}, search={"sampler": "tpe", "trials": 2})
    ledger, search = run(sweep, tmp_path, Fake(raises={STUDY_SEEDS: 3}))
    assert {trial.state.name for trial in studies(search)[0].trials} == {"FAIL"}
    keys = [row.key for row in places(ledger, "search")]
    ledger.add_event("requeued", keys[0])
    again = go_on(sweep, ledger, Fake())
    assert [trial.state.name for trial in studies(again)[0].trials] == ["COMPLETE", "FAIL"]
    assert ledger.states()[keys[0]] == "finished"


class Crash(Exception):
    pass


def live(sweep: SweepSpec, ledger: Ledger, draw: random.Random, at_once: int) -> None:
    """One driver's life: trials side by side, with epochs, ends and its own death as the dice fall."""
    search, writer = search_for(sweep, ledger, fingerprint), Writer(ledger)
    ended = {key for key, state in ledger.states().items() if state in ENDED}
    running: dict[Any, int] = {}
    while True:
        while len(running) < at_once and (trial := search.suggest()) is not None:
            assert trial.key not in ended
            assert trial not in running
            running[trial] = len(ledger.epochs(trial.key))
            writer.started(trial, running[trial], {})
        if not running:
            assert search.exhausted
            return
        if draw.random() < 0.03:
            raise Crash
        trial, state = draw.choice(list(running)), ""
        if draw.random() < 0.05:
            state = draw.choice(["failed", "diverged"])
        elif running[trial] < trial.length:
            running[trial] += 1
            report = EpochReport(running[trial], {"val/linear": draw.uniform(0, 100)}, {})
            writer.epoch(trial, report)
            if draw.random() < 0.02:
                raise Crash
            state = "pruned" if search.observe(trial, report) and running[trial] < trial.length else ""
        else:
            state = "finished"
        if state:
            ledger.add_event(state, trial.key)
            ended.add(trial.key)
            del running[trial]
            search.ended(trial, state)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), at_once=st.integers(1, 4), budget=st.sampled_from([None, 70]))
def test_whatever_happens_nothing_is_lost_or_doubled_and_budgets_hold(
    tmp_path_factory: pytest.TempPathFactory, seed: int, at_once: int, budget: int | None
) -> None:
    draw, sweep = random.Random(seed), with_everything(budget=budget and {"epochs": budget})
    with begin(sweep, tmp_path_factory.mktemp("lives")) as ledger:
        for _ in range(1000):
            try:
                live(sweep, ledger, draw, at_once)
                break
            except Crash:
                continue
        states, groups = ledger.states(), Counter((r.cell["method.lamb"], r.study) for r in places(ledger, "search"))
        if budget is None:
            assert set(states.values()) <= ENDED
            assert groups == dict.fromkeys(groups, 7)
            assert len(groups) == 4
        else:
            assert len(ledger.epochs()) <= budget
            assert "running" not in states.values()
        assert max(groups.values()) - min(groups.values()) <= 1
        finished = {row.cell["method.lamb"] for row in places(ledger, "search") if states[row.key] == "finished"}
        assert {row.cell["method.lamb"] for row in places(ledger, "confirm")} == finished
        assert len(places(ledger, "confirm")) == 3 * len(finished)
        assert all(states[row.key] != "pruned" for row in ledger.assignments() if row.purpose != "search")


# -- on Ray -----------------------------------------------------------------------------------------------------------


def test_on_ray_all_cells_are_searched_stopped_and_confirmed_in_one_tuner(
    ray_on_two_cpus: None, tmp_path: Path
) -> None:
    sweep = with_everything(base={"epochs": 3})
    ledger = begin(sweep, tmp_path)
    search = search_for(sweep, ledger, fingerprint)
    with RayExecutor(sweep.pool, Fake()) as executor:
        executor.run(search, Writer(ledger), tmp_path)
    assert search.exhausted
    states = ledger.states()
    assert {study.study_name: len(study.trials) for study in studies(search)} == dict.fromkeys(
        [f'["searched","lejepa",{{"method.lamb":{lamb}}},{study}]' for lamb in ("0", "0.05") for study in (0, 1)], 7
    )
    ends = [STATE[states[row.key]] for row in places(ledger, "search")]
    assert Counter(ends) == Counter(trial.state.name for study in studies(search) for trial in study.trials)
    assert set(ends) == {"COMPLETE", "PRUNED"}
    assert Counter(states[row.key] for row in places(ledger, "confirm")) == {"finished": 6}
    assert len(enumerate_trials(sweep, fingerprint)) == len(places(ledger, "floor")) == 3
