"""What a finished sweep leaves in MLflow: its report, its winner's weights, and one model that answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from harness.checkpoints import collect
from harness.keep import Keep
from harness.ledger import Ledger
from harness.mlflow_store import default_uri
from harness.run import run_sweep
from harness.spec import SweepSpec
from harness.tracking import publish, sync
from harness.winner import winner
from lejepa.export import load
from tests.harness.searched import begin, spec

SPEC = {
    "name": "tiny",
    "base": {
        "method": {"name": "lejepa", "slices": 16},
        "encoder": {"name": "small_resnet", "width": 8},
        "projector": {"hidden": 16, "dim": 8},
        "data": {"name": "digits", "size": 8, "limit": 150},
        "views": {"global_views": 2, "local_views": 0},
        "epochs": 1,
        "batch_size": 50,
    },
    "seeds": 1,
    "pool": {"cpus": 1, "max_concurrent": 1},
}


def models(folder: Path) -> list[Any]:
    client = MlflowClient(tracking_uri=default_uri(folder))
    experiment = client.get_experiment_by_name("tiny")
    assert experiment
    return list(client.search_logged_models([experiment.experiment_id]))


@pytest.mark.filterwarnings("ignore:.*type hints")
def test_the_winner_is_a_model_with_a_signature_that_gives_its_embeddings_and_is_logged_once(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = runs / "tiny"
    run_sweep(SweepSpec.model_validate(SPEC), folder, executor="local")
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("<p>an answer")
    assert publish(folder) == ""
    assert not (tmp_path / "mlflow.db").exists(), "MLflow's own default store stays out of it"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", default_uri(folder))
    (model,) = models(folder)
    client = MlflowClient(tracking_uri=default_uri(folder))
    run = client.get_run(model.source_run_id)
    logged = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert logged == {"sweep.yaml", "environment.json", "report", "encoder"}
    weights = Path(client.download_artifacts(run.info.run_id, "encoder", str(tmp_path)))
    assert {path.name for path in weights.iterdir()} == {"encoder.safetensors", "encoder.json"}

    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    about = json.loads((weights / "encoder.json").read_text())
    mean, std = (np.float32(about[name]).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected = load(weights)(torch.from_numpy((images - mean) / std))
    np.testing.assert_allclose(loaded.predict(images), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert [spec.shape for spec in loaded.metadata.signature.inputs.inputs] == [(-1, 1, 8, 8)]
    assert [spec.shape for spec in loaded.metadata.signature.outputs.inputs] == [(-1, about["embedding_dim"])]
    assert not [path for path in (runs / "mlartifacts").rglob("*.pkl")]

    # broken off: a half-made model, and a winner that is not noted; then twice more
    client.create_logged_model(
        run.info.experiment_id, "winner", run.info.run_id, {"sweep_id": run.data.tags["sweep_id"]}
    )
    client.delete_tag(run.info.run_id, "winner")
    for _ in range(2):
        assert sync(folder)[1] == ""
        assert [found.model_id for found in models(folder)] == [model.model_id]

    collect(folder, Keep.none)
    assert publish(folder) == "", "it is there already"
    client.delete_logged_model(model.model_id)
    assert "holds no checkpoint" in publish(folder)
    assert not models(folder)
    shutil.rmtree(folder / "report")
    assert "holds no checkpoint" in publish(folder)


# -- who wins ---------------------------------------------------------------------------------------------------------


def ended(tmp_path: Path, sweep: SweepSpec, values: dict[float, list[dict[str, float] | None]]) -> Ledger:
    """λ → last metrics by seed; None: the trial failed."""
    ledger = begin(sweep, tmp_path)
    for place in ledger.assignments():
        seed = ledger.trial(place.key).seed
        metrics = values[place.cell["method.lamb"]][seed]
        if metrics:
            ledger.add_epoch(place.key, 1, metrics, {})
        ledger.add_event("finished" if metrics else "failed", place.key, test={})
    return ledger


def swept(**keys: Any) -> SweepSpec:
    return spec(nuisance={}, search={}, base={"epochs": 1}, seeds=3, **keys)


def val(*values: float) -> list[dict[str, float] | None]:
    return [{"val/linear": value} for value in values]


def seed_of(ledger: Ledger, key: str) -> int:
    return ledger.trial(key).seed


def test_the_winner_is_the_median_seed_of_the_cell_that_is_best_on_validation(tmp_path: Path) -> None:
    ledger = ended(tmp_path, swept(), {0: val(90, 10, 10), 0.05: val(50, 70, 60)})
    found = winner(swept(), ledger)
    assert found is not None
    assert (found.cell, found.seeds) == ({"method.lamb": 0.05}, 3)
    assert seed_of(ledger, found.key) == 2


def test_a_cell_with_a_seed_that_failed_cannot_win(tmp_path: Path) -> None:
    ledger = ended(tmp_path, swept(), {0: val(1, 2, 3), 0.05: [*val(99, 99), None]})
    found = winner(swept(), ledger)
    assert found is not None
    assert found.cell == {"method.lamb": 0}


def test_without_labels_what_has_collapsed_cannot_win(tmp_path: Path) -> None:
    def rank(value: float, collapsed: float = 0.0) -> dict[str, float] | None:
        return {"diag/rankme": value, "diag/collapsed": collapsed, "val/linear": 1.0}

    sweep = swept(metric={"name": "diag/rankme"})
    ledger = ended(tmp_path / "one", sweep, {0: [rank(90), rank(90), rank(90, 1.0)], 0.05: [rank(5)] * 3})
    found = winner(sweep, ledger)
    assert found is not None
    assert found.cell == {"method.lamb": 0.05}
    ledger = ended(tmp_path / "two", sweep, {0: [rank(9, 1.0)] * 3, 0.05: [rank(5, 1.0)] * 3})
    assert winner(sweep, ledger) is None


def test_without_labels_arms_are_compared_by_labels(tmp_path: Path) -> None:
    arms = {"lejepa": {}, "vicreg": {"base": {"method": {"name": "vicreg"}}, "scientific": {}}}
    sweep = swept(arms=arms, scientific={}, metric={"name": "train/loss"})
    ledger = begin(sweep, tmp_path)
    for place in ledger.assignments():
        ours = place.arm == "lejepa"
        metrics = {"train/loss": 0.1 if ours else 9.0, "val/linear": 50.0 if ours else 60.0, "diag/collapsed": 0.0}
        ledger.add_epoch(place.key, 1, metrics, {})
        ledger.add_event("finished", place.key, test={})
    found = winner(sweep, ledger)
    assert found is not None
    assert found.arm == "vicreg"
