"""An exported encoder is the one that was judged, and plain timm loads it to the same bits."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from lejepa import attention, checkpoint
from lejepa.checkpoint import CheckpointError
from lejepa.config import TrainConfig
from lejepa.data import DataError
from lejepa.export import ExportError, export, load
from lejepa.trainer import Trainer

TINY: dict[str, Any] = {
    "method": {"name": "lejepa", "slices": 16},
    "encoder": {"name": "small_resnet", "width": 8},
    "projector": {"layers": 2, "hidden": 16, "dim": 8},
    "data": {"name": "digits", "size": 16, "limit": 150},
    "views": {"local_views": 0},
    "probe": {"draws": 2},
    "epochs": 1,
    "batch_size": 32,
}
VIT = {"name": "small_vit", "width": 64, "depth": 2}


def trained(folder: Path | None = None, **changes: Any) -> Trainer:
    trainer = Trainer(TrainConfig.model_validate({**TINY, **changes}), folder)
    list(trainer)
    return trainer


def images(trainer: Trainer) -> torch.Tensor:
    size = trainer.config.data.size
    return torch.randn(4, trainer.data.channels, size, size, generator=torch.Generator().manual_seed(0))


def outputs(encoder: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """In one memory format and by plain attention: others sum in another order."""
    encoder = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format).eval()
    attention.plain(encoder)
    with torch.no_grad():
        return torch.as_tensor(encoder(x))


def about(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "encoder.json").read_text())
    return read


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "test_vit", "registers": 2, "drop_path": 0.1, "dim": 12},
        {"name": "test_resnet"},  # BatchNorm: buffers travel, too
    ],
)
def test_plain_timm_loads_the_file_and_gives_the_same_bits(tmp_path: Path, encoder: dict[str, Any]) -> None:
    trainer = trained(encoder=encoder, data={**TINY["data"], "size": 32})
    export(trainer, tmp_path)
    read = about(tmp_path)
    model = timm.create_model(read["name"], **read["options"])
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "encoder.safetensors"))
    expected = outputs(trainer.method.evaluated, images(trainer))
    assert torch.equal(outputs(model, images(trainer)), expected)
    assert torch.equal(outputs(load(tmp_path), images(trainer)), expected)
    assert expected.shape == (4, read["embedding_dim"])


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "small_resnet", "width": 8, "dim": 6},
        {"name": "small_convnext", "width": 8, "drop_path": 0.1},
        {**VIT, "registers": 1},
    ],
    ids=lambda encoder: encoder["name"],
)
def test_small_encoders_come_back_to_the_same_bits(tmp_path: Path, encoder: dict[str, Any]) -> None:
    trainer = trained(encoder=encoder)
    encoder_again = load(export(trainer, tmp_path))
    assert not encoder_again.training
    x = images(trainer)
    assert torch.equal(outputs(encoder_again, x), outputs(trainer.method.evaluated, x))


def test_the_weights_that_were_judged_are_exported(tmp_path: Path) -> None:
    ijepa = {"name": "ijepa", "predictor_width": 32, "predictor_depth": 1, "min_keep": 1}
    trainer = trained(method=ijepa, encoder={**VIT, "patch": 2}, views={})
    x = images(trainer)
    again = load(export(trainer, tmp_path / "teacher"))
    assert about(tmp_path / "teacher")["weights"] == "teacher"
    assert torch.equal(outputs(again, x), outputs(trainer.method.evaluated, x))
    assert not torch.equal(outputs(again, x), outputs(trainer.method.encoder, x))

    trainer = trained(average=0.9)
    again = load(export(trainer, tmp_path / "average"))
    assert about(tmp_path / "average")["weights"] == "average"
    assert trainer.averaged is not None
    assert torch.equal(outputs(again, x), outputs(trainer.averaged.evaluated, x))
    assert not torch.equal(outputs(again, x), outputs(trainer.method.encoder, x))


def test_a_checkpoint_exports_to_the_same_weights_as_its_trainer(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "kept", average=0.5)
    export(trainer, tmp_path / "a")
    export(tmp_path / "kept", tmp_path / "b")
    a, b = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in "ab")
    assert a == b
    assert about(tmp_path / "a") == about(tmp_path / "b")


def photos(root: Path, **more: Any) -> dict[str, Any]:
    """The data of a folder of 24 coloured squares in two classes."""
    for name, hue in (("cold", (20, 60, 200)), ("warm", (220, 90, 30))):
        (root / "squares" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (16, 16), tuple(c + i for c in hue)).save(root / "squares" / name / f"{i}.png")
    return {"name": "squares", "root": str(root), "size": 16, **more}


def aged(folder: Path) -> None:
    """Make its checkpoint one of the kind that held nothing about the images."""
    state = checkpoint.read(folder / checkpoint.LAST)
    del state["images"]
    checkpoint.write(folder, state)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_checkpoint_is_exported_where_its_data_are_not(tmp_path: Path, cache: Path) -> None:
    trainer = trained(tmp_path / "kept", data=photos(tmp_path), batch_size=4)
    export(trainer, tmp_path / "a")
    for folder in (tmp_path / "squares", cache):
        shutil.rmtree(folder)
    export(tmp_path / "kept", tmp_path / "b")
    assert about(tmp_path / "a") == about(tmp_path / "b")
    assert not cache.exists()


def test_a_checkpoint_that_does_not_say_how_images_are_normalised_asks_the_data_and_keeps_no_decoded_copy(
    tmp_path: Path, cache: Path
) -> None:
    trainer = trained(tmp_path / "kept", data=photos(tmp_path, decode="workers"), batch_size=4)
    export(trainer, tmp_path / "a")
    aged(tmp_path / "kept")
    export(tmp_path / "kept", tmp_path / "b", root=tmp_path)
    assert about(tmp_path / "a") == about(tmp_path / "b")
    assert not list(cache.glob("*/images.u8"))
    (tmp_path / "squares" / "warm" / "3.png").unlink()
    with pytest.raises(CheckpointError, match="belongs to other data"):
        export(tmp_path / "kept", tmp_path / "c", root=tmp_path)
    shutil.rmtree(tmp_path / "squares")
    with pytest.raises(DataError, match="squares"):
        export(tmp_path / "kept", tmp_path / "c", root=tmp_path)


def test_a_checkpoint_of_another_version_is_told_in_a_line(tmp_path: Path) -> None:
    trained(tmp_path)
    state = checkpoint.read(tmp_path / checkpoint.LAST)
    what = json.loads(state["config"])
    what["config"]["probe"]["shot"] = 3
    checkpoint.write(tmp_path, state | {"config": json.dumps(what)})
    with pytest.raises(CheckpointError, match=r"none of this version: probe\.shot: unknown key; did you mean 'shots'"):
        export(tmp_path, tmp_path / "x")
    checkpoint.write(tmp_path, state | {"method": {f"old.{name}": w for name, w in state["method"].items()}})
    with pytest.raises(CheckpointError, match="does not fit this code") as caught:
        export(tmp_path, tmp_path / "x")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_the_json_normalises_as_the_trainer_does_and_says_what_was_reached(tmp_path: Path) -> None:
    trainer = trained()
    export(trainer, tmp_path, {"test/knn": 12.5})
    read = about(tmp_path)
    pixels = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(read[name]).view(-1, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close((pixels / 255 - mean) / std, trainer.multicrop.normalize(pixels))
    assert read["metrics"] == {**trainer.reports[-1].metrics, "test/knn": 12.5}
    assert (read["weights"], read["epoch"], read["image_size"], read["channels"]) == ("encoder", 1, 16, 1)
    assert TrainConfig.model_validate(read["config"]) == trainer.config


def test_a_disk_that_is_full_leaves_the_export_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trained(), trained(seed=1)
    export(first, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(second, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_of_another_export_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    first, second = trained(), trained(seed=1)
    export(first, tmp_path / "a")
    export(second, tmp_path / "b")
    (tmp_path / "b" / "encoder.safetensors").replace(tmp_path / "a" / "encoder.safetensors")
    with pytest.raises(ExportError, match="damaged, or of another export"):
        load(tmp_path / "a")
    with pytest.raises(ExportError, match="no export"):
        load(tmp_path / "b")
    (tmp_path / "a" / "encoder.json").write_text('{"format": "else"}')
    with pytest.raises(ExportError, match="not of the format"):
        load(tmp_path / "a")


def test_what_has_no_encoder_or_no_checkpoint_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no encoder"):
        export(Trainer(TrainConfig.model_validate({**TINY, "method": {"name": "pixels"}})), tmp_path / "x")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        export(tmp_path, tmp_path / "x")
    (tmp_path / "last.pt").write_bytes(b"half a checkp")
    with pytest.raises(CheckpointError, match="truncated, damaged"):
        export(tmp_path, tmp_path / "x")
    assert not (tmp_path / "x").exists()
