"""A trained encoder as two files that need nothing of this package: `encoder.safetensors` and `encoder.json`.

    about = json.loads(Path("export/encoder.json").read_text())
    model = timm.create_model(about["name"], **about["options"])
    model.load_state_dict(safetensors.torch.load_file("export/encoder.safetensors"))

Images go in on [0, 1], less `mean`, over `std`. The weights are those that were judged: the encoder's, or those of the
teacher or of the average where a config judges these; `weights` says which.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import timm
import torch
from torch import nn

from lejepa import atomic, checkpoint, probes
from lejepa.config import SMALL_ENCODERS, WHERE, TrainConfig
from lejepa.encoders import construct, small

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

    metrics: what is known beside the last epoch's, such as the test's. root: where a checkpoint's data lie, if neither
    under $LEJEPA_DATA nor under ./data; they give the normalisation. Each file is there whole or not at all, and the
    JSON names the digest of the weights that it belongs to. Raises ExportError, CheckpointError, DataError.
    """
    trainer = _from_checkpoint(Path(source), root) if isinstance(source, str | Path) else source
    encoder = _judged(trainer)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in encoder.state_dict().items()}
    content = safetensors.torch.save(tensors, {"format": "pt"})
    about = _describe(trainer, metrics or {}) | {"sha256": hashlib.sha256(content).hexdigest()}
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


def _from_checkpoint(folder: Path, root: Path | None) -> "Trainer":
    """A trainer on the CPU as the newest usable checkpoint left it. CheckpointError where there is none."""
    from lejepa.trainer import Trainer

    unusable = [f"{folder}: holds no checkpoint ({checkpoint.LAST})"]
    for path in (folder / checkpoint.LAST, folder / checkpoint.PREVIOUS):
        if not path.exists():
            continue
        try:
            raw = json.loads(checkpoint.read(path)["config"])["config"]
        except checkpoint.CheckpointError as error:
            unusable.append(str(error))
            continue
        raw["data"] |= {} if root is None else {"root": str(root)}
        trainer = Trainer(TrainConfig.model_validate(raw | {"device": "cpu"}), folder)
        trainer.load()
        return trainer
    raise checkpoint.CheckpointError(unusable[-1])


def _judged(trainer: "Trainer") -> nn.Module:
    if trainer.config.method.name == "pixels":
        raise ExportError("the method pixels has no encoder to export")
    return (trainer.averaged or trainer.method).evaluated


def _weights(trainer: "Trainer") -> str:
    if trainer.averaged is not None:
        return "average"
    return "encoder" if trainer.method.evaluated is trainer.method.encoder else "teacher"


def _describe(trainer: "Trainer", metrics: dict[str, float]) -> dict[str, Any]:
    config, data = trainer.config, trainer.data
    with torch.random.fork_rng(devices=[]):
        _, options = construct(config, data.channels)
    mean, std = data.channel_statistics()
    last = trainer.reports[-1].metrics if trainer.reports else {}
    return {
        "format": FORMAT,
        "library": "lejepa" if config.encoder.name in SMALL_ENCODERS else "timm",
        "name": config.encoder.name,
        "options": options,
        "weights": _weights(trainer),
        "embedding_dim": trainer.method.embedding_dim,
        "image_size": config.data.size,
        "channels": data.channels,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "epoch": trainer.epoch,
        "protocol": probes.PROTOCOL,
        "metrics": last | metrics,
        "config": config.model_dump(mode="json", exclude=WHERE),
        "data": data.fingerprint,
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
    }
