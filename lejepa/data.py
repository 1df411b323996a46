"""Named sources → images as uint8 tensors, split into train, val and test.

`digits` ships with scikit-learn. Any other name is a folder under `data.root` that holds either Hugging Face image
Parquet (files named after their split) or class folders (with or without `train`, `val`, `test` above them). Without
a test split, val is the test (as with ImageNet); without both, test is a fifth of the images, by class. A val split not
given is a share of train, by class. The draws are fixed, the same for all trials. Decoded images are kept once per
source and size in a memory map that all trials of a machine share.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lejepa.config import DataConfig, nearest

_PROTOCOL = 1  # of decoding and splitting: part of the fingerprint
_SPLITS = ("train", "val", "test")
_SPLIT_WORDS = {"train": "train", "training": "train", "test": "test"}
_SPLIT_WORDS |= dict.fromkeys(("val", "valid", "validation"), "val")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


class DataError(Exception):
    """The data cannot be used; the message says which file and what would be right."""


@dataclass(frozen=True)
class Split:
    images: Tensor  # (N, C, S, S) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str  # of the source, the size and the splits

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[1])

    def channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) of at most 10,000 training images, on [0, 1]."""
        pixels = self.train.images[:10_000].double() / 255
        return pixels.mean((0, 2, 3)).float(), pixels.std((0, 2, 3)).clamp(min=1e-3).float()


def load(config: DataConfig) -> Dataset:
    """The data set of a config, decoded if need be. Raises DataError where it is missing, empty or unreadable."""
    source = _digits(config.size) if config.name == "digits" else _from_files(config)
    splits = _split(source.labels, source.split, config)
    for name, index in splits.items():
        if len(index) == 0:
            raise DataError(f"data set {config.name!r}: the {name} split is empty; it has {len(source.labels)} images")
    return Dataset(
        **{name: Split(source.images[index], source.labels[index]) for name, index in splits.items()},
        classes=source.classes,
        fingerprint=_digest([_PROTOCOL, source.fingerprint, config.size, config.val_fraction, config.limit]),
    )


def fingerprint(config: DataConfig) -> str:
    """Hex digest of what a training would see: source files, size, splits. Decodes on first use; raises DataError."""
    return load(config).fingerprint


@dataclass(frozen=True)
class _Source:
    images: Tensor  # (N, C, S, S) uint8, all splits
    labels: Tensor  # (N,) int64
    split: list[str]  # N words: train, val or test
    classes: tuple[str, ...]
    fingerprint: str


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# -- splits -----------------------------------------------------------------------------------------------------------


def _split(labels: Tensor, given: list[str], config: DataConfig) -> dict[str, Tensor]:
    """Indices of train, val and test: what the source gives, and fixed draws by class for what it does not."""
    words = np.array(given)
    index = {name: np.flatnonzero(words == name) for name in _SPLITS}
    if len(index["test"]) == 0:
        if len(index["val"]):  # the ImageNet layout: its val is what is published as test
            index["test"], index["val"] = index["val"], index["test"]
        else:
            index["train"], index["test"] = _hold_out(index["train"], labels, 0.2)
    if len(index["val"]) == 0:
        index["train"], index["val"] = _hold_out(index["train"], labels, config.val_fraction)
    if config.limit is not None and config.limit < len(index["train"]):
        _, index["train"] = _hold_out(index["train"], labels, config.limit / len(index["train"]))
    return {name: torch.from_numpy(i) for name, i in index.items()}


