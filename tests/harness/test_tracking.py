import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from harness.ledger import Ledger
from harness.mlflow_store import default_uri
from harness.spec import SpecError, load_sweep
from harness.tracking import MirrorThread, MlflowMirror, flatten
from tests.harness.fake import trial

EPOCHS = 3


def write_sweep(folder: Path, ends: dict[int, str | None]) -> Ledger:
    """A ledger as a driver leaves it: for each seed three epochs and an end, or none for a trial that runs."""
    folder.mkdir()
    (folder / "sweep.yaml").write_text("name: swept\n")
    ledger = Ledger(folder / "ledger.db")
    ledger.add_event("sweep_started", command=[], pid=1)
    for seed, end in ends.items():
        start_trial(ledger, seed)
        for epoch in range(1, EPOCHS + 1):
            ledger.add_epoch(trial(seed).key, epoch, {"val/linear": 10.0 * epoch + seed, "train/loss": 1.0}, {})
        if end:
            ledger.add_event(end, trial(seed).key, **({"test": {"test/linear": 42.0}} if end == "finished" else {}))
    return ledger


def start_trial(ledger: Ledger, seed: int) -> None:
    spec = trial(seed)
    ledger.add_trial(spec.key, spec.config.model_dump(mode="json"), seed, EPOCHS, "data", "code")
    ledger.assign("lejepa", {"method.lamb": 0.05}, 0, seed, "evidence", spec.key)
    ledger.add_event("started", spec.key, attempt=1, epoch=0, info={})


def store(folder: Path) -> tuple[MlflowClient, Any, dict[int, Any]]:
    """The client, the sweep's run, and the trials' runs by seed; fails where a run is doubled."""
    client = MlflowClient(tracking_uri=default_uri(folder))
    experiment = client.get_experiment_by_name("swept")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "trial_key" not in run.data.tags]
    children = [run for run in runs if "trial_key" in run.data.tags]
    by_seed = {int(run.data.params["seed"]): run for run in children}
    assert len(by_seed) == len(children)
    return client, parent, by_seed


def everything(folder: Path) -> Any:
    client, parent, children = store(folder)
    return [
        (seed, run.to_dictionary(), [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics])
        for seed, run in sorted({-1: parent, **children}.items())
    ]


@pytest.fixture
def folder(runs: Path) -> Path:
    return runs / "swept"


def test_a_sweep_becomes_one_parent_run_with_a_child_per_trial_in_its_state(folder: Path) -> None:
    ends = {0: "finished", 1: "pruned", 2: "diverged", 3: "failed", 4: "interrupted", 5: None}
    with write_sweep(folder, ends) as ledger:
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)
    _, parent, children = store(folder)
    assert parent.info.status == "RUNNING"
    assert {seed: run.info.status for seed, run in children.items()} == {
        0: "FINISHED", 1: "KILLED", 2: "FAILED", 3: "FAILED", 4: "KILLED", 5: "RUNNING",
    }  # fmt: skip
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert children[2].data.tags["state"] == "diverged"
    assert children[0].data.tags["trial_key"] == trial(0).key
    assert children[0].info.run_name == "lejepa lamb=0.05 seed=0"


def test_a_trials_run_has_its_params_metrics_and_config(folder: Path) -> None:
    with write_sweep(folder, {7: "finished"}) as ledger:
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)
        times = [int(row.time * 1000) for row in ledger.epochs()]
    client, _, children = store(folder)
    run = children[7]
    assert run.data.params["method.lamb"] == "0.05"
    assert run.data.params["views.global_scale"] == "[0.6, 1.0]"
    history = client.get_metric_history(run.info.run_id, "val/linear")
    assert [(m.step, m.value, m.timestamp) for m in history] == [(e, 10.0 * e + 7, times[e - 1]) for e in (1, 2, 3)]
    assert run.data.metrics["test/linear"] == 42.0
    saved = client.download_artifacts(run.info.run_id, "config.json", str(folder))
    assert json.loads(Path(saved).read_text()) == trial(7).config.model_dump(mode="json")
    assert (folder.parent / "mlartifacts").is_dir()


