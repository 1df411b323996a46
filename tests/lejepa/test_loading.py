"""Batches: the same from one process or several, decoded before or as they are read; nothing else is touched."""

import io
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

from lejepa.config import DataConfig
from lejepa.data import DataError, Split, load
from lejepa.loading import batches


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))


def photograph(seed: int) -> bytes:
    """JPEG of 140×100, smooth and in colour."""
    few = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(few).resize((140, 100), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def folders(root: Path, count: int = 40) -> None:
    for seed in range(count):
        target = root / "photos" / f"class{seed % 4}" / f"ü{seed:03}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(photograph(seed))


def parquet(root: Path, count: int = 40) -> None:
    (root / "photos").mkdir(parents=True)
    rows = {"image": [{"bytes": photograph(s)} for s in range(count)], "label": [s % 4 for s in range(count)]}
    pq.write_table(pa.table(rows), root / "photos" / "train.parquet", row_group_size=8)


def train_split(root: Path, decode: str, **more: int) -> Split:
    return load(DataConfig(name="photos", root=root, size=16, decode=decode, **more)).train  # type: ignore[arg-type]


def order(split: Split, size: int = 5) -> list[Tensor]:
    return list(torch.randperm(len(split), generator=torch.Generator().manual_seed(3)).split(size))


@pytest.mark.parametrize("layout", [folders, parquet])
@pytest.mark.parametrize("stored", [16, 24, 120])
def test_decoding_at_each_use_gives_the_pixels_of_the_memory_map(tmp_path: Path, layout, stored: int) -> None:  # type: ignore[no-untyped-def]
    layout(tmp_path)
    once, anew = (train_split(tmp_path, decode, stored=stored) for decode in ("once", "workers"))
    assert once.images.shape[1:] == (3, stored, stored)
    for a, b in zip(batches(once, order(once), 0), batches(anew, order(once), 0), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(once.labels, anew.labels)


@pytest.mark.parametrize("decode", ["once", "workers"])
def test_workers_change_neither_the_batches_nor_the_random_numbers_of_the_training(tmp_path: Path, decode: str) -> None:
    folders(tmp_path)
    split = train_split(tmp_path, decode)
    before = torch.get_rng_state()
    ahead = list(batches(split, order(split), workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    for index, (images, labels, index_given), (here, *_) in zip(
        order(split), ahead, batches(split, order(split), 0), strict=True
    ):
        assert torch.equal(index, index_given)
        assert torch.equal(labels, split.labels[index])
        assert torch.equal(images, here)
    assert not multiprocessing.active_children()


def test_workers_end_when_the_iterator_is_closed_early(tmp_path: Path) -> None:
    folders(tmp_path)
    split = train_split(tmp_path, "workers")
    reading = batches(split, order(split, 2), workers=2)
    next(reading)
    assert len(multiprocessing.active_children()) == 2
    reading.close()
    assert not multiprocessing.active_children()


TRAINING = """
import multiprocessing, sys, time
from pathlib import Path
import torch
from lejepa.config import DataConfig
from lejepa.data import load
from lejepa.loading import batches
split = load(DataConfig(name="photos", root=Path(sys.argv[1]), size=16)).train
reading = batches(split, [torch.arange(4)] * 100, workers=2)
next(reading)
print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_workers_do_not_run_the_script_again_and_end_with_it_when_it_is_killed(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "training.py").write_text(TRAINING)
    command = [sys.executable, str(tmp_path / "training.py"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        assert training.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in training.stdout.readline().split()]
        training.kill()
    assert len(workers) == 2
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def test_batches_of_tensors_and_of_nothing(tmp_path: Path) -> None:
    images, labels = torch.arange(48).byte().view(4, 3, 2, 2), torch.arange(4)
    ((given, seen, index),) = batches(Split(images, labels), [torch.tensor([2, 0])], workers=1)
    assert torch.equal(given, images[[2, 0]])
    assert seen.tolist() == index.tolist() == [2, 0]
    assert list(batches(Split(images, labels), [], workers=1)) == []


def test_the_two_ways_of_decoding_have_one_fingerprint_and_one_set_of_statistics(tmp_path: Path) -> None:
    folders(tmp_path)
    once, anew = (load(DataConfig(name="photos", root=tmp_path, size=16, decode=d)) for d in ("once", "workers"))
    assert once.fingerprint == anew.fingerprint
    assert (once.classes, once.protocol) == (anew.classes, anew.protocol)
    for a, b in zip(once.channel_statistics(), anew.channel_statistics(), strict=True):
        assert torch.equal(a, b)


def test_encoded_images_are_not_given_as_one_tensor(tmp_path: Path) -> None:
    folders(tmp_path)
    with pytest.raises(DataError, match="in batches"):
        _ = train_split(tmp_path, "workers").images


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_or_goes_while_training_is_named(tmp_path: Path, workers: int) -> None:
    folders(tmp_path)
    split = train_split(tmp_path, "workers")
    for path in (tmp_path / "photos").rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"^[^\n]*\.jpg: has become unreadable[^\n]*$"):
        list(batches(split, order(split), workers))
    assert not multiprocessing.active_children()
    for path in (tmp_path / "photos").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"^[^\n]*\.jpg: cannot be read \(No such file or directory\)$"):
        list(batches(split, order(split), workers))


def test_parquet_may_go_once_its_images_are_in_the_cache(tmp_path: Path) -> None:
    parquet(tmp_path)
    split = train_split(tmp_path, "workers")
    expected = list(batches(split, order(split), 0))
    (tmp_path / "photos" / "train.parquet").unlink()
    for a, b in zip(expected, batches(split, order(split), 0), strict=True):
        assert torch.equal(a[0], b[0])
