"""The price of a sweep: counted by hand here, by the plan there."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from harness.ledger import Ledger
from harness.plan import Price, plan, render, seconds_per_epoch
from harness.spec import SweepSpec, load_sweep


def spec(**keys: Any) -> SweepSpec:
    pool = {"max_concurrent": 2}
    return SweepSpec.model_validate({"name": "a", "base": {"epochs": 10}, "seeds": 3, "pool": pool, **keys})


def text(sweep: SweepSpec, planned: Price, epoch_seconds: float | None) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(render(sweep, planned, epoch_seconds))
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


def test_the_time_comes_from_an_earlier_ledger_of_the_sweep(tmp_path: Path) -> None:
    assert seconds_per_epoch(tmp_path / "ledger.db") is None
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_trial("k", {}, 0, 2, "d", "c")
        ledger.add_epoch("k", 1, {}, {"seconds": 2.0})
        ledger.add_epoch("k", 2, {}, {"seconds": 4.0})
    assert seconds_per_epoch(tmp_path / "ledger.db") == 3.0


def test_the_table_shows_what_a_sweep_costs_and_says_unknown_where_it_is() -> None:
    sweep = spec(arms={"[bold]λ": {}}, question="Why?")
    shown = text(sweep, plan(sweep), 60.0)
    assert "[bold]λ" in shown
    assert "a: Why?" in shown
    assert "3 trials, 30 epochs; seeds 0, 1, 2" in shown
    assert "30 min of training at 60 s an epoch; 15 min with 2 at once" in shown
    assert "time unknown" in text(sweep, plan(sweep), None)
