"""Drivers and workers that die at any moment. Whatever dies, the resumed sweep has the record of an undisturbed one."""

import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from harness import cli
from harness.attempt import TrainerFactory, lejepa_trainer
from harness.ledger import Ledger
from harness.resume import resume_sweep
from harness.run import run_sweep
from harness.spec import SweepSpec
from tests.harness.driver import driver, driving, epochs, finish, mlflow_statuses, record, wait_until
from tests.harness.fake import Fake

GRID: dict[str, Any] = {
    "name": "killed",
    "base": {"epochs": 4, "data": {"name": "digits", "size": 16}},
    "arms": {
        "lejepa": {"scientific": {"method.lamb": {"grid": [0.0, 0.05]}}},
        "random": {"base": {"method": {"name": "random"}}},
    },
    "seeds": [0, 1, 2],
    "pool": {"max_concurrent": 2},
}
ADAPTIVE: dict[str, Any] = {
    "name": "killed",
    "base": {"epochs": 9, "data": {"name": "digits", "size": 16}},
    "arms": {
        "lejepa": {
            "scientific": {"method.lamb": {"grid": [0.0, 0.05]}},
            "nuisance": {"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}},
        },
        "random": {"base": {"method": {"name": "random"}}},
    },
    "search": {"sampler": "tpe", "trials": 8, "studies": 2},
    "stopping": {"name": "asha"},
    "confirm": {"top": 1, "seeds": [10, 11]},
    "seeds": [0, 1],
    "pool": {"max_concurrent": 2},
}


def undisturbed(runs: Path, spec: dict[str, Any], trainer: TrainerFactory | None = None) -> dict[str, Any]:
    """The record of the sweep as a driver leaves it to which nothing happens."""
    folder = runs / "alone" / "killed"
    folder.parent.mkdir()
    shutil.copy(runs / "mlflow.db", folder.parent / "mlflow.db")  # its schema is made, which takes seconds
    run_sweep(SweepSpec.model_validate(spec), folder, "local", trainer=trainer or Fake())
    return record(folder)


def is_complete(folder: Path) -> None:
    """MLflow has one run per trial, and none of them runs."""
    with Ledger.read(folder / "ledger.db") as ledger:
        ended = {key: state for key, state in ledger.states().items() if state != "waiting"}
    statuses, parent = mlflow_statuses(folder, "killed")
    expected = {"finished": "FINISHED", "pruned": "KILLED"}
    assert statuses == {key: expected[state] for key, state in ended.items()}
    assert parent == "FINISHED"


def kill(folder: Path, spec: dict[str, Any], executor: str, seconds: float, moments: list[float]) -> None:
    """One driver after the other is killed, so many seconds after it has made progress."""
    for moment in moments:
        before = epochs(folder)
        with driver(folder, spec, executor, seconds) as process:
            wait_until(lambda before=before: epochs(folder) > before, process)
            time.sleep(moment)
            assert process.poll() is None, "the sweep is too short to be killed so late"
            process.kill()


def test_a_driver_that_is_killed_again_and_again_ends_with_the_record_of_an_undisturbed_one(runs: Path) -> None:
    folder, moments = runs / "killed", random.Random(1)
    kill(folder, GRID, "local", 0.1, [moments.uniform(0, 0.8) for _ in range(2)])
    resume_sweep(folder, trainer=Fake())
    assert record(folder) == undisturbed(runs, GRID)
    is_complete(folder)
    with Ledger.read(folder / "ledger.db") as ledger:
        kinds = [event.kind for event in ledger.events() if event.key is None]
    assert kinds == ["sweep_started", *["sweep_interrupted", "sweep_resumed"] * 2, "sweep_finished"]


def test_a_driver_that_is_killed_with_its_ray_ends_with_the_record_of_an_undisturbed_one(
    runs: Path, ray_on_two_cpus: None
) -> None:
    folder = runs / "killed"
    kill(folder, GRID, "ray", 0.4, [random.Random(2).uniform(0, 1.5)])
    resume_sweep(folder, trainer=Fake())
    assert record(folder) == undisturbed(runs, GRID)
    is_complete(folder)


def test_a_driver_that_is_killed_while_it_makes_the_folder_leaves_one_that_goes_on_or_none(runs: Path) -> None:
    folder, moments = runs / "killed", random.Random(3)
    for _ in range(2):
        with driver(folder, GRID) as process:
            wait_until(lambda: folder.exists() or (runs / ".killed.new").exists(), process)
            time.sleep(moments.uniform(0, 0.02))
            process.kill()
        if folder.exists():
            assert (folder / "sweep.yaml").read_text()
            with Ledger.read(folder / "ledger.db") as ledger:
                assert len(ledger.trials()) == 9
            shutil.rmtree(folder)
    run_sweep(SweepSpec.model_validate(GRID), folder, "local", trainer=Fake())
    assert record(folder) == undisturbed(runs, GRID)
    assert not (runs / ".killed.new").exists()


TINY: dict[str, Any] = {
    "name": "killed",
    "base": {
        "epochs": 4,
        "batch_size": 64,
        "data": {"name": "digits", "size": 8, "limit": 256},
        "method": {"name": "lejepa", "slices": 64},
        "encoder": {"name": "small_resnet", "width": 8},
        "views": {"local_views": 0},
    },
    "scientific": {"method.lamb": {"grid": [0.0, 0.05]}},
    "seeds": 2,
}


def harness(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from harness.cli import main; main()", *arguments]


def test_a_real_training_that_is_killed_and_resumed_equals_an_unbroken_one_bit_for_bit(runs: Path) -> None:
    (runs / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    folder = runs / "killed"
    with driving(harness("run", "tiny.yaml", "--executor", "local", "--dir", str(runs)), folder) as process:
        wait_until(lambda: epochs(folder) > 1, process)
        time.sleep(random.Random(4).uniform(0, 0.3))
        process.kill()
    result = CliRunner().invoke(cli.app, ["resume", str(folder)])
    assert result.exit_code == 0, result.output
    assert record(folder) == undisturbed(runs, TINY, lejepa_trainer)
    assert "report: " in result.stdout
    is_complete(folder)


def killed_at_work(folder: Path) -> int:
    """How many deaths of a driver came after the ledger had said that it works."""
    with Ledger.read(folder / "ledger.db") as ledger:
        deaths = [event for event in ledger.events() if event.kind == "sweep_interrupted"]
    return sum(event.payload["reason"] == "the driver died" for event in deaths)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_driver_that_is_killed_at_ten_random_moments(runs: Path, executor: str) -> None:
    folder, moments, spec = runs / "killed", random.Random(5), {**GRID, "seeds": 60}
    for _ in range(10):
        kill(folder, spec, executor, 0.25, [moments.uniform(0, 2)])
        with driver(folder, spec, executor, 0.5) as process:  # and one that dies as it starts
            time.sleep(moments.uniform(0, 6))
            process.kill()
    with driver(folder, spec, executor, 0.02) as process:
        finish(process, timeout=600)
    assert killed_at_work(folder) >= 10
    assert record(folder) == undisturbed(runs, spec)
    is_complete(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_trainings_on_ray_killed_at_ten_random_moments_equal_unbroken_ones_bit_for_bit(runs: Path) -> None:
    spec = {**TINY, "base": {**TINY["base"], "epochs": 100, "precision": "bf16"}, "seeds": 4}
    (runs / "tiny.yaml").write_text(yaml.safe_dump(spec))
    folder, moments = runs / "killed", random.Random(6)
    for _ in range(10):
        again = harness("resume", str(folder))
        first = harness("run", "tiny.yaml", "--dir", str(runs))
        before = epochs(folder)
        with driving(again if folder.exists() else first, folder) as process:
            wait_until(lambda before=before: epochs(folder) > before, process)
            time.sleep(moments.uniform(0, 4))
            assert process.poll() is None, "the sweep is too short to be killed so late"
            process.kill()
    with driving(harness("resume", str(folder)), folder) as process:
        finish(process, timeout=600)
    assert killed_at_work(folder) == 10
    assert record(folder) == undisturbed(runs, spec, lejepa_trainer)
    is_complete(folder)


@pytest.mark.parametrize(
    ("executor", "kills"),
    [
        ("local", 2),
        pytest.param("local", 12, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param("ray", 10, marks=[pytest.mark.slow, pytest.mark.timeout(1500)]),
    ],
)
def test_a_search_that_is_killed_loses_and_doubles_nothing_and_keeps_its_budgets(
    runs: Path, executor: str, kills: int
) -> None:
    folder, moments, pruned = runs / "killed", random.Random(7), set[str]()
    for _ in range(kills):
        before = epochs(folder)
        with driver(folder, ADAPTIVE, executor, 0.05) as process:
            wait_until(lambda before=before: epochs(folder) > before, process)
            time.sleep(moments.uniform(0, 0.7))
            assert process.poll() is None, "the sweep is too short to be killed so late"
            process.kill()
        with Ledger.read(folder / "ledger.db") as ledger:
            states = ledger.states()
        assert all(states[key] == "pruned" for key in pruned), "pruned stays pruned"
        pruned |= {key for key, state in states.items() if state == "pruned"}
    resume_sweep(folder, "local", trainer=Fake())
    found = record(folder)  # fails where a trial has ended twice
    assert set(found["states"].values()) == {"finished", "pruned"}
    assert all(found["states"][key] == "pruned" for key in pruned)
    assert found["last"] == "sweep_finished"
    places = [(row["purpose"], row["cell"].get("method.lamb"), row["study"]) for row in found["places"]]
    for lamb in (0.0, 0.05):
        assert [places.count(("search", lamb, study)) for study in (0, 1)] == [8, 8]
        assert places.count(("confirm", lamb, 0)) == 2
    trained = {key: [epoch for other, epoch, _ in found["epochs"] if other == key] for key in found["states"]}
    assert all(seen == list(range(1, len(seen) + 1)) for seen in trained.values())
    is_complete(folder)
