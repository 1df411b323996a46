"""The cache of images: built once, used whole or not at all; broken images are counted, named and left out."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lejepa import image_cache
from lejepa.config import DataConfig
from lejepa.data import DataError, Dataset, load


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(seed: int, side: int = 20) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pets(root: Path, count: int = 40, broken: tuple[int, ...] = ()) -> None:
    for seed in range(count):
        path = root / "pets" / f"class{seed % 4}" / f"{seed:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed)[:300] if seed in broken else png(seed))


def data(root: Path, size: int = 20, **more: Any) -> Dataset:
    return load(DataConfig(name="pets", root=root, size=size, **more))


def pixels(found: Dataset) -> list[bytes]:
    splits = (found.train, found.val, found.test)
    return sorted(bytes(image) for split in splits for image in split.images.flatten(1).numpy())


def whole(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if not p.name.startswith(".") and p.name != "content"]


def scratch(folder: Path) -> list[Path]:
    return [p for p in folder.glob(".*") if p.is_dir()] if folder.is_dir() else []


# -- broken images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", ["once", "workers"])
def test_broken_images_are_left_out_and_named_up_to_a_share(tmp_path: Path, decode: str) -> None:
    pets(tmp_path, broken=(5, 10))
    found = data(tmp_path, decode=decode, unreadable=0.05)
    assert found.unreadable == ("class1/005.png", "class2/010.png")
    assert len(found.train) + len(found.val) + len(found.test) == 38
    for split in (found.train, found.val, found.test):
        for i, label in enumerate(split.labels.tolist()):
            image = split.take(torch.tensor([i]))[0].permute(1, 2, 0).numpy()
            seeds = [s for s in range(40) if s % 4 == label and s not in (5, 10)]
            assert any(np.array_equal(image, np.asarray(Image.open(io.BytesIO(png(s))))) for s in seeds)


@pytest.mark.parametrize("decode", ["once", "workers"])
def test_more_broken_images_than_the_share_are_an_error_that_counts_and_names_them(
    tmp_path: Path, cache: Path, decode: str
) -> None:
    pets(tmp_path, broken=tuple(range(12)))
    says = r"12 of 40 images .* more than data\.unreadable = 0\.05 .*class0/000\.png: .*; and 7 more"
    with pytest.raises(DataError, match=says):
        data(tmp_path, decode=decode, unreadable=0.05)
    assert whole(cache) == [] == scratch(cache)
    data(tmp_path, decode=decode, unreadable=0.5)
    with pytest.raises(DataError, match=says):  # also where a more patient training has filled the cache
        data(tmp_path, decode=decode, unreadable=0.05)


def test_the_fingerprint_tells_what_was_left_out(tmp_path: Path) -> None:
    pets(tmp_path)
    before = data(tmp_path).fingerprint
    pets(tmp_path, broken=(5,))
    assert data(tmp_path, unreadable=0.5).fingerprint != before
    assert data(tmp_path, unreadable=0.5).fingerprint == data(tmp_path, unreadable=0.6).fingerprint


def test_rows_of_parquet_without_an_image_are_named(tmp_path: Path) -> None:
    cells = [{"bytes": png(s)} for s in range(20)]
    cells[3], cells[7] = {"bytes": None}, {"bytes": b"text"}
    (tmp_path / "pets").mkdir()
    table = pa.table({"image": pa.array(cells, pa.struct([("bytes", pa.binary())])), "label": [0, 1] * 10})
    pq.write_table(table, tmp_path / "pets" / "train.parquet")
    assert data(tmp_path, unreadable=0.1).unreadable == ("train.parquet, row 3", "train.parquet, row 7")
    with pytest.raises(DataError, match=r"row 3: it is empty; train\.parquet, row 7: not an image"):
        data(tmp_path)


def test_a_data_set_of_nothing_but_broken_images_is_an_error_whatever_the_share(tmp_path: Path) -> None:
    pets(tmp_path, count=4, broken=(0, 1, 2, 3))
    with pytest.raises(DataError, match="4 of 4 images"):
        data(tmp_path, unreadable=1.0)


def test_a_file_that_the_disk_does_not_give_is_not_taken_for_a_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets(tmp_path)
    real = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == "007.png":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(DataError, match=r"007\.png: cannot be read \(Input/output error\)"):
        data(tmp_path, unreadable=0.5)


# -- built once, whole or not at all ----------------------------------------------------------------------------------


@pytest.mark.parametrize("locks", [True, False])
def test_trainings_that_start_at_once_decode_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, locks: bool
) -> None:
    pets(tmp_path)
    real, decoded, together = image_cache.decode, [], threading.Barrier(4)

    def counted(item: Any, side: int) -> np.ndarray:
        decoded.append(item)
        time.sleep(0.002)
        return real(item, side)

    def refused(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(image_cache, "decode", counted)
    if not locks:
        monkeypatch.setattr(image_cache.fcntl, "flock", refused)

    def training(_: int) -> list[bytes]:
        together.wait()
        return pixels(data(tmp_path))

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(training, range(4)))
    assert all(one == seen[0] for one in seen)
    assert len(whole(cache)) == 1
    assert scratch(cache) == []
    if locks:  # without them, each may decode for itself
        assert len(decoded) == 40


class Full:
    """A file on a disk that has room for so many bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, content: bytes) -> int:
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(content))

    def __enter__(self) -> "Full":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize(("decode", "name"), [("once", "images.u8"), ("workers", "encoded.bin")])
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, decode: str, name: str
) -> None:
    pets(tmp_path)
    real = Path.open

    def opened(path: Path, *how: Any, **more: Any) -> Any:
        file = real(path, *how, **more)
        return Full(file, 200) if path.name == name and how == ("wb",) else file

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        with pytest.raises(DataError, match=r"cannot write the image cache .*: No space left .* LEJEPA_CACHE"):
            data(tmp_path, decode=decode)
    assert whole(cache) == [] == scratch(cache)
    assert len(data(tmp_path, decode=decode).train) > 0


