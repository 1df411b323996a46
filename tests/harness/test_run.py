import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from rich.console import Console

from harness.ledger import Ledger, LedgerError
from harness.mlflow_store import default_uri
from harness.progress import Progress, duration
from harness.resume import resume_sweep
from harness.run import RunError, run_sweep
from harness.spec import SweepSpec
from tests.harness.driver import driver, epochs, mlflow_statuses, wait_until
from tests.harness.fake import Fake

pytestmark = pytest.mark.usefixtures("without_mlflow")

SPEC: dict[str, Any] = {
    "name": "swept",
    "base": {"epochs": 3, "data": {"name": "digits", "size": 16}},
    "arms": {
        "lejepa": {"scientific": {"method.lamb": {"grid": [0.0, 0.05]}}},
        "vicreg": {"base": {"method": {"name": "vicreg"}}},
        "random": {"base": {"method": {"name": "random"}}},
    },
    "seeds": [0, 1],
    "pool": {"cpus": 1, "max_concurrent": 2},
}


def sweep(**changes: Any) -> SweepSpec:
    return SweepSpec.model_validate({**SPEC, **changes})


def test_a_sweep_leaves_a_full_ledger_and_says_how_it_went(runs: Path) -> None:
    summary = run_sweep(sweep(), runs / "swept", "local", command=["harness", "run"], trainer=Fake())
    assert summary.counts == {"finished": 8}
    assert not summary.interrupted
    with Ledger.read(runs / "swept" / "ledger.db") as ledger:
        assert len(ledger.trials()) == len(ledger.assignments()) == 8
        assert {row.purpose for row in ledger.assignments() if row.arm == "random"} == {"floor"}
        assert {tuple(row.cell.items()) for row in ledger.assignments() if row.arm == "lejepa"} == {
            (("method.lamb", 0.0),),
            (("method.lamb", 0.05),),
        }
        assert len(ledger.epochs()) == 6 * 3 + 2 * 1
        kinds = [event.kind for event in ledger.events()]
        assert kinds[0] == "sweep_started"
        assert kinds[-1] == "sweep_finished"
        assert kinds[1:-1] == ["started", "finished"] * 8
        started, finished = ledger.events(ledger.trials()[0].key)
        assert started.payload["attempt"] == 1
        assert started.payload["epoch"] == 0
        assert started.payload["info"]["threads"] == 1
        assert finished.payload["test"].keys() == {"test/linear"}


def test_the_folder_says_what_ran_and_in_what(runs: Path) -> None:
    run_sweep(sweep(seeds=[0]), runs / "swept", "local", command=["harness", "run", "x.yaml"], trainer=Fake())
    written = yaml.safe_load((runs / "swept" / "sweep.yaml").read_text())
    assert SweepSpec.model_validate(written) == sweep(seeds=[0])
    environment = json.loads((runs / "swept" / "environment.json").read_text())
    assert environment["command"] == ["harness", "run", "x.yaml"]
    assert environment["executor"] == "local"


@pytest.mark.usefixtures("mirrored")
def test_mlflow_has_one_parent_and_one_finished_child_per_trial(runs: Path) -> None:
    run_sweep(sweep(), runs / "swept", "local", trainer=Fake())
    client = MlflowClient(tracking_uri=default_uri(runs / "swept"))
    experiment = client.get_experiment_by_name("swept")
    assert experiment
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    [parent] = [run.info.run_id for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run.info.run_id != parent]
    assert len(children) == 8
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent}
    assert all("val/linear" in run.data.metrics for run in children)


def test_what_goes_wrong_in_a_trial_is_recorded_and_the_sweep_goes_on(runs: Path) -> None:
    fake = Fake(raises={0: 2}, diverges={1: 3})
    summary = run_sweep(sweep(seeds=[0, 1, 2], arms={"lejepa": {}}), runs / "swept", "local", trainer=fake)
    assert summary.counts == {"finished": 1, "failed": 1, "diverged": 1}
    with Ledger.read(runs / "swept" / "ledger.db") as ledger:
        payloads = {event.kind: event.payload for event in ledger.events()}
        assert payloads["failed"]["attempt"] == 1
        assert "does not like epoch 2" in payloads["failed"]["traceback"]
        assert payloads["diverged"] == {"epoch": 3, "step": 7, "reason": "loss is nan"}


def test_a_folder_that_exists_is_refused_and_left_alone(runs: Path) -> None:
    (runs / "swept").mkdir()
    with pytest.raises(RunError, match=r"harness report .*harness resume .*another `name`"):
        run_sweep(sweep(), runs / "swept", "local", trainer=Fake())
    assert list((runs / "swept").iterdir()) == []


