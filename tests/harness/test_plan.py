"""The price of a sweep: counted by hand here, by the plan there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from harness import costs
from harness.calibrate import calibrate
from harness.costs import Speed, disk, exceeded, from_ledger, given, least_images, state_bytes, time_of
from harness.ledger import Ledger
from harness.plan import Price, data_name, expected_epochs, plan, render
from harness.search_config import Stopping
from harness.spec import SweepSpec, load_sweep
from harness.trials import enumerate_trials
from lejepa.config import TrainConfig


def spec(**keys: Any) -> SweepSpec:
    pool = {"max_concurrent": 2}
    return SweepSpec.model_validate({"name": "a", "base": {"epochs": 10}, "seeds": 3, "pool": pool, **keys})


def text(sweep: SweepSpec, planned: Price, speed: Speed | None) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(render(sweep, planned, speed))
    return captured.get()


def test_a_sweep_without_a_search_costs_cells_times_seeds_times_epochs() -> None:
    arms = {"lejepa": {}, "pixels": {"base": {"method": {"name": "pixels"}}}}
    planned = plan(spec(scientific={"method.lamb": {"grid": [0, 0.1]}}, arms=arms))
    assert (planned.trials, planned.epochs, planned.exact) == (6 + 3, 60 + 3, True)
    assert [(arm.arm, arm.cells, arm.evidence, arm.search, arm.epochs) for arm in planned.arms] == [
        ("lejepa", 2, 6, 0, 60),
        ("pixels", 1, 3, 0, 3),
    ]


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_a_search_costs_trials_times_studies_in_every_cell_and_its_confirmation(sampler: str) -> None:
    planned = plan(
        spec(
            scientific={"method.lamb": {"grid": [0, 0.1]}},
            nuisance={"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}},
            search={"sampler": sampler, "trials": 4, "studies": 2},
            confirm={"top": 2, "seeds": 5},
        )
    )
    assert (planned.arms[0].search, planned.arms[0].evidence) == (2 * 4 * 2, 2 * 2 * 5)
    assert (planned.trials, planned.epochs, planned.exact) == (36, 360, False)


def test_early_stopping_makes_the_price_an_upper_bound() -> None:
    keys: dict[str, Any] = {"nuisance": {"optimizer.lr": {"grid": [0.1, 0.2]}}, "search": {"sampler": "grid"}}
    assert plan(spec(**keys, confirm=None)).exact
    assert not plan(spec(**keys, confirm=None, stopping={"name": "asha"})).exact


def test_a_search_without_a_word_on_confirm_pays_for_its_best_on_the_seeds_of_the_sweep() -> None:
    keys: dict[str, Any] = {"nuisance": {"optimizer.lr": {"grid": [0.1, 0.2]}}, "search": {"sampler": "grid"}}
    assert plan(spec(**keys, seeds=5)).arms[0].evidence == 5
    assert plan(spec(**keys, confirm={"top": 2})).arms[0].evidence == 2 * 3
    assert plan(spec(**keys, confirm=None)).arms[0].evidence == 0


@pytest.mark.parametrize(
    ("profile", "cells", "search"), [(None, 5, 60), ("cpu", 5, 60), ("gpu", 9, 9 * 12 * 3), ("paper", 12 * 3, 0)]
)
def test_the_shipped_sweep_over_lambda_is_planned_in_every_profile_without_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str | None, cells: int, search: int
) -> None:
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path))
    sweep = load_sweep("sweeps/lambda.yaml", profile)
    lejepa, *floors = plan(sweep).arms
    assert (lejepa.cells, lejepa.search, lejepa.evidence) == (cells, search, cells * len(sweep.seeds))
    assert [floor.arm for floor in floors] == ["random", "pixels"]


SHIPPED = [
    (path, profile)
    for path in sorted((Path(__file__).parents[2] / "sweeps").rglob("*.yaml"))
    if "arms" in (raw := yaml.safe_load(path.read_text())) or "base" in raw  # published.yaml is a table, not a sweep
    for profile in (None, *raw.get("profiles", {}))
]


@pytest.mark.parametrize(("path", "profile"), SHIPPED, ids=lambda value: getattr(value, "stem", str(value)))
def test_every_shipped_sweep_is_planned_in_every_profile_without_data_and_asks_one_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: Path, profile: str | None
) -> None:
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path))
    sweep = load_sweep(path, profile)
    planned = plan(sweep)
    assert planned.trials > 0
    assert planned.epochs >= planned.least > 0
    assert sweep.question.count("?") == 1
    assert sweep.question.endswith("?")
    assert all(arm.evidence > 0 for arm in planned.arms)


def test_a_trial_that_two_arms_share_is_paid_once() -> None:
    arms = {"grid": {"scientific": {"method.lamb": {"grid": [0.05, 0.1]}}}, "default": {}}
    planned = plan(spec(arms=arms))
    assert (planned.trials, planned.epochs) == (6, 60)


def test_data_sets_are_told_apart_without_reading_them() -> None:
    planned = plan(spec(scientific={"data.name": {"grid": ["not-here", "nor-here"]}}))
    assert planned.trials == 6


def trained(path: Path, sweep: SweepSpec, seconds: float) -> None:
    """An earlier ledger that has the sweep's trials, each with an epoch of so many seconds, twice that if wide."""
    with Ledger(path) as ledger:
        for number, trial in enumerate(enumerate_trials(sweep, data_name)):
            ledger.add_trial(trial.key, trial.config.model_dump(mode="json"), trial.config.seed, 1, "d", "c")
            ledger.assign(trial.arm, {}, 0, number, "evidence", trial.key)
            ledger.add_event("started", trial.key, attempt=1, info={"device": "cpu", "threads": 1})
            wide = trial.config.encoder.width is not None
            ledger.add_epoch(trial.key, 1, {}, {"seconds": 2 * seconds if wide else seconds})