def test_too_little_space_is_said_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    class Usage(NamedTuple):
        free: int

    pets(tmp_path)
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: Usage(40 * 3 * 20 * 20 - 1))
    monkeypatch.setattr(image_cache, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(
        DataError, match=r"at 20 px its 40 images .* GB are free; .*data\.stored.*data\.decode to workers"
    ):
        data(tmp_path)
    assert whole(cache) == [] == scratch(cache)


SLOW_TRAINING = """
import sys, time
from pathlib import Path
from lejepa import image_cache
from lejepa.config import DataConfig
from lejepa.data import load
real = image_cache.decode
def slow(item, side):
    time.sleep(0.02)
    return real(item, side)
image_cache.decode = slow
load(DataConfig(name="pets", root=Path(sys.argv[1]), size=64))
"""


def wait_until(true: Callable[[], object], patience: float = 60.0) -> None:
    until = time.monotonic() + patience
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    assert true()


def test_a_build_that_was_killed_is_never_used_and_its_remains_go(tmp_path: Path, cache: Path) -> None:
    pets(tmp_path, count=400)
    building = subprocess.Popen([sys.executable, "-c", SLOW_TRAINING, str(tmp_path)])
    wait_until(lambda: any(p.stat().st_size for p in cache.glob(".*/built/images.u8")) or building.poll() is not None)
    building.send_signal(signal.SIGKILL)
    assert building.wait() == -signal.SIGKILL
    assert whole(cache) == []
    assert scratch(cache)
    assert len(pixels(data(tmp_path, size=64))) == 400
    assert len(whole(cache)) == 1
    assert scratch(cache) == []


def test_a_damaged_entry_is_refused(tmp_path: Path, cache: Path) -> None:
    pets(tmp_path)
    data(tmp_path)
    (entry,) = whole(cache)
    os.truncate(cache / entry / "images.u8", 1000)
    with pytest.raises(DataError, match=rf"damaged image cache .*{entry} \(images\.u8 has 1000 bytes and should have"):
        data(tmp_path)


# -- what a training sees of it ---------------------------------------------------------------------------------------


def test_sides_have_entries_of_their_own_and_stored_is_one(tmp_path: Path, cache: Path) -> None:
    pets(tmp_path)
    small, large, kept = data(tmp_path, 8), data(tmp_path, 16), data(tmp_path, 8, stored=16)
    assert len(whole(cache)) == 2
    assert len({found.fingerprint for found in (small, large, kept)}) == 3
    assert torch.equal(kept.train.images, large.train.images)


def test_what_a_training_writes_into_its_images_stays_there(tmp_path: Path) -> None:
    pets(tmp_path)
    mine = data(tmp_path)
    mine.test.images.fill_(0)
    assert not mine.test.take(torch.arange(3)).any()
    assert data(tmp_path).test.images.any()


def test_files_that_change_are_noticed_though_digests_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets(tmp_path)
    later = time.time() + 10
    monkeypatch.setattr("lejepa.image_sources.time.time", lambda: later)  # the files count as settled
    before = data(tmp_path).fingerprint
    monkeypatch.setattr("lejepa.image_sources._file_digest", lambda *_: pytest.fail("read again"))
    assert data(tmp_path).fingerprint == before
    monkeypatch.undo()
    path = tmp_path / "pets" / "class0" / "000.png"
    stat = path.stat()
    turned = bytearray(path.read_bytes())
    turned[-20] ^= 1
    path.write_bytes(turned)  # as long as before, and dated back
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lejepa.image_sources.time.time", lambda: later)
    assert load(DataConfig(name="pets", root=tmp_path, size=20, unreadable=0.5)).fingerprint != before


def test_statistics_need_a_few_thousand_images_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lejepa.data import Split

    asked: list[int] = []

    class Counting(Split):
        def take(self, index: torch.Tensor) -> torch.Tensor:
            asked.append(len(index))
            return super().take(index)

    images = torch.randint(0, 256, (9000, 3, 4, 4), dtype=torch.uint8)
    split = Counting(images, torch.zeros(9000, dtype=torch.long))
    mean, std = Dataset(split, split, split, ("a",), "", "").channel_statistics()
    assert sum(asked) == 2048
    expected = images.double() / 255
    assert (mean - expected.mean((0, 2, 3))).abs().max() < 0.01
    assert (std - expected.std((0, 2, 3))).abs().max() < 0.01


def test_the_index_is_plain_json_and_arrays(tmp_path: Path, cache: Path) -> None:
    pets(tmp_path)
    data(tmp_path)
    (entry,) = whole(cache)
    assert json.loads((cache / entry / "index.json").read_text())["classes"] == ["class0", "class1", "class2", "class3"]
    assert np.load(cache / entry / "labels.npy", allow_pickle=False).dtype == np.int64
