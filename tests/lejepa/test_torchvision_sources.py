"""torchvision's data sets: found by name in torchvision's layout, checked, fetched only when asked."""

import io
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision.datasets
from PIL import Image

from lejepa.config import DataConfig
from lejepa.data import DataError, Dataset, Split, load
from lejepa.torchvision_sources import KNOWN


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))


def data(root: Path, name: str, **more: Any) -> Dataset:
    return load(DataConfig(name=name, root=root, **{"size": 8, "val_fraction": 0.25, **more}))


def sizes(found: Dataset) -> list[int]:
    return [len(found.train), len(found.val), len(found.test)]


def pixels(*splits: Split) -> list[bytes]:
    return sorted(bytes(image) for split in splits for image in split.images.flatten(1).numpy())


def colour(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, 3, dtype=np.uint8)


def save(path: Path, seed: int, side: int = 8) -> None:
    """A picture that JPEG hardly changes: one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(colour(seed), (side, side, 3)).copy()).save(path, "JPEG", quality=95)


def idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">IIII", 0x803, *images.shape)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())


@pytest.mark.parametrize("under", ["", "fashion_mnist"])
def test_fashion_mnist_is_read_from_its_idx_files(tmp_path: Path, under: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = (np.arange(60) % 10).astype(np.uint8)
    raw = tmp_path / under / "FashionMNIST" / "raw"
    idx(raw, "train", images[:40], labels[:40])
    idx(raw, "t10k", images[40:], labels[40:])
    found = data(tmp_path, "fashion_mnist", size=28)
    assert sizes(found) == [30, 10, 20]
    assert found.classes[9] == "Ankle boot"
    assert found.test.labels.tolist() == labels[40:].tolist()
    grey = torch.from_numpy(images[40:]).unsqueeze(1).expand(-1, 3, -1, -1)
    assert torch.equal(found.test.images, grey)
    assert torch.equal(data(tmp_path, "fashion_mnist", size=28, decode="workers").test.images, grey)


def test_imagenette_takes_the_published_val_as_test(tmp_path: Path) -> None:
    for i in range(24):
        folder = tmp_path / "imagenette2-160" / ("train" if i < 16 else "val") / ("n01440764", "n03888257")[i % 2]
        save(folder / f"{i}.JPEG", i)
    found = data(tmp_path, "imagenette160")
    assert sizes(found) == [12, 4, 8]
    assert found.classes == ("tench", "parachute")
    assert found.protocol.endswith("val: 0.25 of train, drawn by class; test: the source's val")


def food101(root: Path) -> None:
    for i in range(24):
        save(root / "food-101" / "images" / f"dish{i % 2}" / f"{i}.jpg", i)
    for split, part in (("train", range(16)), ("test", range(16, 24))):
        lists = {f"dish{c}": [f"dish{c}/{i}" for i in part if i % 2 == c] for c in (0, 1)}
        (root / "food-101" / "meta").mkdir(exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(lists))


def dtd(root: Path) -> None:
    for i in range(24):
        save(root / "dtd" / "dtd" / "images" / f"dish{i % 2}" / f"dish{i % 2}_{i}.jpg", i)
    for split, part in (("train", range(12)), ("val", range(12, 16)), ("test", range(16, 24))):
        lines = [f"dish{i % 2}/dish{i % 2}_{i}.jpg" for i in part]
        (root / "dtd" / "dtd" / "labels").mkdir(exist_ok=True)
        (root / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text("\n".join(lines))


def oxford_pets(root: Path) -> None:
    for i in range(24):
        save(root / "oxford-iiit-pet" / "images" / f"dish{i % 2}_{i}.jpg", i)
    for split, part in (("trainval", range(16)), ("test", range(16, 24))):
        lines = [f"dish{i % 2}_{i} {i % 2 + 1} 1 1" for i in part]
        (root / "oxford-iiit-pet" / "annotations").mkdir(exist_ok=True)
        (root / "oxford-iiit-pet" / "annotations" / f"{split}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("layout", [food101, dtd, oxford_pets])
@pytest.mark.parametrize("decode", ["once", "workers"])
@pytest.mark.parametrize("nested", [False, True])
def test_lists_of_files_give_their_own_splits_and_labels(
    tmp_path: Path, layout: Any, decode: str, nested: bool
) -> None:
    layout(tmp_path / layout.__name__ if nested else tmp_path)
    found = data(tmp_path, layout.__name__, decode=decode)
    assert sizes(found) == [12, 4, 8]
    assert [name.lower() for name in found.classes] == ["dish0", "dish1"]
    test = found.test.take(torch.arange(8)).float().mean((2, 3))
    for image, label in zip(test, found.test.labels, strict=True):
        candidates = [torch.from_numpy(colour(i)) for i in range(16, 24) if i % 2 == label]
        assert min(float((image - candidate).abs().max()) for candidate in candidates) < 4


class Fake:
    """What a torchvision class gives, without its files' checksums."""

    attributes: tuple[str, str] = ("data", "targets")
    shape: tuple[int, ...] = (8, 8, 3)

    def __init__(self, root: Path, download: bool = False, train: bool | None = None, split: str = "") -> None:
        part = split or ("train" if train else "test")
        first, count = {"train": (0, 16), "val": (16, 8), "test": (24, 8)}[part]
        array = np.stack([np.full(self.shape, i, np.uint8) for i in range(first, first + count)])
        files = [Path(root) / f"{i}.png" for i in range(first, first + count)]
        setattr(self, self.attributes[0], files if self.attributes[0] == "_image_files" else array)
        setattr(self, self.attributes[1], [i % 4 for i in range(first, first + count)])
        self.count = count

    def __len__(self) -> int:
        return self.count


