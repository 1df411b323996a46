"""`harness doctor`: what a sweep will stand on, looked at before it runs. Changes nothing and trains nothing.

Every check gives one line: fine, a warning (slower, or less than there could be), or a failure (a sweep will stop), and
what to do about it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from harness.address import VARIABLE, shown, unservable, withhold
from harness.mlflow_store import default_uri, unreachable

if TYPE_CHECKING:
    from harness.pool import Placement

PASS, WARN, FAIL = "pass", "warn", "fail"
_GIB = 2**30
_ROOM = 5 * _GIB  # of disk, below which a sweep of any size is at risk
_SHARED = 2 * _GIB  # of shared memory: Ray's objects, and batches that loader processes hand over
_PATIENCE = 5.0  # seconds for a store that another process writes
_RAY_PATIENCE = 120.0  # seconds for Ray's first task: a cold start takes 5 to 20


@dataclass(frozen=True)
class Finding:
    what: str
    result: str  # pass | warn | fail
    found: str  # what was seen and, where it is not fine, what to do


def examine(
    runs: Path, tracking_uri: str | None = None, with_ray: bool = True, cluster: Placement | None = None
) -> Iterator[Finding]:
    """The findings, one after the other, as they are made. runs: where sweeps have their folders. cluster: the
    Ray that is looked at instead of one of our own, and pools that are tried on it.
    """
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("installation", _installation),
        ("processor", _processor),
        ("GPUs", _gpus),
        ("shared memory", _shared_memory),
        ("disk", lambda: _disk(runs)),
        ("data", _data),
        ("tracking", lambda: _tracking(tracking_uri or os.environ.get(VARIABLE) or default_uri(runs / "NAME"))),
    ]
    if cluster is not None:
        checks.append(("cluster", lambda: _cluster(cluster, runs)))
    elif with_ray:
        checks.append(("Ray", _ray))
    for what, check in checks:
        try:
            yield from check()
        except Exception as error:  # a check that breaks is itself the finding
            said = withhold(f"{type(error).__name__}: {error}", tracking_uri or "")
            yield Finding(what, FAIL, " ".join(said.split())[:300])


# -- what is installed ------------------------------------------------------------------------------------------------


def _installation() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in metadata.requires("lejepa-harness") or [] if "extra ==" not in text]
    wrong = []
    for requirement in needed:
        try:
            have = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(have, prereleases=True):
            wrong.append(f"{requirement.name} {have} is not {requirement.specifier}")
    python = ".".join(map(str, sys.version_info[:3]))
    if wrong:
        yield Finding("installation", FAIL, f"{'; '.join(wrong)}: install the project again (make install)")
        return
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "ray", "optuna", "mlflow"))
    yield Finding("installation", PASS, f"Python {python}, {len(needed)} requirements met: {shown}")


def _processor() -> Iterator[Finding]:
    seen = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else seen
    quota = _cgroup_cpus()
    usable = min(allowed, quota or allowed)
    memory = psutil.virtual_memory()
    found = f"{usable:g} of {seen} cores usable, {memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    if usable < allowed:
        yield Finding("processor", WARN, f"{found}: the container's quota is below the cores that Ray counts; set "
                                         f"pool.max_concurrent to {max(1, int(usable))}")  # fmt: skip
    elif psutil.getloadavg()[0] > 0.5 * usable:
        yield Finding("processor", WARN, f"{found}; load {psutil.getloadavg()[0]:.1f}: other processes are at work, so "
                                         "times will not be those of an idle machine")  # fmt: skip
    else:
        yield Finding("processor", PASS, found)


def _cgroup_cpus() -> float | None:
    """The container's quota in cores (cgroup v2); None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _gpus() -> Iterator[Finding]:
    import torch

    from harness.environment import gpus

    by_driver = gpus()
    if not torch.cuda.is_available():
        if by_driver and os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
            yield Finding("GPUs", PASS, "hidden by CUDA_VISIBLE_DEVICES: sweeps run on the CPU (pool.gpus: 0)")
        elif by_driver:
            yield Finding("GPUs", FAIL, f"the driver has {', '.join(by_driver)}, which torch {torch.__version__} "
                          "cannot use: install a build of torch for this driver's CUDA")  # fmt: skip
        else:
            yield Finding("GPUs", PASS, "none: sweeps run on the CPU (pool.gpus: 0)")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found = f"{name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
        occupied = free < 0.9 * total
        bf16 = torch.cuda.get_device_capability(index) >= (8, 0)
        remarks = ["other processes hold memory"] * occupied + ["no bf16: take precision fp32"] * (not bf16)
        yield Finding(f"GPU {index}", WARN if remarks else PASS, "; ".join([found, *remarks]))


# -- where things are kept --------------------------------------------------------------------------------------------


