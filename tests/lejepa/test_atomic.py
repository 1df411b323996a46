"""A file is there whole or not at all, and what a killed writer left is removed by the next."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lejepa import atomic


def test_parts_follow_each_other_and_the_file_that_was_there_gets_another_name(tmp_path: Path) -> None:
    path, previous = tmp_path / "new" / "a", tmp_path / "new" / "b"
    atomic.write(path, b"first", previous=previous)
    assert not previous.exists()
    atomic.write(path, b"sec", memoryview(b"ond"), previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"second", b"first")
    assert sorted(path.parent.iterdir()) == [path, previous]


def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    atomic.write(path, b"first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write(path, b"second", previous=tmp_path / "b")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a", b"first")]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = "import os, signal, sys; from pathlib import Path; from lejepa import atomic\n"
    killed += "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
    killed += "atomic.write(Path(sys.argv[1]), b'half')"
    path = tmp_path / "a"
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == -9
    assert [left.name.startswith(".a.") for left in tmp_path.iterdir()] == [True]
    atomic.write(path, b"whole")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a", b"whole")]


def test_what_belongs_to_others_stays(tmp_path: Path) -> None:
    alive = tmp_path / f".a.{os.getppid()}"
    others = [alive, tmp_path / ".a.b", tmp_path / ".ab.999999999", tmp_path / "a.999999999"]
    for other in others:
        other.write_bytes(b"theirs")
    atomic.write(tmp_path / "a", b"mine")
    assert {found.name for found in tmp_path.iterdir()} == {"a", *(other.name for other in others)}