def test_a_pool_that_cannot_be_had_leaves_no_folder(runs: Path, ray_on_two_cpus: None) -> None:
    with pytest.raises(RunError, match=r"lower pool\.cpus"):
        run_sweep(sweep(pool={"cpus": 64}), runs / "swept", "ray", trainer=Fake())
    with pytest.raises(RunError, match=r"set pool\.gpus"):
        run_sweep(sweep(base={"device": "cuda"}), runs / "swept", "local", trainer=Fake())
    assert not (runs / "swept").exists()


def test_a_budget_ends_the_sweep_with_the_rest_waiting(runs: Path) -> None:
    spec = sweep(seeds=5, arms={"lejepa": {}}, budget={"epochs": 7})
    summary = run_sweep(spec, runs / "swept", "local", trainer=Fake())
    assert summary.counts == {"finished": 2, "waiting": 3}
    assert not summary.interrupted


@pytest.mark.usefixtures("mirrored")
def test_mlflow_may_be_down_without_harm(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = "sqlite:////proc/no/such/mlflow.db"
    summary = run_sweep(sweep(seeds=[0]), runs / "swept", "local", nowhere, trainer=Fake())
    assert summary.counts == {"finished": 4}
    assert "MLflow lags behind the ledger" in capsys.readouterr().err
    with Ledger.read(runs / "swept" / "ledger.db") as ledger:
        [note] = [event for event in ledger.events() if event.kind == "note"]
        assert note.payload["text"].startswith("MLflow lags")


def test_a_ledger_that_cannot_be_written_stops_the_sweep_and_keeps_what_has_finished(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., bool] = Ledger.add_epoch
    written: list[Any] = []

    def add_epoch(self: Ledger, *args: Any, **kwargs: Any) -> bool:
        if len(written) == 7:
            raise LedgerError("ledger.db: database or disk is full")
        written.append(args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Ledger, "add_epoch", add_epoch)
    with pytest.raises(RunError, match=r"disk is full.*harness resume"):
        run_sweep(sweep(seeds=5, arms={"lejepa": {}}), runs / "swept", "local", trainer=Fake())
    with Ledger.read(runs / "swept" / "ledger.db") as ledger:
        assert list(ledger.states().values()) == ["finished", "finished", "waiting", "waiting", "waiting"]
        assert ledger.events()[-1].kind == "sweep_interrupted"


@pytest.mark.parametrize(
    ("executor", "number", "name"), [("local", signal.SIGTERM, "SIGTERM"), ("ray", signal.SIGINT, "Ctrl-C")]
)
@pytest.mark.usefixtures("mirrored")
def test_a_signal_ends_the_sweep_cleanly_and_tells_how_to_go_on(
    runs: Path, executor: str, number: signal.Signals, name: str
) -> None:
    folder = runs / "swept"
    spec = {**SPEC, "arms": {"lejepa": {}}, "base": {**SPEC["base"], "epochs": 4}, "seeds": 6}
    with driver(folder, spec, executor, 0.4) as process:
        wait_until(lambda: epochs(folder) > 0, process)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"`harness resume {folder}` goes on" in said
    with Ledger.read(folder / "ledger.db") as ledger:
        assert "running" not in ledger.states().values()
        assert "waiting" in ledger.states().values()
        events = ledger.events()
        assert {event.payload["reason"] for event in events if event.kind == "interrupted"} == {name}
        assert events[-1].kind == "sweep_interrupted"
    statuses, parent = mlflow_statuses(folder, "swept")
    assert {*statuses.values(), parent} <= {"FINISHED", "KILLED"}
    resume_sweep(folder, "local", trainer=Fake())
    with Ledger.read(folder / "ledger.db") as ledger:
        assert list(ledger.states().values()) == ["finished"] * 6
        assert [row.epoch for row in ledger.epochs()] == [1, 2, 3, 4] * 6
    assert set(mlflow_statuses(folder, "swept")[0].values()) == {"FINISHED"}


def test_a_sweep_on_ray_has_the_numbers_of_a_local_one(runs: Path, ray_on_two_cpus: None) -> None:
    numbers = {}
    for executor in ("local", "ray"):
        run_sweep(sweep(name=executor), runs / executor, executor, trainer=Fake())
        with Ledger.read(runs / executor / "ledger.db") as ledger:
            numbers[executor] = [(row.key, row.epoch, row.metrics) for row in ledger.epochs()]
    assert numbers["local"] == numbers["ray"]
    assert numbers["ray"]


def test_the_progress_line_counts_states_and_epochs() -> None:
    progress = Progress(trials=4, epochs=40, console=Console(file=sys.stderr))
    progress.started("a", 0)
    for epoch in range(1, 11):
        progress.epoch("a", epoch)
    progress.ended("a", "finished", 10)
    progress.started("b", 4)
    progress.ended("b", "diverged", 10)
    progress.started("c", 0)
    assert progress.line().startswith("2/4 trials done · 1 running · 1 diverged · epoch 14/34 · 0:00 elapsed")
    assert duration(3 * 3600 + 65) == "3:01:05"
