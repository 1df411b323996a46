"""Who may write: one driver to a sweep's folder, one worker to a trial's checkpoints (the lock is on its log).

The kernel's lock on an open file (flock) decides. It ends with the process that holds it, however that dies, so a lock
is never stale; children do not inherit it: neither through exec (Python's descriptors close) nor through fork (below).
The file's content only says who holds the folder: for messages, for `harness stop`, for `harness status`. A holder is
known by pid, boot and time of birth, as pids are used again.

Processes that a dead driver leaves behind (Ray's workers write on for seconds) are found by a variable in their
environment.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

LOCK = "lock"  # the file in a sweep's folder
_MARK = "HARNESS_SWEEP"  # in the environment of all that a driver starts: the sweep's folder

_held: set[int] = set()  # descriptors of the locks of this process


def _let_go_in_child() -> None:
    """A forked child shares the parent's open files, and would keep the lock when the parent is dead."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class Locked(Exception):
    """Somebody else writes; the message says who, and what to do."""


@dataclass(frozen=True)
class Holder:
    """A driver, as it wrote itself into its lock."""

    pid: int
    boot: str  # of the machine, as long as it stays up
    born: float  # start of the process: ticks since boot on Linux, else unix seconds
    host: str
    since: float  # unix seconds

    @property
    def lives(self) -> bool:
        """Whether this very process runs on this machine, in sight of this process."""
        return self.boot == _boot() and self.born == _born(self.pid)

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Be the one driver of a sweep's folder, which may be renamed meanwhile. Raises Locked."""
    path = folder / LOCK
    with _locked(path, patience=0.5) as descriptor:  # for one that has struck out its name and is about to let go
        before = _read(path)
        if descriptor is None or (before is not None and before.lives):
            who = f"is driven by {before}" if before else "is locked by another process"
            raise Locked(f"{folder} {who}: `harness status {folder}` shows it, `harness stop {folder}` ends it")
        me = Holder(os.getpid(), _boot(), _born(os.getpid()) or 0.0, socket.gethostname(), time.time())
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(me)).encode(), 0)
        try:
            yield
        finally:
            os.truncate(descriptor, 0)


def holder(folder: Path) -> Holder | None:
    """The driver that runs a sweep now, as far as can be seen from this machine. Takes no lock."""
    found = _read(folder / LOCK)
    return found if found is not None and found.lives else None


@contextmanager
def training(log: Path, patience: float = 60.0) -> Iterator[None]:
    """Be the one worker of the trial that has this log; waits so many seconds for an earlier one. Raises Locked.

    Where the file system has no locks, this does nothing: the driver's own lock and `outlast_orphans` remain.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with _locked(log, patience, or_without=True) as descriptor:
        if descriptor is None:
            raise Locked(f"{log}: after {patience:g} s another process still trains this trial")
        yield


@contextmanager
def marked(folder: Path) -> Iterator[None]:
    """What is started meanwhile carries the sweep's folder in its environment."""
    before = os.environ.get(_MARK)
    os.environ[_MARK] = str(folder.resolve())
    try:
        yield
    finally:
        os.environ.pop(_MARK)
        if before is not None:
            os.environ[_MARK] = before


def orphans(folder: Path) -> list[int]:
    """Pids of what earlier drivers of a sweep have started and what still runs. Only for who holds the lock."""
    mark, own = str(folder.resolve()), {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process.pid for process in psutil.process_iter() if process.pid not in own and _mark_of(process) == mark]


def outlast_orphans(folder: Path, patience: float = 20.0) -> None:
    """Wait until nothing of an earlier driver runs any more: Ray's processes end some seconds after it.

    A driver that dies while it starts Ray may leave some that do not; what is left when patience ends is killed. Only
    for who holds the lock, as it shows that the driver is dead. Locked where even that does not end them.
    """
    if not _gone(folder, patience):
        for pid in orphans(folder):
            with suppress(psutil.Error):
                psutil.Process(pid).kill()
        if not _gone(folder, 10.0):
            pids = " ".join(map(str, orphans(folder)))
            raise Locked(f"{folder}: processes of a driver that died cannot be ended, and may write (pids {pids})")


def _gone(folder: Path, patience: float) -> bool:
    until = time.monotonic() + patience
    while (left := orphans(folder)) and time.monotonic() < until:
        time.sleep(0.2)
    return not left


@contextmanager
def _locked(path: Path, patience: float, or_without: bool = False) -> Iterator[int | None]:
    """The descriptor of the locked file; None where another process holds it for longer than so many seconds."""
    until = time.monotonic() + patience
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _held.add(descriptor)
    try:
        while not (got := _flock(descriptor, or_without)) and time.monotonic() < until:
            time.sleep(0.05)
        yield descriptor if got else None
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _flock(descriptor: int, or_without: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if not or_without or error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
            raise
    return True


def _read(path: Path) -> Holder | None:
    """None where nobody has written himself down: the last driver ended in order, or died while it wrote."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(_MARK) if process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OSError):
        return None  # gone, or somebody else's


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return str(round(psutil.boot_time()))


def _born(pid: int) -> float | None:
    """None where no such process runs; one that is dead and not yet waited for does not."""
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return None
        if Path("/proc/self/stat").exists():  # exact, and no change of the clock moves it
            return float(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        return psutil.Process(pid).create_time()
    except (psutil.NoSuchProcess, OSError):
        return None
