"""What chaos.py does to a sweep that runs: one small function or class for each fault."""

import json
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from harness.ledger import Ledger
from harness.lock import orphans

FORK = get_context("fork")  # a driver that is forked has its imports done, which takes longer than a small sweep


# -- processes ---------------------------------------------------------------------------------------------------------


def kill_worker(home: Path, folder: Path, rng: random.Random) -> bool:
    """SIGKILL one of Ray's workers that train for the sweep; False where there is none."""
    started = [*_of(folder), *(below for node in _cluster(home) for below in _below(node))]
    workers = [process for process in started if ".train" in _title(process) or ".step" in _title(process)]
    return bool(workers) and _kill(rng.choice(workers))


def kill_raylet(folder: Path) -> bool:
    """SIGKILL the raylet of the driver's own Ray."""
    raylets = [process for process in _of(folder) if _title(process).split(" ")[0].endswith("/raylet")]
    return bool(raylets) and _kill(raylets[0])


def note_cluster(home: Path, nodes: list[Any]) -> None:
    """Remember the processes of a cluster's nodes, for who comes after its driver."""
    pids = [[each.process.pid for kind in node.all_processes.values() for each in kind] for node in nodes]
    (home / "cluster").write_text(json.dumps(pids))


def kill_second_node(home: Path) -> bool:
    """SIGKILL the raylet of the second node and all else of it."""
    return any([_kill(below) for process in _cluster(home, first=1) for below in [process, *_below(process)]])


def end_cluster(home: Path) -> None:
    """End what is left of the cluster of a driver that is dead."""
    for process in _cluster(home):
        for below in [*_below(process), process]:
            _kill(below)
    (home / "cluster").unlink(missing_ok=True)


def _cluster(home: Path, first: int = 0) -> list[psutil.Process]:
    """Processes of the nodes from that one on, as their driver noted them."""
    found = []
    if (home / "cluster").exists():
        nodes = json.loads((home / "cluster").read_text())
        for pid in (pid for node in nodes[first:] for pid in node):
            with suppress(psutil.Error):
                found.append(psutil.Process(pid))
    return found


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _of(folder: Path) -> list[psutil.Process]:
    found = []
    for pid in orphans(folder):
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        process.kill()
        return True
    return False


# -- checkpoints -------------------------------------------------------------------------------------------------------


def damage(folder: Path, rng: random.Random) -> str | None:
    """Truncate, or overwrite somewhere, the newest checkpoint of a trial that can go on: its key, None without one."""
    with Ledger.read(folder / "ledger.db") as ledger:
        running = [key for key, state in ledger.states().items() if state in ("running", "waiting")]
    files = [path for key in running for path in (folder / "checkpoints" / key).glob("*") if path.stem in _NEWEST]
    if not files:
        return None
    path = rng.choice(sorted(files))
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        at = rng.randrange(len(content))
        content[at] ^= 0xFF
        path.write_bytes(content)
    return path.parent.name


_NEWEST = ("last", "fake")


# -- the disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(path: Path, megabytes: int = 48) -> Iterator[Path]:
    """A file system of its own, which only root can mount; CalledProcessError for others."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(path)], check=True, capture_output=True
    )
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def can_mount(path: Path) -> bool:
    try:
        with small_disk(path):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def no_room(disk: Path) -> Iterator[None]:
    """The disk is full in the block."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 2**16)
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"x")
    try:
        yield
    finally:
        ballast.unlink()


# -- the tracking server -----------------------------------------------------------------------------------------------


class Server:
    """MLflow's own server, with a front that spoils half of the requests when told to."""

    FAULTS = ("refuses", "loses", "is slow", "is down")  # loses: writes what it is asked to, and answers 500

    def __init__(self, database: Path) -> None:
        self._database, self._mode = database, FORK.Value("i", -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def spoil(self, fault: str) -> None:
        if fault == "is down":
            self.close()
        else:
            self._mode.value = self.FAULTS.index(fault)

    def heal(self) -> None:
        self._mode.value = -1
        if not self._process.is_alive():
            self._start()

    def close(self) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._process = FORK.Process(target=_serve, args=(self._database, self._port, self._mode), daemon=True)
        self._process.start()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            time.sleep(0.05)
        raise TimeoutError("MLflow's server does not start")


_WRITES = ("/create", "/log-batch", "/update", "/set-tag")


def _serve(database: Path, port: int, mode: Any) -> None:
    import logging
    import os

    os.environ["_MLFLOW_SERVER_FILE_STORE"] = os.environ["_MLFLOW_SERVER_REGISTRY_STORE"] = f"sqlite:///{database}"
    for name in ("_MLFLOW_SERVER_ARTIFACT_ROOT", "_MLFLOW_SERVER_ARTIFACT_DESTINATION"):
        os.environ[name] = str(database.parent / "server-artifacts")
    os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
    logging.disable()  # of what it is made to do wrong
    from mlflow.server import app
    from werkzeug.serving import make_server

    rng = random.Random(port)

    def front(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        fault = Server.FAULTS[mode.value] if mode.value >= 0 and rng.random() < 0.5 else ""
        if fault == "loses" and not environ["PATH_INFO"].endswith(_WRITES):
            fault = ""
        if fault == "is slow":
            time.sleep(1)
        if fault == "loses":
            list(app(environ, lambda *_: None))
        if fault in ("refuses", "loses"):
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"no"]
        return app(environ, start_response)

    make_server("127.0.0.1", port, front, threaded=True).serve_forever()
