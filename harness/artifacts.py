"""What a sweep leaves in MLflow beside its numbers: its report, and its winner as weights and as a model. Each once."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness.folder import milestone
from harness.ledger import Ledger, LedgerError
from harness.winner import Winner, winner

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.spec import SweepSpec

MODEL = "winner"
_WEIGHTS = "encoder"  # not as the model: MLflow takes a run's artifacts of a model's name for the model's
_REPORT = "report"
_NEEDS = ("torch", "timm", "safetensors", "numpy", "scipy")  # to load the model


@dataclass(frozen=True)
class Place:
    """The run of a sweep in MLflow."""

    client: MlflowClient
    experiment: str
    run: str
    sweep: str  # tag sweep_id


def publish(place: Place, folder: Path, spec: SweepSpec, ledger: Ledger) -> str:
    """Log the report and, of a sweep that has finished, the winner; what was there already stays as it is.

    What was not logged, and why; empty where all was. Raises whatever MLflow raises.
    """
    _log_report(place, folder / _REPORT)
    if milestone(ledger) != "sweep_finished":
        return "the sweep has not finished, and has no winner yet"
    best = winner(spec, ledger)
    if best is None:
        return "no winner: no configuration has finished on all its seeds without a collapse"
    return _log_winner(place, folder, best)


def _log_report(place: Place, report: Path) -> None:
    if not report.is_dir():
        return
    digest = _digest(report)
    if _tags(place).get("report_sha256") != digest:
        place.client.log_artifacts(place.run, str(report), _REPORT)
        place.client.set_tag(place.run, "report_sha256", digest)


def _log_winner(place: Place, folder: Path, best: Winner) -> str:
    from lejepa.checkpoint import CheckpointError
    from lejepa.data import DataError
    from lejepa.export import ExportError

    kept = _keep_one(place, best.key)
    if kept and _tags(place).get("winner") == best.key:
        return ""
    with TemporaryDirectory() as scratch:
        try:
            weights = _export(folder, best.key, Path(scratch) / "encoder")
        except (CheckpointError, DataError, ExportError, LedgerError) as error:
            return f"no model of the winner {best.key}: {error}"
        place.client.log_artifacts(place.run, str(weights), _WEIGHTS)
        if not kept:
            _log_model(place, best, weights, Path(scratch) / "model")
    place.client.set_tag(place.run, "winner", best.key)  # last: a log that broke off before it is gone over again
    return ""


def _export(folder: Path, key: str, out: Path) -> Path:
    from harness.export import export_trial

    return export_trial(key, folder, out)


def _keep_one(place: Place, key: str) -> bool:
    """Whether the winner's model is there, whole. Others of this sweep are deleted: halves, and earlier winners."""
    found = place.client.search_logged_models([place.experiment], f"tags.sweep_id = '{place.sweep}'")
    whole = sorted(
        model.model_id for model in found if str(model.status) == "READY" and model.tags.get("trial_key") == key
    )
    for model in found:
        if model.model_id not in whole[:1]:
            place.client.delete_logged_model(model.model_id)
    return bool(whole)


def _log_model(place: Place, best: Winner, weights: Path, out: Path) -> None:
    import mlflow
    from mlflow.models import Model

    about = json.loads((weights / "encoder.json").read_text(encoding="utf-8"))
    tags = {"sweep_id": place.sweep, "trial_key": best.key, "arm": best.arm, "cell": json.dumps(best.cell)}
    model = place.client.create_logged_model(place.experiment, MODEL, place.run, tags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would have type hints and an example; the signature says as much
        mlflow.pyfunc.save_model(
            out,
            mlflow_model=Model(model_id=model.model_id),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"encoder": str(weights)},
            signature=_signature(about),
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in _NEEDS],
        )
    place.client.log_model_artifacts(model.model_id, str(out))
    place.client.finalize_logged_model(model.model_id, "READY")


def _signature(about: dict[str, Any]) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    number, size = np.dtype(np.float32), about["image_size"]
    images = TensorSpec(number, (-1, about["channels"], size, size))
    return ModelSignature(Schema([images]), Schema([TensorSpec(number, (-1, about["embedding_dim"]))]))


def _tags(place: Place) -> dict[str, str]:
    return dict(place.client.get_run(place.run).data.tags)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