def test_the_time_comes_from_equal_trainings_in_an_earlier_ledger_of_the_sweep(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    wide = {"base": {"encoder": {"width": 64}}}
    sweep = spec(arms={"narrow": {}, "wide": wide})
    assert from_ledger(path, sweep) is None
    trained(path, sweep, 2.0)
    other = spec(arms={"λ": {"base": {"method": {"lamb": 0.2}, "optimizer": {"lr": 0.1}}}, "wide": wide})
    assert (speed := from_ledger(path, other))
    assert [speed.seconds(cell) for cell in plan(other).cells] == [2.0, 4.0]
    assert (time := time_of(other, plan(other), speed))
    assert (time.device_seconds, time.wall_clock) == (3 * 10 * 6.0, 3 * 10 * 6.0 / 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"base.encoder.width": 256}, {"base.data.size": 16}, {"base.data.limit": 100}, {"base.views.local_views": 8},
        {"base.probe.finetune": 3}, {"base.precision": "bf16"}, {"pool.gpus": 1}, {"pool.cpus": 2},
    ],
)  # fmt: skip
def test_the_time_of_other_trainings_is_not_taken_for_theirs(changed: dict[str, Any], tmp_path: Path) -> None:
    sweep = spec()
    trained(tmp_path / "ledger.db", sweep, 2.0)
    part, *path = next(iter(changed)).split(".")
    value: Any = next(iter(changed.values()))
    for key in reversed(path):
        value = {key: value}
    other = spec(**({"pool": {"max_concurrent": 2} | value} if part == "pool" else {"base": {"epochs": 10} | value}))
    assert (speed := from_ledger(tmp_path / "ledger.db", other))
    assert [speed.seconds(cell) for cell in plan(other).cells] == [None]
    assert "time unknown of some trainings" in text(other, plan(other), speed)