@pytest.mark.parametrize(
    ("name", "attributes", "shape", "expected"),
    [
        ("cifar10", ("data", "targets"), (8, 8, 3), [12, 4, 8]),
        ("cifar100", ("data", "targets"), (8, 8, 3), [12, 4, 8]),
        ("stl10", ("data", "labels"), (3, 8, 8), [12, 4, 8]),
        ("svhn", ("data", "labels"), (3, 8, 8), [12, 4, 8]),
        ("flowers102", ("_image_files", "_labels"), (8, 8, 3), [16, 8, 8]),
    ],
)
def test_torchvisions_splits_become_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, attributes: tuple[str, str], shape: Any, expected: Any
) -> None:
    for part in KNOWN[name].layout:
        (tmp_path / part).mkdir()
    for i in range(32):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    fake = type("Fake", (Fake,), {"attributes": attributes, "shape": shape})
    monkeypatch.setattr(torchvision.datasets, KNOWN[name].cls, fake)
    found = data(tmp_path, name)
    assert sizes(found) == expected
    assert found.classes == ("0", "1", "2", "3")
    for split in (found.train, found.val, found.test):
        assert (split.images[:, 0, 0, 0] % 4).tolist() == split.labels.tolist()
    assert found.test.images[:, 0, 0, 0].tolist() == list(range(24, 32))


def test_a_pickle_without_the_right_checksum_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "opened"),)

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"torchvision does not take what lies under .*corrupted.*remove cifar-10"):
        data(tmp_path, "cifar10")
    assert not (tmp_path / "opened").exists()


def test_parquet_of_the_same_name_wins_and_class_folders_do_too(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar-10-batches-py").mkdir()
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(out, "PNG")
    table = pa.table({"image": [{"bytes": out.getvalue()}] * 20, "label": [0, 1] * 10})
    pq.write_table(table, tmp_path / "cifar10" / "train.parquet")
    assert int(data(tmp_path, "cifar10").train.images.max()) == 9
    food101(tmp_path)
    for i in range(20):
        save(tmp_path / "food101" / f"mine{i % 2}" / f"{i}.jpg", i)
    assert data(tmp_path, "food101").classes == ("mine0", "mine1")


def test_nothing_is_fetched_unless_asked_and_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: Any, **__: Any) -> None:
        pytest.fail("a download that nobody asked for")

    monkeypatch.setattr(torchvision.datasets, "Food101", fetched)
    with pytest.raises(DataError, match=r"set data\.download: true .*or put food-101/images and food-101/meta there"):
        data(tmp_path, "food101")
    with pytest.raises(DataError, match=r"must be fetched by hand: .*imagenet/train/<class>/ and val/<class>/"):
        data(tmp_path, "imagenet", download=True)


def test_a_download_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = torchvision.datasets.Food101, []

    def fetching(root: Path, split: str, download: bool) -> Any:
        if download:
            asked.append(split)
            food101(root)
            if len(asked) == 2:
                raise RuntimeError("the connection broke")
        return real(root, split)

    monkeypatch.setattr(torchvision.datasets, "Food101", fetching)
    root = tmp_path / "root"
    with pytest.raises(DataError, match=r"cannot be fetched into .*food101 .*the connection broke"):
        data(root, "food101", download=True)
    assert [p for p in root.iterdir() if p.suffix != ".lock"] == []
    assert sizes(data(root, "food101", download=True)) == [12, 4, 8]
    assert sizes(data(root, "food101")) == [12, 4, 8]
    assert asked == ["train", "test"] * 2