def _hold_out(index: np.ndarray, labels: Tensor, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out), each sorted; the same fraction of every class, at least one image where a class has two."""
    rng = np.random.default_rng(0)
    held = []
    for label in np.unique(labels[index]):
        members = rng.permutation(index[labels.numpy()[index] == label])
        held.append(members[: max(round(fraction * len(members)), min(1, len(members) - 1))])
    out = np.sort(np.concatenate(held)) if held else index[:0]
    return np.setdiff1d(index, out), out


# -- sources ----------------------------------------------------------------------------------------------------------


def _digits(size: int) -> _Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    images = torch.nn.functional.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(digits.target).long()
    content = hashlib.sha256(digits.images.tobytes() + digits.target.tobytes()).hexdigest()
    classes = tuple(str(name) for name in digits.target_names)
    return _Source((images * 255).round().byte(), labels, ["train"] * len(labels), classes, content)


def _from_files(config: DataConfig) -> _Source:
    assert config.root is not None
    folder = config.root / config.name
    if not folder.is_dir():
        present = sorted(p.name for p in config.root.iterdir() if p.is_dir()) if config.root.is_dir() else []
        there = f"{config.root} holds {', '.join(present) or 'no folder'}" if config.root.is_dir() else "no such root"
        hint = nearest(config.name, ["digits", *present])
        raise DataError(f"data set {config.name!r}: there is no folder {folder} ({there}){hint}")
    parquet = sorted(folder.rglob("*.parquet"))
    files = parquet or sorted(p for p in folder.rglob("*") if p.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"data set {config.name!r}: {folder} holds neither Parquet files nor images in class folders")
    content = _digest([_file_digest(path, folder) for path in files])
    rows = _read_parquet if parquet else _read_class_folders
    return _cached(f"{content}-{config.size}", content, config.size, lambda: rows(files, folder))


def _file_digest(path: Path, folder: Path) -> list[Any]:
    """Relative name, size, and a hash of the first and last 64 KiB: the same on every machine, quick on large files."""
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(1 << 16)
        file.seek(max(0, size - (1 << 16)))
        ends += file.read()
    return [path.relative_to(folder).as_posix(), size, hashlib.sha256(ends).hexdigest()]


# One image before decoding: its bytes, its label's name, its split, and where it stands, for error messages.
_Row = tuple[bytes, str, str, str]


def _read_parquet(files: list[Path], folder: Path) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        split = _split_of(path.relative_to(folder).as_posix(), path)
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path}: not a readable Parquet file ({error})") from error
        image, label = _columns(file.schema_arrow, path)
        row = 0
        for batch in file.iter_batches(1024, columns=[image, label]):
            for cell, name in zip(batch.column(image).to_pylist(), batch.column(label).to_pylist(), strict=True):
                if not cell or cell.get("bytes") is None or name is None:
                    raise DataError(f"{path}, row {row}: no image bytes or no label")
                yield cell["bytes"], str(name), split, f"{path}, row {row}"
                row += 1


def _columns(schema: Any, path: Path) -> tuple[str, str]:
    import pyarrow as pa

    images = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    labels = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_string(f.type)]
    label = "label" if "label" in labels else labels[0] if len(labels) == 1 else None
    if len(images) != 1 or label is None:
        raise DataError(
            f"{path}: columns {schema.names}; expected one image column {{bytes, path}} and a column named label"
        )
    return images[0], label


def _read_class_folders(files: list[Path], folder: Path) -> Iterator[_Row]:
    for path in files:
        parts = path.relative_to(folder).parts[:-1]
        split = _SPLIT_WORDS.get(parts[0].lower()) if parts else None
        names = parts[1:] if split else parts
        if not names:
            raise DataError(f"{path}: an image outside a class folder; expected <class>/ or <split>/<class>/ above it")
        yield path.read_bytes(), names[0], split or "train", str(path)


def _split_of(name: str, path: Path) -> str:
    words = name.lower().replace("/", "-").replace("_", "-").replace(".", "-").split("-")
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    if len(found) > 1:
        raise DataError(f"{path}: the name tells more than one split ({', '.join(sorted(found))})")
    return found.pop() if found else "train"


# -- the memory map ---------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """$LEJEPA_CACHE, or `lejepa` under the user's cache folder."""
    base = os.environ.get("LEJEPA_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lejepa"


def _cached(name: str, content: str, size: int, rows: Callable[[], Iterator[_Row]]) -> _Source:
    """Open <cache>/<name>, decoding the rows into it first where it is not there. It appears whole or not at all."""
    target = cache_folder() / name
    if not target.is_dir():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
                built = Path(scratch) / "built"
                built.mkdir()
                _decode_into(built, rows(), size)
                if not target.is_dir():  # another process may have been quicker
                    built.rename(target)
        except OSError as error:
            if not target.is_dir():
                raise DataError(f"cannot write the image cache {target}: {error}; set LEJEPA_CACHE") from error
    index = json.loads((target / "index.json").read_text())
    images = np.memmap(target / "images.u8", np.uint8, "c", shape=tuple(index["shape"]))  # c: never written back
    labels = torch.tensor(index["labels"])
    return _Source(torch.from_numpy(images), labels, index["split"], tuple(index["classes"]), content)


def _decode_into(folder: Path, rows: Iterator[_Row], size: int) -> None:
    names, split, count = [], [], 0
    with (folder / "images.u8").open("wb") as out:
        for data, name, part, where in rows:
            out.write(_decode(data, size, where))
            names.append(name)
            split.append(part)
            count += 1
        out.flush()
        os.fsync(out.fileno())
    classes = sorted(set(names), key=lambda n: (0, int(n), "") if n.isdecimal() else (1, 0, n))
    number = {name: i for i, name in enumerate(classes)}
    index = {"shape": [count, 3, size, size], "classes": classes, "labels": [number[n] for n in names], "split": split}
    with (folder / "index.json").open("w") as file:
        json.dump(index, file)
        file.flush()
        os.fsync(file.fileno())


def _decode(data: bytes, size: int, where: str) -> bytes:
    """RGB, shorter side to `size` (bicubic), centre square; 3·size² bytes, channels first."""
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: unreadable image ({error}); remove or replace it") from error
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).tobytes()