def test_seconds_are_never_said_as_powers_of_ten() -> None:
    assert [given(seconds).source for seconds in (0.043, 100.0, 86_400.0)] == [
        "at 0.043 s an epoch", "at 100 s an epoch", "at 86,000 s an epoch",
    ]  # fmt: skip


@pytest.mark.parametrize(("visible", "at_once"), [("0,1,2,3,4,5,6,7", 8), ("0", 1), ("", 16)])
def test_a_machine_with_fewer_gpus_than_places_has_so_many_trials_at_once(
    visible: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    sweep = spec(pool={"gpus": 1, "cpus": 1, "max_concurrent": 16})
    shown = text(sweep, plan(sweep), given(60.0))
    assert f"with {at_once} at once" in shown
    assert ("where there are GPUs for so many" in shown) == (visible == "")


@pytest.mark.parametrize(
    ("grace", "reduction", "length", "expected"),
    [(1, 3, 9, 1 + 2 / 3 + 6 / 9), (2, 2, 10, 2 + 2 / 2 + 4 / 4 + 2 / 8), (4, 3, 5, 4 + 1 / 3)],
)
def test_one_in_so_many_goes_on_at_every_rung(grace: int, reduction: int, length: int, expected: float) -> None:
    assert expected_epochs(Stopping(grace=grace, reduction=reduction), length) == pytest.approx(expected)


def test_the_price_counts_devices_pools_and_what_stopping_saves() -> None:
    keys: dict[str, Any] = {"nuisance": {"optimizer.lr": {"uniform": [0.1, 0.2]}}, "search": {"trials": 8}}
    keys |= {"base": {"epochs": 9}, "confirm": None, "stopping": {"name": "asha"}}
    sweep = spec(**keys, pool={"cpus": 2, "max_concurrent": 4})
    assert (time := time_of(sweep, plan(sweep), given(10.0)))
    assert (time.device_seconds, time.wall_clock, time.least_device_seconds) == (8 * 9 * 20, 8 * 90 / 4, 8 * 20)
    assert time.expected_device_seconds == pytest.approx(8 * 20 * expected_epochs(Stopping(), 9))
    assert "(26 %) if one in 3 goes on at every rung" in text(sweep, plan(sweep), given(10.0))


def test_pools_work_side_by_side() -> None:
    sweep = spec(
        pool={},
        pools={"small": {"max_concurrent": 2}, "big": {"cpus": 4, "max_concurrent": 1}},
        place=[{"when": "arm == heavy", "pool": "big"}],
        arms={"light": {}, "heavy": {"base": {"method": {"name": "vicreg"}}}},
    )
    assert (time := time_of(sweep, plan(sweep), given(1.0)))
    assert (time.device_seconds, time.wall_clock) == (30 * 1 + 30 * 4, 30.0)


@pytest.mark.parametrize(
    ("budget", "wrong"),
    [
        ({"device_seconds": 59}, "budget.device_seconds: the design needs at least 60, not 59"),
        ({"wall_clock": 29}, "budget.wall_clock: the design needs at least 30, not 29"),
        ({"images": 2999}, "budget.images: the design needs at least 3,000, not 2,999"),
        ({"device_seconds": 60, "wall_clock": 30, "images": 3000}, ""),
    ],
)
def test_a_design_that_its_budget_cannot_pay_for_is_found_out_before_it_runs(budget: Any, wrong: str) -> None:
    sweep = spec(budget=budget)
    planned = plan(sweep)
    found = exceeded(sweep, planned, time_of(sweep, planned, given(2.0)), least_images(planned, lambda _: 100))
    assert found.partition(";")[0] == wrong
    assert exceeded(sweep, planned, None, None) == ""


def test_a_checkpoint_is_as_large_as_it_is_priced(tmp_path: Path) -> None:
    from lejepa.trainer import Trainer

    base = {"encoder": {"name": "small_resnet", "width": 32}, "average": 0.99}
    sweep = spec(base={**base, "epochs": 1, "data": {"name": "digits", "size": 8, "limit": 128}}, seeds=1)
    (cell,) = plan(sweep).cells
    next(iter(Trainer(cell.config, tmp_path)))
    assert state_bytes(cell.config) == pytest.approx((tmp_path / "last.pt").stat().st_size, rel=0.1)
    assert disk(plan(sweep)) > 2 * state_bytes(cell.config)


def test_weights_are_counted_once_and_again_where_what_is_kept_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    counted: list[TrainConfig] = []

    def count(config: TrainConfig) -> tuple[int, int]:
        counted.append(config)
        return 7, 3

    monkeypatch.setattr(costs, "_count", count)
    cells = [cell.config for cell in plan(spec(scientific={"method.lamb": {"grid": [0.1, 0.2]}})).cells]
    assert [costs.numbers(config) for config in [*cells, *cells]] == [(7, 3)] * 4
    assert len(counted) == 1, "λ takes no weights"
    (file,) = (tmp_path / "weights").iterdir()
    for broken in ("", "[]", '{"trained": "many", "other": 3}'):
        file.write_text(broken)
        assert costs.numbers(cells[0]) == (7, 3)
    assert len(counted) == 4


def test_what_decides_how_many_weights_there_are_is_counted_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    small: dict[str, Any] = {"encoder": {"name": "small_vit", "width": 64, "depth": 1}, "data": {"size": 8}}
    changes: list[dict[str, Any]] = [
        {}, {"encoder": {**small["encoder"], "width": 128}}, {"data": {"size": 16}}, {"projector": {"hidden": 32}},
        {"method": {"name": "lejepa", "teacher": 0.9}},
    ]  # fmt: skip
    configs = [TrainConfig.model_validate(small | change) for change in changes]
    found = [costs.numbers(config) for config in configs]
    assert len(set(found)) == len(found)
    assert [costs.numbers(config) for config in configs] == found == [costs._count(config) for config in configs]


def test_a_plan_whose_weights_were_counted_before_needs_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    size = disk(plan(load_sweep("quickstart")))
    code = (
        "import sys; from harness.costs import disk; from harness.plan import plan; "
        "from harness.spec import load_sweep; print(disk(plan(load_sweep('quickstart'))), 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.split() == [str(size), "False"]


def test_a_calibration_times_steps_of_every_shape_once_and_says_where() -> None:
    sweep = spec(
        base={"epochs": 2, "data": {"name": "digits", "size": 8}, "batch_size": 16, "encoder": {"width": 8}},
        scientific={"method.lamb": {"grid": [0.1, 0.2]}},
        arms={"lejepa": {}, "random": {"base": {"method": {"name": "random"}}}},
    )
    planned = plan(sweep)
    speed, said = calibrate(sweep, planned, 0.0, lambda config: 160)
    assert len(said) == 1, "λ makes no other step"
    assert "s a step (median of 3, CPU" in said[0]
    first, second, floor = (speed.seconds(cell) for cell in planned.cells)
    assert first == second
    assert floor == 0
    assert first
    assert 0 < first < 60


def test_the_time_on_gpus_that_are_not_here_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sweep = spec(pool={"gpus": 1, "max_concurrent": 1})
    speed, said = calibrate(sweep, planned := plan(sweep))
    assert "time unknown here, as its pool has GPUs" in said[0]
    assert "time unknown of some trainings: give --step-time" in text(sweep, planned, speed)


def test_the_table_shows_what_a_sweep_costs_and_says_unknown_where_it_is() -> None:
    sweep = spec(arms={"[bold]λ": {}}, question="Why?")
    shown = text(sweep, plan(sweep), given(60.0))
    assert "[bold]λ" in shown
    assert "a: Why?" in shown
    assert "3 trials, 30 epochs; seeds 0, 1, 2" in shown
    assert "0.5 CPU hours at 60 s an epoch; 15 min on the clock with 2 at once" in shown
    assert "time unknown" in text(sweep, plan(sweep), None)
