"""What a sweep ran in: code, packages and machine, as written to `environment.json`. Imports nothing heavy."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import lejepa.config
from harness.address import command_shown
from harness.spec import SweepSpec
from harness.trials import code_hash

_PACKAGES = ("lejepa-harness", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pydantic", "ray",
             "optuna", "mlflow")  # fmt: skip


def describe(spec: SweepSpec, executor: str, command: Sequence[str]) -> dict[str, Any]:
    """The content of `environment.json`; JSON-able. What cannot be found out is null or left out, never guessed."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_shown(command),
        "profile": spec.profile,
        "git": _git(Path(lejepa.config.__file__)),
        "code": code_hash(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus(),
        "executor": executor,
        "pool": spec.pool.model_dump(mode="json"),
        "pools": {name: pool.model_dump(mode="json") for name, pool in spec.pools.items()},
        "cluster": spec.cluster.address,
    }


def _git(file: Path) -> dict[str, Any] | None:
    """State of the repository that tracks the trainer; None where it was installed instead of cloned."""

    def git(*arguments: str) -> bytes | None:
        return _output(["git", "-C", str(file.parent), *arguments])

    # a package installed inside somebody's repository is not of that repository: the file itself must be tracked
    if git("ls-files", "--error-unmatch", file.name) is None or (sha := git("rev-parse", "HEAD")) is None:
        return None
    diff = git("diff", "HEAD", "--no-ext-diff", "--binary") or b""
    return {
        "sha": sha.decode().strip(),
        "dirty": bool(diff),
        "diff": hashlib.sha256(diff).hexdigest() if diff else None,
    }


def _output(command: list[str]) -> bytes | None:
    """What a program prints; None where there is no such program or it fails."""
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@cache
def gpus() -> list[str]:
    """Names by the driver's own tool: asking torch would open a CUDA context in this process."""
    if sys.platform == "darwin":
        return []
    names = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]) or b""
    return [line.strip() for line in names.decode(errors="replace").splitlines() if line.strip()]