def _shared_memory() -> Iterator[Finding]:
    if not Path("/dev/shm").is_dir():
        yield Finding("shared memory", WARN, "no /dev/shm: Ray keeps objects on disk, which is slow")
        return
    free = shutil.disk_usage("/dev/shm").free
    if free < _SHARED:
        yield Finding("shared memory", WARN, f"{free / _GIB:.1f} GiB free in /dev/shm: give the container more "
                                             "(docker run --shm-size=8g), or leave data.workers at 0")  # fmt: skip
    else:
        yield Finding("shared memory", PASS, f"{free / _GIB:.1f} GiB free in /dev/shm")


def _disk(runs: Path) -> Iterator[Finding]:
    """Room, and whether a ledger can live here: it is written and read back."""
    from harness.ledger import Ledger, LedgerError

    existing = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=existing) as scratch:
            start = time.perf_counter()
            with Ledger(Path(scratch) / "ledger.db") as ledger:
                ledger.add_event("note", text="doctor")
            took = time.perf_counter() - start
            with Ledger.read(Path(scratch) / "ledger.db") as ledger:
                assert ledger.events()[0].payload == {"text": "doctor"}
    except (LedgerError, OSError) as error:
        yield Finding("disk", FAIL, f"no ledger can be kept in {existing}: {error}; choose another place with --dir")
        return
    found = f"{free / _GIB:.0f} GiB free in {existing}, a ledger is written in {took * 1000:.0f} ms"
    if free < _ROOM:
        yield Finding("disk", WARN, f"{found}: checkpoints may not fit; `harness gc FOLDER` deletes old ones")
    else:
        yield Finding("disk", PASS, found)


def _data() -> Iterator[Finding]:
    """What lies under $LEJEPA_DATA, and whether the bundled digits can be read."""
    from lejepa.config import DataConfig
    from lejepa.data import load

    digits = len(load(DataConfig(size=16)).train)
    root = Path(os.environ.get("LEJEPA_DATA") or "data").expanduser()
    where = "$LEJEPA_DATA" if os.environ.get("LEJEPA_DATA") else "./data"
    names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if names:
        yield Finding("data", PASS, f"digits ({digits} training images); in {where}: {', '.join(names)}")
    else:
        yield Finding("data", WARN, f"digits alone ({digits} training images): nothing lies in {where} ({root}); set "
                                    "LEJEPA_DATA to the folder that holds your data sets")  # fmt: skip


# -- what runs beside -------------------------------------------------------------------------------------------------


def _tracking(uri: str) -> Iterator[Finding]:
    if wrong := unservable(uri):
        yield Finding("tracking", FAIL, wrong)
        return
    seen = shown(uri)
    if uri.startswith(("http:", "https:")):
        if trouble := unreachable(uri):
            yield Finding("tracking", WARN, f"{seen} does not answer ({trouble}): a sweep runs nevertheless; `harness "
                          "sync FOLDER` writes into MLflow later what it missed")  # fmt: skip
        else:
            yield Finding("tracking", PASS, f"{seen} answers")
        return
    store = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    if store is None or not store.is_file():
        yield Finding("tracking", PASS, f"{seen} (made by the first run)" if store else seen)
        return
    with sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE) as db:
        (runs,) = db.execute("SELECT count(*) FROM runs").fetchone()
    db.close()
    yield Finding("tracking", PASS, f"{seen}: {runs} runs")


def _ray() -> Iterator[Finding]:
    """A Ray of its own, one task on it, and its end; and what other Rays have left behind."""
    left = [p.pid for p in psutil.process_iter(["name"]) if (p.info["name"] or "").startswith(("raylet", "gcs_server"))]
    start = time.perf_counter()
    from harness.executors import RayExecutor
    from harness.spec import Pool

    with RayExecutor(Pool(cpus=1, max_concurrent=1)):
        import ray

        def process() -> int:
            return os.getpid()

        answer: int = ray.get(ray.remote(num_cpus=1)(process).remote(), timeout=_RAY_PATIENCE)
        resources = ray.cluster_resources()
    found = (
        f"starts and answers in {time.perf_counter() - start:.0f} s (worker {answer}): "
        f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    )
    if left:
        yield Finding(
            "Ray", WARN, f"{found}; other Rays run on this machine (processes {left[:4]}): they share its cores"
        )
    else:
        yield Finding("Ray", PASS, found)


def _cluster(where: Placement, runs: Path) -> Iterator[Finding]:
    from harness.doctor_cluster import examine_cluster

    yield from examine_cluster(where, runs)


# -- as shown ---------------------------------------------------------------------------------------------------------


def line(finding: Finding) -> Any:
    """A rich renderable: one finding."""
    from rich.text import Text

    mark, style = {PASS: ("✓", "green"), WARN: ("!", "yellow"), FAIL: ("✕", "red")}[finding.result]
    return Text.assemble((f"{mark} ", style), (f"{finding.what:<14}", "bold"), finding.found)
