"""Data sets by torchvision's names, in torchvision's own layout, under `data.root` or `data.root/<name>`.

Read by torchvision's classes, which check their files where torchvision knows a checksum (CIFAR is a pickle and is
never unpickled otherwise), and fetched by them, only when asked. ImageNet is not fetched by anyone: its layout is
class folders. STL-10's unlabelled images and SVHN's extra ones are not used.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lejepa.decoding import DataError
from lejepa.image_cache import alone
from lejepa.image_sources import Listing, Row, Source, content, digest, files_under

_TRAIN = {"train": {"train": True}, "test": {"train": False}}
_SPLIT = {"train": {"split": "train"}, "test": {"split": "test"}}
_VAL = {"train": {"split": "train"}, "val": {"split": "val"}}
_ARCHIVES = (".gz", ".tgz", ".tar", ".zip")


@dataclass(frozen=True)
class _Known:
    cls: str  # in torchvision.datasets
    layout: tuple[str, ...]  # what must lie under the root that torchvision is given
    splits: dict[str, dict[str, Any]]  # our name of a split → how torchvision is asked for it
    images: str  # attribute of the data set: an array of all images, or their files
    labels: str = "_labels"  # attribute: their numbers


def _sized(size: str) -> dict[str, dict[str, Any]]:
    return {name: {**arguments, "size": size} for name, arguments in _VAL.items()}


KNOWN = {
    "cifar10": _Known("CIFAR10", ("cifar-10-batches-py",), _TRAIN, "data", "targets"),
    "cifar100": _Known("CIFAR100", ("cifar-100-python",), _TRAIN, "data", "targets"),
    "stl10": _Known("STL10", ("stl10_binary",), _SPLIT, "data", "labels"),
    "svhn": _Known("SVHN", ("train_32x32.mat", "test_32x32.mat"), _SPLIT, "data", "labels"),
    "mnist": _Known("MNIST", ("MNIST/raw",), _TRAIN, "data", "targets"),
    "fashion_mnist": _Known("FashionMNIST", ("FashionMNIST/raw",), _TRAIN, "data", "targets"),
    "flowers102": _Known("Flowers102", ("flowers-102",), {**_SPLIT, "val": {"split": "val"}}, "_image_files"),
    "food101": _Known("Food101", ("food-101/images", "food-101/meta"), _SPLIT, "_image_files"),
    "dtd": _Known("DTD", ("dtd/dtd",), {**_SPLIT, "val": {"split": "val"}}, "_image_files"),
    "oxford_pets": _Known(
        "OxfordIIITPet", ("oxford-iiit-pet",), {"train": {"split": "trainval"}, "test": {"split": "test"}}, "_images"
    ),
    "imagenette": _Known("Imagenette", ("imagenette2",), _sized("full"), "_samples"),
    "imagenette320": _Known("Imagenette", ("imagenette2-320",), _sized("320px"), "_samples"),
    "imagenette160": _Known("Imagenette", ("imagenette2-160",), _sized("160px"), "_samples"),
}


def place(name: str, root: Path) -> Path | None:
    """The root that torchvision must be given for this data set, where its layout is there."""
    known = KNOWN.get(name)
    if known is None:
        return None
    return next((p for p in (root / name, root) if all((p / part).exists() for part in known.layout)), None)


def fills(name: str, found: Path, folder: Path) -> bool:
    """Whether the layout found there is what lies in this folder, whose images are then no class folders."""
    return all((found / part).is_relative_to(folder) for part in KNOWN[name].layout)


def source(name: str, folder: Path) -> Source:
    """A data set whose layout lies under `folder`. What is read is what torchvision finds there."""
    known = KNOWN[name]
    parts = [(part, files_under(folder / part) if (folder / part).is_dir() else None) for part in known.layout]
    found = [name for part, files in parts for name in ([part] if files is None else [f"{part}/{f}" for f in files])]
    what, size = content(folder, [file for file in found if not file.endswith(_ARCHIVES)])
    kind: Literal["arrays", "files"] = "arrays" if known.images == "data" else "files"
    return Source(name, folder, digest(["torchvision", name, what]), kind, lambda: _open(name, folder, size))


def fetch(name: str, root: Path) -> Path:
    """Let torchvision download into root/<name>, which appears whole or not at all. Raises DataError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with alone(root / f".{name}.lock"):
            if found := place(name, root):
                return found
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
                tree = Path(scratch) / name
                tree.mkdir()
                for arguments in KNOWN[name].splits.values():
                    _class(name)(tree, download=True, **arguments)
                return tree.rename(root / name)
    except (OSError, RuntimeError) as error:
        raise DataError(f"data set {name!r}: cannot be fetched into {root / name} ({error})") from error


def how_to_get(name: str, root: Path) -> str:
    """What to do where a data set of torchvision is not there; empty for other names."""
    if name == "imagenet":
        return f"; ImageNet must be fetched by hand: lay it out as {root / name}/train/<class>/ and val/<class>/"
    if name not in KNOWN:
        return ""
    return f"; set data.download: true to let torchvision fetch it, or put {' and '.join(KNOWN[name].layout)} there"


def _class(name: str) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, KNOWN[name].cls)


def _open(name: str, folder: Path, size: int) -> Listing:
    known = KNOWN[name]
    parts = {}
    for split in ("train", "val", "test"):
        if split in known.splits:
            try:
                parts[split] = _class(name)(folder, download=False, **known.splits[split])
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                raise DataError(
                    f"data set {name!r}: torchvision does not take what lies under {folder} ({error}); "
                    f"remove {' and '.join(known.layout)} there and set data.download: true"
                ) from error
    classes = _classes(parts["train"])
    rows = (row for split, data in parts.items() for row in _rows(known, split, data, folder, classes))
    return Listing(rows, sum(len(data) for data in parts.values()), size, classes)


def _classes(data: Any) -> tuple[str, ...] | None:
    """Names in the order of their numbers; None, for the numbers themselves, where torchvision has no such names."""
    names = tuple(name if isinstance(name, str) else name[0] for name in getattr(data, "classes", ()))
    return names if names and len(set(names)) == len(names) else None


def _rows(known: _Known, split: str, data: Any, folder: Path, classes: tuple[str, ...] | None) -> Iterator[Row]:
    images = getattr(data, known.images)
    labels = [label for _, label in images] if known.images == "_samples" else getattr(data, known.labels)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = classes[int(label)] if classes else str(int(label))
        if known.images == "data":
            pixels = np.asarray(image)
            yield Row(pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels, name, split, f"{split} {i}")
        else:
            file = Path(image[0] if isinstance(image, tuple) else image)
            yield Row(file, name, split, file.relative_to(folder).as_posix())
