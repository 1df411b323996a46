"""Images on this machine's disk, shared by all its trainings: decoded pixels, or checked and encoded images.

An entry of the cache is a folder named after the source's content and the side. It is built beside its place by one
process, while others wait, and renamed when it is whole: what is half-written is never used. An entry may be deleted
when no training uses it.
"""

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lejepa.decoding import DataError, Unreadable, check, decode
from lejepa.image_sources import Listing, Row, Source, cache_folder

SPLITS = ("train", "val", "test")
_CHUNK = 64  # images that a thread takes at once
_SMALL = 16 << 10  # bytes of an encoded image


class Mapped:
    """Decoded images (N, 3, S, S) in a memory map. Goes to another process as its path."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.path, self.shape = path, shape
        self._open: np.ndarray | None = None

    def take(self, rows: Tensor) -> Tensor:
        """(n, 3, S, S) uint8, a copy."""
        if self._open is None:
            self._open = np.asarray(np.memmap(self.path, np.uint8, "r", shape=self.shape))
        return torch.from_numpy(self._open.take(rows.numpy(), axis=0))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


class Encoded:
    """Images (N, 3, S, S) that are decoded when they are taken. Goes to another process as its paths.

    `encoded.bin` holds the images one after the other or, where each has a file of its own, the files' paths under
    `folder`; `ends.npy` says where each ends.
    """

    def __init__(self, entry: Path, folder: Path | None, shape: tuple[int, int, int, int]) -> None:
        self.entry, self.folder, self.shape = entry, folder, shape
        self._open: tuple[np.ndarray, np.ndarray] | None = None

    def take(self, rows: Tensor) -> Tensor:
        """(n, 3, S, S) uint8. Raises DataError where an image that could be read when it was checked no longer can."""
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            item = self._item(row)
            try:
                image[:] = decode(item, self.shape[-1])
            except Unreadable as error:
                where = item if isinstance(item, Path) else f"{self.entry}, image {row}"
                raise DataError(f"{where}: has become unreadable ({error}); start again to have it left out") from error
        return torch.from_numpy(images)

    def _item(self, row: int) -> Path | bytes:
        if self._open is None:
            ends = np.load(self.entry / "ends.npy", mmap_mode="r", allow_pickle=False)
            self._open = np.memmap(self.entry / "encoded.bin", np.uint8, "r"), ends
        data, ends = self._open
        kept = data[ends[row - 1] if row else 0 : ends[row]].tobytes()
        return kept if self.folder is None else self.folder / os.fsdecode(kept)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}


@dataclass(frozen=True)
class Stored:
    content: str  # digest of the source
    images: Tensor | Mapped | Encoded
    labels: Tensor  # (N,) int64
    split: np.ndarray  # (N,) uint8, index into SPLITS
    classes: tuple[str, ...]
    unreadable: tuple[str, ...]  # images left out, by their names in the source


def stored(source: Source, side: int, encoded: bool, share: float) -> Stored:
    """Open the source's entry, building it first where it is not there.

    encoded: keep the images as they are, checked, and decode them when they are taken; else decode them once. What is
    not encoded in the first place is always decoded. Images that cannot be read are left out, up to `share` of all.
    Raises DataError: more than that, no space, no right to write, a damaged entry.
    """
    encoded = encoded and source.kind != "arrays"
    entry = cache_folder() / f"{source.content}-{'encoded' if encoded else side}"
    if not entry.is_dir():
        _build_once(entry, source, side, encoded, share)
    return _opened(entry, source, side, encoded, share)


def _opened(entry: Path, source: Source, side: int, encoded: bool, share: float) -> Stored:
    try:
        index = json.loads((entry / "index.json").read_text())
        labels, split = (np.load(entry / f"{name}.npy", allow_pickle=False) for name in ("labels", "split"))
        file = entry / ("encoded.bin" if encoded else "images.u8")
        if file.stat().st_size != index["bytes"] or len(labels) != len(split):
            raise ValueError(f"{file.name} has {file.stat().st_size} bytes and should have {index['bytes']}")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"damaged image cache {entry} ({error}); remove this folder") from error
    _check_share(source, index["unreadable"], len(labels) + len(index["unreadable"]), share)
    shape = (len(labels), 3, side, side)
    folder = source.folder if source.kind == "files" else None
    images: Mapped | Encoded = Encoded(entry, folder, shape) if encoded else Mapped(file, shape)
    left_out = tuple(where for where, _ in index["unreadable"])
    return Stored(source.content, images, torch.from_numpy(labels), split, tuple(index["classes"]), left_out)


def _check_share(source: Source, unreadable: Sequence[Sequence[str]], count: int, share: float) -> None:
    if len(unreadable) > share * count or (unreadable and len(unreadable) == count):
        first = "; ".join(f"{where}: {reason}" for where, reason in unreadable[:5])
        more = f"; and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
        raise DataError(
            f"data set {source.name!r}: {len(unreadable)} of {count} images in {source.folder} are unreadable, more "
            f"than data.unreadable = {share:g} allows; repair or remove them: {first}{more}"
        )


# -- building ---------------------------------------------------------------------------------------------------------


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Hold a lock that ends with this process, however it dies. Yields False where the file system has no locks."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            print(f"waiting for another process that prepares {lock.stem.lstrip('.')}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        except OSError:
            held = False
        try:
            yield held
        finally:
            if held:  # closing would not do where a forked child shares the open file
                fcntl.flock(file, fcntl.LOCK_UN)


def _build_once(entry: Path, source: Source, side: int, encoded: bool, share: float) -> None:
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with alone(entry.parent / f".{entry.name}.lock") as held:
            if entry.is_dir():  # another process has built it meanwhile
                return
            if held:
                for left in entry.parent.glob(f".{entry.name}-*"):  # of a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f".{entry.name}-", dir=entry.parent) as scratch:
                built = Path(scratch) / "built"
                built.mkdir()
                _build(built, source, side, encoded, share)
                if not entry.is_dir():  # without locks, another may have been quicker
                    built.rename(entry)
    except OSError as error:
        if entry.is_dir():
            return
        raise DataError(
            f"cannot write the image cache {entry}: {error.strerror or error}; "
            f"set LEJEPA_CACHE to a folder on a disk with space"
        ) from error


def _build(folder: Path, source: Source, side: int, encoded: bool, share: float) -> None:
    _name_what_is_passed_over(source)
    listing = source.open()
    _check_space(folder, source, listing, side, encoded)
    keep = _keep_encoded if encoded else lambda row: decode(row.item, side).tobytes()
    names, splits, ends, unreadable = [], [], [], []
    size = 0
    with (folder / ("encoded.bin" if encoded else "images.u8")).open("wb") as out:
        for row, kept in _kept(listing, keep, _threads(listing), f"preparing {source.name}"):
            if isinstance(kept, Unreadable):
                unreadable.append((row.where, str(kept)))
                continue
            size += out.write(kept)
            ends.append(size)
            names.append(row.label)
            splits.append(SPLITS.index(row.split))
        out.flush()
        os.fsync(out.fileno())
    _check_share(source, unreadable, len(names) + len(unreadable), share)
    classes = listing.classes or tuple(
        sorted(set(names), key=lambda n: (0, int(n), "") if n.isdecimal() else (1, 0, n))
    )
    number = {name: i for i, name in enumerate(classes)}
    np.save(folder / "labels.npy", np.array([number[name] for name in names], np.int64))
    np.save(folder / "split.npy", np.array(splits, np.uint8))
    if encoded:
        np.save(folder / "ends.npy", np.array(ends, np.int64))
    (folder / "index.json").write_text(json.dumps({"classes": classes, "unreadable": unreadable, "bytes": size}))
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _name_what_is_passed_over(source: Source) -> None:
    if source.passed_over:
        first, count = ", ".join(source.passed_over[:5]), len(source.passed_over)
        more = f", and {count - 5} more" if count > 5 else ""
        print(
            f"data set {source.name!r}: {count} passed over, by suffix or place: {first}{more}",
            file=sys.stderr,
            flush=True,
        )


def _keep_encoded(row: Row) -> bytes:
    check(row.item)
    assert not isinstance(row.item, np.ndarray)
    return row.item if isinstance(row.item, bytes) else os.fsencode(row.where)


def _kept(
    listing: Listing, keep: Callable[[Row], bytes], threads: int, what: str
) -> Iterator[tuple[Row, bytes | Unreadable]]:
    """Every row with what is kept of it, in order, by so many threads: Pillow decodes and resizes without the GIL."""

    def chunk(rows: list[Row]) -> list[tuple[Row, bytes | Unreadable]]:
        return [(row, _or_unreadable(keep, row)) for row in rows]

    waiting: deque[Future[list[tuple[Row, bytes | Unreadable]]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        with tqdm(total=listing.count, desc=what, unit="img", disable=None, delay=2, leave=False) as bar:
            for rows in _chunks(listing.rows):
                waiting.append(pool.submit(chunk, rows))
                if len(waiting) > 2 * threads:
                    yield from (done := waiting.popleft().result())
                    bar.update(len(done))
            while waiting:
                yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _threads(listing: Listing) -> int:
    """A thread per core; one for small images, whose decoding is mostly Python (CIFAR: 6.6 s of CPU, 9.3 s by two)."""
    if listing.bytes < listing.count * _SMALL:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _or_unreadable(keep: Callable[[Row], bytes], row: Row) -> bytes | Unreadable:
    try:
        return keep(row)
    except Unreadable as error:
        return error


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _check_space(folder: Path, source: Source, listing: Listing, side: int, encoded: bool) -> None:
    if encoded:
        need, what, instead = listing.bytes if source.kind == "packed" else 0, "copying", ""
    else:
        need, what, instead = listing.count * 3 * side * side, f"decoding at {side} px", ", or lower data.stored"
        instead += "" if source.kind == "arrays" else ", or set data.decode to workers"
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"data set {source.name!r}: {what} its {listing.count} images into {folder.parent.parent} needs "
            f"{need / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free; free some space, or set LEJEPA_CACHE to a folder "
            f"on another disk{instead}"
        )
