"""A trained encoder as two files that need nothing of this package: `encoder.safetensors` and `encoder.json`.

    about = json.loads(Path("export/encoder.json").read_text())
    model = timm.create_model(about["name"], **about["options"])
    model.load_state_dict(safetensors.torch.load_file("export/encoder.safetensors"))

Images go in on [0, 1], less `mean`, over `std`. The weights are those that were judged: the encoder's, or those of the
teacher or of the average where a config judges these; `weights` says which.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import safetensors.torch
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from lejepa import atomic, checkpoint, probes
from lejepa.checkpoint import CheckpointError
from lejepa.config import SMALL_ENCODERS, WHERE, TrainConfig
from lejepa.config_file import explain
from lejepa.data import load as load_data
from lejepa.encoders import construct, small
from lejepa.methods import build_method
from lejepa.methods.base import Method

if TYPE_CHECKING:
    from lejepa.trainer import Trainer

FORMAT = "lejepa-encoder-1"
WEIGHTS, ABOUT = "encoder.safetensors", "encoder.json"


class ExportError(Exception):
    """What cannot be exported, or an export that cannot be used, and why."""


def export(
    source: "Trainer | str | Path",
    folder: str | Path,
    metrics: dict[str, float] | None = None,
    root: Path | None = None,
) -> Path:
    """Write the judged encoder of a trainer, or of a folder of checkpoints, into `folder`, and give that folder.

    metrics: what is known beside the last epoch's, such as the test's. root: where the data of a checkpoint lie that
    does not hold their normalisation, if neither under $LEJEPA_DATA nor under ./data. Each file is there whole or not
    at all, and the JSON names the digest of the weights that it belongs to. Raises ExportError, CheckpointError,
    DataError.
    """
    judged = _of_checkpoint(Path(source), root) if isinstance(source, str | Path) else _of_trainer(source)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in judged.encoder.state_dict().items()}
    content = safetensors.torch.save(tensors, {"format": "pt"})
    about = _describe(judged, metrics or {}) | {"sha256": hashlib.sha256(content).hexdigest()}
    folder = Path(folder)
    atomic.write(folder / WEIGHTS, content)
    atomic.write(folder / ABOUT, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())
    return folder


def load(folder: str | Path) -> nn.Module:
    """The encoder of an export, in evaluation mode: of this package or of timm. Raises ExportError."""
    folder = Path(folder)
    try:
        about, content = json.loads((folder / ABOUT).read_bytes()), (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder}: no export of an encoder: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ExportError(f"{folder / ABOUT}: not of the format {FORMAT}")
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ExportError(f"{folder / WEIGHTS}: damaged, or of another export than {ABOUT}; export again")
    name, options = about["name"], about["options"]
    encoder = small(name, options) if name in SMALL_ENCODERS else timm.create_model(name, **options)
    encoder.load_state_dict(safetensors.torch.load(content))
    return encoder.eval()


# -- what is exported -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Images:
    """What an encoder takes. mean, std: (channels,), of the images on [0, 1]."""

    channels: int
    classes: int
    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class _Judged:
    """A method as it was judged, with averaged weights where a config averages them, and what is known of it."""

    config: TrainConfig
    method: Method
    images: _Images
    epoch: int
    metrics: dict[str, float]
    data: str  # fingerprint

    @property
    def encoder(self) -> nn.Module:
        return self.method.evaluated


def _of_trainer(trainer: "Trainer") -> _Judged:
    _check_method(trainer.config)
    images, method = _Images(**trainer.images()), trainer.averaged or trainer.method
    metrics = trainer.reports[-1].metrics if trainer.reports else {}
    return _Judged(trainer.config, method, images, trainer.epoch, metrics, trainer.data.fingerprint)


def _of_checkpoint(folder: Path, root: Path | None) -> _Judged:
    """As the newest usable checkpoint has it. CheckpointError where there is none that this code can use."""
    path, state = _newest(folder)
    try:
        what = json.loads(state["config"])
        config = TrainConfig.model_validate(what["config"] | {"device": "cpu"})
        _check_method(config)
        images = _Images(**state["images"]) if "images" in state else _of_data(path, config, what["data"], root)
        with torch.random.fork_rng(devices=[]):
            method = build_method(config, images.channels, images.classes)
        method.load_state_dict(state["averaged"] or state["method"])
    except ValidationError as error:
        raise CheckpointError(f"{path}: its config is none of this version: {explain(error)}") from error
    except (KeyError, RuntimeError, ValueError) as error:  # other layers
        raise CheckpointError(f"{path}: does not fit this code: {shorten(str(error), 300)}") from error
    reports = json.loads(state["reports"])
    return _Judged(config, method, images, state["epoch"], reports[-1]["metrics"] if reports else {}, what["data"])


def _newest(folder: Path) -> tuple[Path, dict[str, Any]]:
    unusable = f"{folder}: holds no checkpoint ({checkpoint.LAST})"
    for path in (folder / checkpoint.LAST, folder / checkpoint.PREVIOUS):
        if path.exists():
            try:
                return path, checkpoint.read(path)
            except CheckpointError as error:
                unusable = str(error)
    raise CheckpointError(unusable)


def _of_data(path: Path, config: TrainConfig, fingerprint: str, root: Path | None) -> _Images:
    """For a checkpoint that does not say. Keeps no decoded copy of the data."""
    where = {"decode": "workers"} | ({} if root is None else {"root": root})
    data = load_data(config.data.model_copy(update=where))
    if data.fingerprint != fingerprint:
        raise CheckpointError(f"{path}: belongs to other data than {config.data.name!r} is now")
    return _Images(data.channels, len(data.classes), *data.channel_statistics())


def _check_method(config: TrainConfig) -> None:
    if config.method.name == "pixels":
        raise ExportError("the method pixels has no encoder to export")


def _weights(judged: _Judged) -> str:
    if judged.config.average is not None:
        return "average"
    return "encoder" if judged.encoder is judged.method.encoder else "teacher"


def _describe(judged: _Judged, metrics: dict[str, float]) -> dict[str, Any]:
    config, images = judged.config, judged.images
    with torch.random.fork_rng(devices=[]):
        _, options = construct(config, images.channels)
    return {
        "format": FORMAT,
        "library": "lejepa" if config.encoder.name in SMALL_ENCODERS else "timm",
        "name": config.encoder.name,
        "options": options,
        "weights": _weights(judged),
        "embedding_dim": judged.method.embedding_dim,
        "image_size": config.data.size,
        "channels": images.channels,
        "mean": images.mean.tolist(),
        "std": images.std.tolist(),
        "epoch": judged.epoch,
        "protocol": probes.PROTOCOL,
        "metrics": judged.metrics | metrics,
        "config": config.model_dump(mode="json", exclude=WHERE),
        "data": judged.data,
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
    }