def test_replaying_again_changes_nothing(folder: Path) -> None:
    with write_sweep(folder, {0: "finished", 1: "failed", 2: None}) as ledger:
        mirror = MlflowMirror(folder, "swept", default_uri(folder))
        mirror.replay(ledger)
        before = everything(folder)
        mirror.replay(ledger)
        assert everything(folder) == before
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)  # another process: adopts what is there
        assert everything(folder) == before


def test_what_is_new_is_added_and_a_trial_that_goes_on_runs_again(folder: Path) -> None:
    with write_sweep(folder, {0: "interrupted"}) as ledger:
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)
        mirror = MlflowMirror(folder, "swept", default_uri(folder))
        key = trial(0).key
        ledger.add_event("started", key, attempt=2, epoch=3, info={})
        mirror.replay(ledger)
        assert store(folder)[2][0].info.status == "RUNNING"
        ledger.add_epoch(key, 4, {"val/linear": 99.0}, {})
        mirror.replay(ledger)
        assert store(folder)[2][0].data.metrics["val/linear"] == 99.0
        ledger.add_event("finished", key, test={})
        ledger.add_event("sweep_finished")
        mirror.replay(ledger)
    client, parent, children = store(folder)
    assert parent.info.status == children[0].info.status == "FINISHED"
    assert len(client.get_metric_history(children[0].info.run_id, "val/linear")) == 4


def test_a_newer_sweep_of_the_same_name_has_runs_of_its_own(folder: Path) -> None:
    with write_sweep(folder, {0: "finished"}) as ledger:
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)
    folder.rename(folder.with_name("old"))
    with write_sweep(folder, {0: "failed"}) as ledger:
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)
    client = MlflowClient(tracking_uri=default_uri(folder))
    experiment = client.get_experiment_by_name("swept")
    assert experiment
    found = client.search_runs([experiment.experiment_id])
    assert Counter(run.info.status for run in found if "trial_key" in run.data.tags) == {"FINISHED": 1, "FAILED": 1}


def test_a_failed_replay_is_made_up_for_without_doubling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = MlflowMirror(folder, "swept", default_uri(folder))
    with write_sweep(folder, {0: "finished", 1: "finished"}) as ledger:
        original, calls = MlflowClient.log_batch, iter(range(100))

        def log_batch(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == 4:
                raise ConnectionError("the server went away")
            return original(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
        with pytest.raises(ConnectionError):
            mirror.replay(ledger)
        mirror.replay(ledger)
    client, _, children = store(folder)
    assert sorted(children) == [0, 1]
    for run in children.values():
        assert len(client.get_metric_history(run.info.run_id, "val/linear")) == EPOCHS
        assert run.info.status == "FINISHED"


def test_the_thread_mirrors_while_the_ledger_is_written(folder: Path) -> None:
    with write_sweep(folder, {0: None}) as ledger:
        thread = MirrorThread(folder, "swept", default_uri(folder), every=0.05)
        thread.start()
        ledger.add_event("finished", trial(0).key, test={"test/linear": 1.0})
        start_trial(ledger, 1)
        thread.close()
    assert thread.trouble is None
    children = store(folder)[2]
    assert children[0].info.status == "FINISHED"
    assert children[1].info.status == "RUNNING"


def test_a_store_that_is_down_is_named_and_does_not_hold_up_the_driver(folder: Path) -> None:
    nowhere = "sqlite:////proc/no/such/mlflow.db"
    with write_sweep(folder, {0: "finished"}):
        thread = MirrorThread(folder, "swept", nowhere, every=0.05)
        began = time.monotonic()
        thread.start()
        thread.close(timeout=20)
    assert time.monotonic() - began < 20
    assert thread.trouble


@pytest.mark.parametrize("name", ["mlflow.db", "MLflow.db", "mlflow.db-wal", "mlartifacts"])
def test_a_sweep_cannot_take_the_place_of_mlflows_files(tmp_path: Path, name: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"question: what?\nname: {name}\n")
    with pytest.raises(SpecError, match=rf"a\.yaml:2: name: .*{name} is MLflow's"):
        load_sweep(file)


def test_params_are_flat_with_names_mlflow_takes_and_ends_marked_where_cut() -> None:
    flat = flatten({"a": {"b": [1, 2], "c?": None}, "text": "x" * 7000})
    assert flat["a.b"] == "[1, 2]"
    assert flat["a.c_"] == "null"
    assert len(flat["text"]) == 6000
    assert flat["text"].endswith("…")
