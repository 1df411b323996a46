"""`<class>/…/*.png`, or `train/<class>/…`, `val/…`, `test/…` → rows, one per image, checked before any is decoded."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lejepa.decoding import DataError
from lejepa.image_sources import SPLIT_WORDS, Listing, Row, Source, content

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff", ".gif")
_EXPECTED = "expected are <class>/… or <split>/<class>/…, with a folder for each of two classes or more"
_NAMED = 5  # of many folders in a message


class _Place(NamedTuple):
    split: str
    folder: str  # of the class, as a path; empty outside
    label: str


def class_folder_source(name: str, folder: Path, files: list[str]) -> Source | None:
    """None without images. Beside train/, only other splits are read; what is passed over is named in the source.

    files: paths under `folder`. Raises DataError: an image in no class, one class only, a class without images or
    without training images.
    """
    beside = _beside_train(files)
    inside = [file for file in files if file.partition("/")[0] not in beside]
    images = [file for file in inside if _is_image(file)]
    if not images:
        return None
    places = [_place(file) for file in images]
    for file, place in zip(images, places, strict=True):
        if not place.folder:
            raise DataError(f"{folder / file}: an image outside a class folder; {_EXPECTED}")
    others = [file for file in inside if not _is_image(file)]
    _check_none_vanishes(folder, others, {place.folder for place in places})
    _check_several(name, folder, images, places)
    _check_trained(folder, places)
    what, size = content(folder, images)
    passed_over = (*(f"{top}/ beside train/ (files: {count})" for top, count in sorted(beside.items())), *others)
    listing = lambda: Listing(_rows(folder, images), len(images), size)  # noqa: E731
    return Source(name, folder, what, "files", listing, passed_over)


def _is_image(file: str) -> bool:
    return file.lower().endswith(_IMAGE_SUFFIXES)


def _place(file: str) -> _Place:
    first, *more = file.split("/")[:-1] or [""]
    split = SPLIT_WORDS.get(first.lower())
    if split is None:
        return _Place("train", first, first)
    return _Place(split, f"{first}/{more[0]}", more[0]) if more else _Place(split, "", "")


def _rows(folder: Path, images: list[str]) -> Iterator[Row]:
    for file in images:
        place = _place(file)
        yield Row(folder / file, place.label, place.split, file)


def _beside_train(files: list[str]) -> dict[str, int]:
    """Folders that are no splits, where there is one for train, with the number of their files; ImageNet has such."""
    tops = Counter(top for top, inside, _ in (file.partition("/") for file in files) if inside)
    if all(SPLIT_WORDS.get(top.lower()) != "train" for top in tops):
        return {}
    return {top: count for top, count in tops.items() if top.lower() not in SPLIT_WORDS}


def _check_none_vanishes(folder: Path, others: list[str], with_images: set[str]) -> None:
    lost = Counter(place for file in others if (place := _place(file).folder) and place not in with_images)
    for place, count in sorted(lost.items()):
        suffixes = sorted({Path(file).suffix or "none" for file in others if _place(file).folder == place})
        raise DataError(
            f"{folder / place}: the class would be left out, as no file of {count} is an image by its suffix (there "
            f"are {', '.join(suffixes)}; images are {', '.join(_IMAGE_SUFFIXES)}); convert them, or remove the folder"
        )


def _check_several(name: str, folder: Path, images: list[str], places: list[_Place]) -> None:
    labels = {place.label: place.folder for place in places if place.split == "train"}
    if len(labels) != 1:  # without any, the train split is empty, which is said of all sources
        return
    (only,) = labels.values()
    inside = [file.removeprefix(f"{only}/").split("/") for file in images if file.startswith(f"{only}/")]
    below = sorted({first for first, *more in inside if more})
    named = ", ".join(below[:_NAMED]) + (", …" if len(below) > _NAMED else "")
    hint = f"; should its folders ({named}) be classes or splits, move them up" if len(below) > 1 else ""
    raise DataError(f"data set {name!r}: {folder} has one class only, {only}/; {_EXPECTED}{hint}")


def _check_trained(folder: Path, places: list[_Place]) -> None:
    trained = {place.label for place in places if place.split == "train"}
    strange = sorted({place.folder for place in places if place.label not in trained})
    if trained and strange:
        named = ", ".join(strange[:_NAMED]) + (", …" if len(strange) > _NAMED else "")
        raise DataError(f"{folder}: {named}: a class of which there are no training images; {_EXPECTED}")
