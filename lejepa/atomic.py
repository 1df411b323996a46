"""Files that are there whole or not at all, whatever dies meanwhile: written beside their place, then renamed."""

import os
from pathlib import Path

import psutil


def write(path: Path, *parts: bytes | memoryview, previous: Path | None = None) -> None:
    """Put `parts`, one after the other, into `path`, durably; OSError (a full disk) leaves the file that was there.

    The folder is made where it is missing. previous: the name that the file which was there gets. One process at a time
    writes to a path; what earlier ones left beside it as they were killed is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    temporary = _beside(path, os.getpid())
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def _beside(path: Path, pid: int | str) -> Path:
    return path.with_name(f".{path.name}.{pid}")


def _remove_left(path: Path) -> None:
    """Remove what processes that are gone had not renamed yet."""
    prefix = _beside(path, "").name
    for left in path.parent.iterdir():
        pid = left.name.removeprefix(prefix)
        if left.name.startswith(prefix) and pid.isdecimal() and not _alive(int(pid)):
            left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    return pid < 2**31 and psutil.pid_exists(pid)


def _sync(folder: Path) -> None:
    """Make the renames themselves durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
