"""What lies under `data.root` → rows, one per image, before anything is decoded.

Here: Hugging Face image Parquet (one file, or many named after their split), and what all sources share. Class folders:
class_folders.py. Data sets in torchvision's own layout: torchvision_sources.py.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lejepa import atomic
from lejepa.decoding import DECODING, DataError, Item

SPLIT_WORDS = {"train": "train", "training": "train", "test": "test"}
SPLIT_WORDS |= dict.fromkeys(("val", "valid", "validation"), "val")


class Row(NamedTuple):
    item: Item
    label: str
    split: str  # train, val or test
    where: str  # names the image in messages; for a file, its path under the source's folder


@dataclass(frozen=True)
class Listing:
    rows: Iterator[Row]
    count: int
    bytes: int  # of all items, as they are
    classes: tuple[str, ...] | None = None  # in the order of their numbers; None: sorted


@dataclass(frozen=True)
class Source:
    name: str
    folder: Path
    content: str  # digest of the files, and of how they are decoded
    kind: Literal["files", "packed", "arrays"]  # images in files of their own, many to a file, or not encoded
    open: Callable[[], Listing]
    passed_over: tuple[str, ...] = ()  # what lies there and is not read: files by their paths, folders in words


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """$LEJEPA_CACHE, or `lejepa` under the user's cache folder."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("LEJEPA_CACHE") or f"{user}/lejepa").expanduser().absolute()


# -- files and Parquet ------------------------------------------------------------------------------------------------


def files_under(folder: Path) -> list[str]:
    """Paths below `folder`, sorted, with forward slashes. Links are followed, what begins with a dot is passed over.

    Raises DataError where links lead to a folder a second time, or back: images would count twice, or without end.
    """
    found = []
    seen = dict.fromkeys(map(str, folder.resolve().parents), str(folder))  # real path → where it was reached
    for place, folders, files in os.walk(folder, onerror=_cannot_list, followlinks=True):
        if (first := seen.setdefault(os.path.realpath(place), place)) != place:
            raise DataError(
                f"{first} and {place} have images in common by a link, and they would count twice; remove it"
            )
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(place).relative_to(folder).as_posix()
        found += [name if inside == "." else f"{inside}/{name}" for name in files if not name.startswith(".")]
    return sorted(found)


def _cannot_list(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error


def parquet_source(name: str, folder: Path, files: list[str]) -> Source:
    what, _ = content(folder, files)
    return Source(name, folder, what, "packed", lambda: _open_parquet(folder, files))


def _open_parquet(folder: Path, files: list[str]) -> Listing:

    plans, count, size = [], 0, 0
    for file in files:
        with _parquet(folder / file) as table:
            plans.append((file, _split_of(file, folder), *_columns(table.schema_arrow, folder / file)))
            count += table.metadata.num_rows
            size += sum(table.metadata.row_group(i).total_byte_size for i in range(table.metadata.num_row_groups))
    return Listing((row for plan in plans for row in _parquet_rows(folder, *plan)), count, size)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """An open Parquet file; DataError where it turns out that it is none, or is broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            yield table
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error


def _parquet_rows(folder: Path, file: str, split: str, image: str, label: str) -> Iterator[Row]:
    number = 0
    with _parquet(folder / file) as table:
        for batch in table.iter_batches(256, columns=[image, label]):
            for cell, name in zip(batch.column(image).to_pylist(), batch.column(label).to_pylist(), strict=True):
                if name is None:
                    raise DataError(f"{folder / file}, row {number}: no label")
                yield Row((cell and cell.get("bytes")) or b"", str(name), split, f"{file}, row {number}")
                number += 1


def _columns(schema: Any, path: Path) -> tuple[str, str]:
    import pyarrow as pa

    def names_labels(kind: Any) -> bool:
        return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)

    images = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    labels = [f.name for f in schema if names_labels(f.type)]
    label = "label" if "label" in labels else labels[0] if len(labels) == 1 else None
    if len(images) != 1 or label is None:
        raise DataError(
            f"{path}: columns {schema.names}; expected one image column {{bytes, path}} and a column named label"
        )
    return images[0], label


def _split_of(file: str, folder: Path) -> str:
    words = file.lower().replace("/", "-").replace("_", "-").replace(".", "-").split("-")
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if len(found) > 1:
        raise DataError(f"{folder / file}: the name tells more than one split ({', '.join(sorted(found))})")
    return found.pop() if found else "train"


# -- what identifies the files ----------------------------------------------------------------------------------------


def content(folder: Path, files: list[str]) -> tuple[str, int]:
    """Digest of the files, the same on every machine, and their bytes in all.

    Of each file: its name, its size, and a hash of its first and last 64 KiB. A million files take minutes to read, so
    the digest is remembered under what the file system says of them (size, times of change), which takes seconds.
    """
    try:
        stats = [(folder / file).stat() for file in files]
    except OSError as error:  # a link to nowhere
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
    size = sum(stat.st_size for stat in stats)
    seen = [[file, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for file, s in zip(files, stats, strict=True)]
    note = cache_folder() / "content" / digest([DECODING, str(folder.resolve()), seen])
    # A file that has just been written may be so again within one tick of the file system's clock.
    settled = max((max(s.st_mtime, s.st_ctime) for s in stats), default=0.0) < time.time() - 2
    if settled and note.is_file() and (known := note.read_text()):
        return known, size
    with ThreadPoolExecutor(8) as pool:
        what = digest([DECODING, list(pool.map(lambda file: _file_digest(folder / file, file), files))])
    if settled:
        _remember(note, what)
    return what, size


def _file_digest(path: Path, name: str) -> list[Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(1 << 16)
        file.seek(max(0, size - (1 << 16)))
        ends += file.read()
    return [name, size, hashlib.sha256(ends).hexdigest()]


def _remember(note: Path, what: str) -> None:
    with suppress(OSError):  # a note is a matter of speed
        atomic.write(note, what.encode())
