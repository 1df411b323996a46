"""Named sources → images as uint8 tensors, split into train, val and test.

`digits` ships with scikit-learn. Any other name lies under `data.root`: a folder of class folders or of Hugging Face
image Parquet, a Parquet file, or a data set in torchvision's layout, which is fetched only when asked. Splits:
splits.py. Images are decoded once per source and side into a memory map that all trials of a machine share, or kept
encoded and decoded as they are read (loading.py).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lejepa import torchvision_sources
from lejepa.class_folders import class_folder_source
from lejepa.config import DataConfig, nearest
from lejepa.decoding import DataError as DataError
from lejepa.image_cache import Encoded, Mapped, Stored, stored
from lejepa.image_sources import Source, digest, files_under, parquet_source
from lejepa.splits import PROTOCOL, rows_of

_STATISTICS = 2048  # images that the channels' mean and deviation are taken from


class Split:
    """Rows (N,) of a store of images, None for all of them, with their labels (N,) int64."""

    def __init__(self, images: Tensor | Mapped | Encoded, labels: Tensor, rows: Tensor | None = None) -> None:
        self._store, self._rows = images, rows
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return int(self._store.shape[1])

    def take(self, index: Tensor) -> Tensor:
        """Images (n, C, S, S) uint8, decoded here and now where they are kept encoded; lejepa.loading reads ahead."""
        rows = index if self._rows is None else self._rows[index]
        return self._store[rows] if isinstance(self._store, Tensor) else self._store.take(rows)

    @property
    def images(self) -> Tensor:
        """All images (N, C, S, S) uint8, in memory; from the first use on they are what `take` takes from.

        Raises DataError where images are kept encoded: they may be many and large.
        """
        if isinstance(self._store, Encoded):
            raise DataError("these images are kept encoded (data.decode: workers); read them in batches")
        if self._rows is not None or isinstance(self._store, Mapped):
            self._store, self._rows = self.take(torch.arange(len(self))), None
        return self._store


@dataclass(frozen=True)
class Dataset:
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str  # of the source, the side, what is left out, and the splits
    protocol: str  # in words: where val and test come from
    unreadable: tuple[str, ...] = ()  # images left out, by their names in the source
    passed_over: tuple[str, ...] = ()  # what lies beside the images and is not read

    @property
    def channels(self) -> int:
        return self.train.channels

    def channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) of 2,048 training images (or all, where fewer) spread evenly, on [0, 1]."""
        index = torch.linspace(0, len(self.train) - 1, min(_STATISTICS, len(self.train))).round().long()
        counts = torch.zeros(self.channels, 256, dtype=torch.float64)  # of each value: exact, and no copy in floats
        for part in index.split(64):
            channels = self.train.take(part).transpose(0, 1).flatten(1)
            counts += torch.stack([channel.bincount(minlength=256) for channel in channels])
        share, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
        mean = share @ values
        deviation = (share * (values - mean[:, None]) ** 2).sum(1).sqrt()
        return mean.float(), deviation.clamp(min=1e-3).float()


def load(config: DataConfig) -> Dataset:
    """The data set of a config, decoded or checked on first use.

    Raises DataError where it is missing, empty, of one class or too many for its limit, cannot be cached, or more than
    `unreadable` of it is broken.
    """
    side = config.stored or config.size
    source = None if config.name == "digits" else _find(config)
    kept = stored(source, side, config.decode == "workers", config.unreadable) if source else _digits(side)
    splits, how = rows_of(kept.labels.numpy(), kept.split, config)
    for name, rows in splits.items():
        if len(rows) == 0:
            raise DataError(f"data set {config.name!r}: the {name} split is empty; it has {len(kept.labels)} images")
    if len(of_train := kept.labels[splits["train"]].unique()) == 1:
        raise DataError(
            f"data set {config.name!r}: all {len(splits['train'])} training images have one label, "
            f"{kept.classes[of_train.item()]!r}; expected are two classes or more"
        )
    limit = how.get("train", config.limit)
    seen = [PROTOCOL, kept.content, config.size, side, config.val_fraction, limit, kept.unreadable]
    return Dataset(
        **{name: Split(kept.images, kept.labels[rows], torch.from_numpy(rows)) for name, rows in splits.items()},
        classes=kept.classes,
        fingerprint=digest(seen),
        protocol="; ".join([f"splits-{PROTOCOL}", *(f"{name}: {source}" for name, source in how.items())]),
        unreadable=kept.unreadable,
        passed_over=source.passed_over if source else (),
    )


def fingerprint(config: DataConfig) -> str:
    """Hex digest of what a training would see: source files, sides, splits. Decodes on first use; raises DataError."""
    return load(config).fingerprint


# -- what a name means ------------------------------------------------------------------------------------------------


def _digits(side: int) -> Stored:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    images = torch.nn.functional.interpolate(small, (side, side), mode="bilinear", align_corners=False)
    content = hashlib.sha256(digits.images.tobytes() + digits.target.tobytes()).hexdigest()
    labels = torch.from_numpy(digits.target).long()
    classes = tuple(str(name) for name in digits.target_names)
    return Stored(content, (images * 255).round().byte(), labels, np.zeros(len(labels), np.uint8), classes, ())


def _find(config: DataConfig) -> Source:
    """Parquet or class folders of that name first; torchvision's layout next; a download last. Raises DataError."""
    name, root = config.name, config.root or DataConfig(name=config.name).root
    assert root is not None
    folder = root / name
    if folder.is_file() and folder.suffix == ".parquet":
        return parquet_source(name, root, [name])
    files = files_under(folder) if folder.is_dir() else []
    if parquet := [file for file in files if file.endswith(".parquet")]:
        return parquet_source(name, folder, parquet)
    known = torchvision_sources.place(name, root)
    if known is None or not torchvision_sources.fills(name, known, folder):
        if found := class_folder_source(name, folder, files):
            return found
        if known is None and config.download and name in torchvision_sources.KNOWN:
            known = torchvision_sources.fetch(name, root)
    if known is None:
        raise _missing(name, root)
    return torchvision_sources.source(name, known)


def _missing(name: str, root: Path) -> DataError:
    remedy = torchvision_sources.how_to_get(name, root)
    if (root / name).is_dir():
        return DataError(
            f"data set {name!r}: {root / name} holds neither Parquet files nor images in class folders{remedy}"
        )
    present = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    there = f"{root} holds {', '.join(present) or 'no folder'}" if root.is_dir() else "no such root"
    hint = remedy or nearest(name, ["digits", *present, *torchvision_sources.KNOWN])
    return DataError(f"data set {name!r}: there is no folder {root / name} ({there}){hint}")
