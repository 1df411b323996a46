"""Data: splits are disjoint, stratified and fixed; sources agree; what cannot be read is named."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lejepa.config import DataConfig
from lejepa.data import DataError, fingerprint, load
from lejepa.splits import apportion, rows_of

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))


def entries() -> list[Path]:
    """Everything in the cache but locks and notes, half-written things included."""
    folder = Path(os.environ["LEJEPA_CACHE"])
    return sorted(p for p in folder.iterdir() if p.suffix != ".lock" and p.name != "content")


def picture(seed: int, side: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def png(seed: int) -> bytes:
    out = io.BytesIO()
    picture(seed).save(out, "PNG")
    return out.getvalue()


def write_parquet(path: Path, seeds: range, column: str = "label") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"image": [{"bytes": png(s), "path": None} for s in seeds], column: [s % 3 for s in seeds]}
    pq.write_table(pa.table(rows), path)


def write_folder(folder: Path, seeds: range) -> None:
    for s in seeds:
        target = folder / f"class{s % 3}" / f"{s:03}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png(s))


def test_digits_split_by_class_without_overlap() -> None:
    data = load(DataConfig(name="digits", size=16, val_fraction=0.25))
    assert [len(s) for s in (data.train, data.val, data.test)] == [1079, 359, 359]
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.shape[1:] == (1, 16, 16)
    for split in (data.train, data.val, data.test):
        share = torch.bincount(split.labels, minlength=10) / len(split)
        assert (share - 0.1).abs().max() < 0.01
    rows = [set(map(bytes, split.images.flatten(1).numpy())) for split in (data.train, data.val, data.test)]
    assert len(rows[0] | rows[1] | rows[2]) == sum(map(len, rows))  # the digits have no duplicates, so nor do splits


def test_the_draw_of_the_splits_is_fixed_and_limit_keeps_val_and_test() -> None:
    whole, again = load(DataConfig(size=8)), load(DataConfig(size=8))
    few = load(DataConfig(size=8, limit=100))
    assert torch.equal(whole.train.images, again.train.images)
    assert len(few.train) == 100
    assert torch.equal(few.val.images, whole.val.images)
    assert torch.equal(few.test.images, whole.test.images)


@pytest.mark.parametrize("limit", [10, 25, 36, 333, 1294])
def test_limit_is_the_number_of_training_images_and_every_class_has_its_share(limit: int) -> None:
    whole, few = load(DataConfig(size=8)).train, load(DataConfig(size=8, limit=limit)).train
    assert len(few) == limit
    shares = torch.bincount(whole.labels) * limit / len(whole)
    assert (torch.bincount(few.labels) - shares).abs().max() < 1


def test_a_limit_below_the_number_of_classes_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.limit = 9 is less than its 10 classes, .*raise it to 10 or more"):
        load(DataConfig(size=8, limit=9))


@pytest.mark.parametrize(
    ("total", "sizes", "expected"),
    [
        (10, [47, 16, 16, 12, 6, 3], [4, 2, 1, 1, 1, 1]),  # 0.6 and 0.3 become 1, of 8 are then 4.1, 1.4, 1.4, 1.1
        (6, [1000, 1, 1, 1], [3, 1, 1, 1]),
        (7, [5, 5, 5, 5], [2, 2, 2, 1]),
        (4, [10, 20, 30, 40], [1, 1, 1, 1]),
        (99, [1, 99], [1, 98]),
    ],
)
def test_rounded_shares_add_up_and_leave_no_class_out(total: int, sizes: list[int], expected: list[int]) -> None:
    assert apportion(total, np.array(sizes)).tolist() == expected


def test_where_the_shares_are_whole_the_images_are_those_that_earlier_results_were_trained_on() -> None:
    labels, given = np.tile(np.arange(5), 25), np.repeat([2, 0], [25, 100])  # 5 of each class are the given test split
    whole, _ = rows_of(labels, given, DataConfig(size=8, val_fraction=0.2))
    few, how = rows_of(labels, given, DataConfig(size=8, val_fraction=0.2, limit=40))
    rng = np.random.default_rng(0)
    expected = [rng.permutation(whole["train"][whole["train"] % 5 == label])[:8] for label in range(5)]
    assert few["train"].tolist() == sorted(np.concatenate(expected).tolist())
    assert np.array_equal(few["val"], whole["val"])
    assert "train" not in how  # the fingerprint is the earlier one, too


def test_the_fingerprint_follows_what_a_training_sees(tmp_path: Path) -> None:
    base = fingerprint(DataConfig(size=8))
    assert base == fingerprint(DataConfig(size=8))
    others = [DataConfig(size=16), DataConfig(size=8, val_fraction=0.2), DataConfig(size=8, limit=50)]
    assert len({base, *map(fingerprint, others)}) == 4
    write_folder(tmp_path / "pets", range(30))
    config = DataConfig(name="pets", root=tmp_path, size=8)
    before = fingerprint(config)
    (tmp_path / "pets/class0/000.png").write_bytes(png(99))
    assert fingerprint(config) != before


def test_parquet_and_class_folders_with_the_same_images_agree(tmp_path: Path) -> None:
    write_parquet(tmp_path / "table" / "train-00000.parquet", range(30))
    write_parquet(tmp_path / "table" / "test-00000.parquet", range(30, 42))
    write_folder(tmp_path / "folder" / "train", range(30))
    write_folder(tmp_path / "folder" / "test", range(30, 42))
    table, folder = (load(DataConfig(name=n, root=tmp_path, size=20, val_fraction=0.2)) for n in ("table", "folder"))
    assert table.classes == ("0", "1", "2")
    assert folder.classes == ("class0", "class1", "class2")
    for a, b in ((table.test, folder.test), (table.train, folder.train), (table.val, folder.val)):
        assert sorted(map(bytes, a.images.flatten(1).numpy())) == sorted(map(bytes, b.images.flatten(1).numpy()))
    expected = np.asarray(picture(30)).transpose(2, 0, 1)
    assert any(np.array_equal(image.numpy(), expected) for image in table.test.images)


def test_a_single_parquet_file_may_be_the_data_set(tmp_path: Path) -> None:
    write_parquet(tmp_path / "mine.parquet", range(30))
    data = load(DataConfig(name="mine.parquet", root=tmp_path, size=20, val_fraction=0.25))
    assert [len(s) for s in (data.train, data.val, data.test)] == [18, 6, 6]


def test_hidden_files_are_passed_over_and_links_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", range(30))
    (tmp_path / "pets").mkdir()
    for number in range(3):
        (tmp_path / "pets" / f"class{number}").symlink_to(tmp_path / "elsewhere" / f"class{number}")
    (tmp_path / "elsewhere" / "class0" / "._000.png").write_bytes(b"what macOS leaves")
    (tmp_path / "pets" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "pets" / ".ipynb_checkpoints" / "000.png").write_bytes(png(0))
    data = load(DataConfig(name="pets", root=tmp_path, size=20))
    assert data.classes == ("class0", "class1", "class2")
    assert len(data.train) + len(data.val) + len(data.test) == 30


def test_a_data_set_beside_one_without_a_root_is_looked_for_where_data_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "pets", range(30))
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path))
    assert len(load(DataConfig(size=8).model_copy(update={"name": "pets"})).train) > 0


def test_with_val_but_no_test_val_is_the_test(tmp_path: Path) -> None:
    write_folder(tmp_path / "net" / "train", range(30))
    write_folder(tmp_path / "net" / "val", range(30, 36))
    data = load(DataConfig(name="net", root=tmp_path, size=8, val_fraction=0.2))
    assert data.protocol.endswith("val: 0.2 of train, drawn by class; test: the source's val")
    assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 6)


def test_large_images_are_resized_and_cropped_to_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    for i in range(20):
        (tmp_path / "w" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide).save(tmp_path / "w" / "ab"[i % 2] / f"{i}.png")
    images = load(DataConfig(name="w", root=tmp_path, size=10)).train.images
    assert images.shape[1:] == (3, 10, 10)
    assert images[:, :, :, 1:-1].min() > 200


def test_decoding_happens_once_and_nothing_half_written_is_used(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", range(30))
    config = DataConfig(name="pets", root=tmp_path, size=8)
    first = load(config)
    (entry,) = entries()
    stamp = (entry / "images.u8").stat().st_mtime_ns
    assert torch.equal(load(config).train.images, first.train.images)
    assert (entry / "images.u8").stat().st_mtime_ns == stamp
    bad = tmp_path / "pets/class1/031.png"
    bad.write_bytes(png(31)[:100])
    with pytest.raises(DataError, match=r"1 of 31 images .* unreadable.*class1/031\.png: image file is truncated"):
        load(config)
    assert entries() == [entry]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "pets", range(30))
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot write the image cache .*: Not a directory; set LEJEPA_CACHE"):
        load(DataConfig(name="pets", root=tmp_path, size=8))


def test_a_full_disk_while_caching_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "pets", range(30))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lejepa.image_cache.os.fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        load(DataConfig(name="pets", root=tmp_path, size=8))
    assert entries() == []


def test_a_missing_data_set_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(DataError, match="did you mean 'cifar10'"):
        load(DataConfig(name="cifar1", root=tmp_path))
    with pytest.raises(DataError, match="no such root"):
        load(DataConfig(name="cifar10", root=tmp_path / "nowhere"))
    with pytest.raises(DataError, match="neither Parquet files nor images"):
        load(DataConfig(name="cifar10", root=tmp_path))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"not parquet at all", "not a readable Parquet file"), (None, "expected one image column")],
)
def test_a_parquet_file_of_another_kind_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "t" / "train.parquet"
    path.parent.mkdir()
    if content is None:
        pq.write_table(pa.table({"text": ["a"], "more": ["b"]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"train.parquet.*{says}"):
        load(DataConfig(name="t", root=tmp_path))


def test_a_parquet_file_that_is_broken_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t" / "train.parquet"
    write_parquet(path, range(30))
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet: not a readable Parquet file"):
        load(DataConfig(name="t", root=tmp_path))


def test_a_parquet_file_without_rows_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t" / "train.parquet", range(3))
    full = pq.read_table(tmp_path / "t" / "train.parquet")
    pq.write_table(full.slice(0, 0), tmp_path / "t" / "train.parquet")
    with pytest.raises(DataError, match="data set 't': the train split is empty; it has 0 images"):
        load(DataConfig(name="t", root=tmp_path))


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", range(6))
    (tmp_path / "pets" / "class0" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"lost\.png: cannot be read \(No such file"):
        load(DataConfig(name="pets", root=tmp_path))


def test_an_image_outside_a_class_folder_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", range(6))
    (tmp_path / "pets" / "stray.png").write_bytes(png(1))
    with pytest.raises(DataError, match=r"stray\.png: an image outside a class folder"):
        load(DataConfig(name="pets", root=tmp_path))


def test_a_link_that_leads_back_or_to_the_same_folder_again_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", range(20))
    for link, target in (
        ("pets/class0/up", ".."),
        ("pets/class0/twin", "../class1"),
        ("pets/zeta", "class2"),
        ("pets/class0/far", tmp_path.parent),
    ):
        (tmp_path / link).symlink_to(target)
        with pytest.raises(DataError, match=rf"{link}.* have images in common by a link, .*count twice"):
            load(DataConfig(name="pets", root=tmp_path, size=8))
        (tmp_path / link).unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.png").write_bytes(png(50))
    (tmp_path / "pets" / "class0" / "more").symlink_to(tmp_path / "elsewhere")
    data = load(DataConfig(name="pets", root=tmp_path, size=8))
    assert len(data.train) + len(data.val) + len(data.test) == 21


def test_images_of_one_class_are_refused_with_what_lies_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets" / "train" / "images", range(30))
    write_folder(tmp_path / "pets" / "test" / "images", range(30, 40))
    says = r"one class only, train/images/; expected are .*<split>/<class>/.*\(class0, class1, class2\).*move them up"
    with pytest.raises(DataError, match=says):
        load(DataConfig(name="pets", root=tmp_path, size=8))
    write_parquet(tmp_path / "table.parquet", range(0, 60, 3))
    with pytest.raises(DataError, match=r"all 14 training images have one label, '0'; expected are two classes"):
        load(DataConfig(name="table.parquet", root=tmp_path, size=8))


def test_files_that_are_no_images_by_their_suffix_are_named_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "pets", range(30))
    for name in ("README.md", "class0/a.heic", "class1/b.txt"):
        (tmp_path / "pets" / name).write_bytes(b"not read")
    for _ in range(2):
        assert load(DataConfig(name="pets", root=tmp_path, size=8)).passed_over == (
            "README.md", "class0/a.heic", "class1/b.txt",
        )  # fmt: skip
    said = capsys.readouterr().err
    assert said == "data set 'pets': 3 passed over, by suffix or place: README.md, class0/a.heic, class1/b.txt\n"


@pytest.mark.parametrize("split", ["", "train/", "test/"])
def test_a_class_that_would_vanish_because_of_its_suffix_is_named(tmp_path: Path, split: str) -> None:
    write_folder(tmp_path / "pets" / "train" if split else tmp_path / "pets", range(30))
    lost = tmp_path / "pets" / f"{split}lost"
    (lost / "deeper").mkdir(parents=True)
    for name in ("1.heic", "2.HEIC", "deeper/3"):
        (lost / name).touch()
    says = rf"{split}lost: the class would be left out, as no file of 3 .*\.HEIC, \.heic, none; images are \.png, "
    with pytest.raises(DataError, match=says):
        load(DataConfig(name="pets", root=tmp_path, size=8))


def test_beside_train_only_splits_are_read_and_the_rest_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "net" / "train", range(30))
    write_folder(tmp_path / "net" / "val", range(30, 36))
    before = load(DataConfig(name="net", root=tmp_path, size=8))
    (tmp_path / "net" / "annotations" / "boxes").mkdir(parents=True)
    (tmp_path / "net" / "annotations" / "boxes" / "1.xml").touch()
    (tmp_path / "net" / "annotations" / "mask.png").write_bytes(png(1))
    data = load(DataConfig(name="net", root=tmp_path, size=16))
    assert data.classes == before.classes == ("class0", "class1", "class2")
    assert len(data.train) == len(before.train)
    assert capsys.readouterr().err.endswith(
        "1 passed over, by suffix or place: annotations/ beside train/ (files: 2)\n"
    )


def test_without_a_train_folder_classes_may_lie_beside_the_test_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets", range(30))
    write_folder(tmp_path / "pets" / "test", range(30, 36))
    data = load(DataConfig(name="pets", root=tmp_path, size=8))
    assert (data.classes, len(data.test)) == (("class0", "class1", "class2"), 6)


def test_gif_is_read_from_folders_as_from_parquet(tmp_path: Path) -> None:
    def gif(seed: int) -> bytes:
        out = io.BytesIO()
        Image.new("L", (8, 8), seed).save(out, "GIF")
        return out.getvalue()

    for seed in range(20):
        target = tmp_path / "folder" / f"{seed % 2}" / f"{seed:02}.gif"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gif(seed))
    rows = {"image": [{"bytes": gif(s)} for s in range(20)], "label": [s % 2 for s in range(20)]}
    pq.write_table(pa.table(rows), tmp_path / "table.parquet")
    for name in ("folder", "table.parquet"):
        data = load(DataConfig(name=name, root=tmp_path, size=8))
        values = [int(image.max()) for split in (data.train, data.val, data.test) for image in split.images]
        assert sorted(values) == list(range(20))


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "pets", range(30))
    real = os.scandir

    def refused(place: str) -> object:  # what root, who may read everything, does not see
        if Path(place).name == "class0":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        return real(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"class0: cannot be read \(Permission denied\)"):
        load(DataConfig(name="pets", root=tmp_path, size=8))


def test_a_class_without_training_images_is_named(tmp_path: Path) -> None:
    """As Tiny ImageNet comes: `val/images/` is of all classes, told apart by a text file."""
    write_folder(tmp_path / "tiny" / "train", range(30))
    (tmp_path / "tiny" / "val" / "images").mkdir(parents=True)
    (tmp_path / "tiny" / "val" / "images" / "1.png").write_bytes(png(1))
    with pytest.raises(DataError, match=r"tiny: val/images: a class of which there are no training images"):
        load(DataConfig(name="tiny", root=tmp_path, size=8))


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="CIFAR-10 as Parquet is not beside the checkout")
def test_cifar10_parquet_is_read_whole() -> None:
    data = load(DataConfig(name="cifar10", root=SHARED, size=32))
    assert [len(s) for s in (data.train, data.val, data.test)] == [45_000, 5_000, 10_000]
    mean, std = data.channel_statistics()
    assert mean.tolist() == pytest.approx([0.491, 0.482, 0.447], abs=0.01)
    assert std.tolist() == pytest.approx([0.247, 0.243, 0.262], abs=0.01)
