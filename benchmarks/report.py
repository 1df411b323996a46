"""What a report costs: a ledger of ten thousand trials of a hundred epochs, from the folder to the page.

    python benchmarks/report.py [trials] [epochs] [--keep DIR]

Writes a sweep whose numbers are drawn, not trained: five methods, twenty cells each, searched twice and confirmed on
fresh seeds. Then reads it, and builds its report, each in a process of its own, for its time and its peak memory.
Measures, never asserts.
"""

import argparse
import hashlib
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from harness.ledger import Ledger, canonical

METHODS = ("lejepa", "vicreg", "simclr", "byol", "dino")
CELLS, STUDIES, SEARCHED, CONFIRMED = 20, 2, 40, 20  # per arm; per cell; per study; per cell
TARGET_SECONDS, TARGET_GB = 60.0, 2.0
_CHILD = """
import json, resource, sys, time
from reports import build, load
began = time.perf_counter()
{"load": load, "build": build}[sys.argv[1]](sys.argv[2])
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9]))
"""


def places(trials: int) -> Iterator[tuple[str, dict[str, Any], int, int, str, int]]:
    """(method, cell, study, ordinal, purpose, seed), cell by cell, `trials` of them."""
    per_cell = STUDIES * SEARCHED + CONFIRMED
    for number in range(trials):
        place, within = divmod(number, per_cell)
        method, step = METHODS[place // CELLS % len(METHODS)], place % CELLS
        factor = "method.lamb" if method == "lejepa" else "batch_size"
        cell = {factor: float(f"{10 ** (-4 + 4 * step / CELLS):.3g}") if method == "lejepa" else 64 + 32 * step}
        if within < STUDIES * SEARCHED:
            yield method, cell, *divmod(within, SEARCHED), "search", within // SEARCHED
        else:
            yield method, cell, 0, within - STUDIES * SEARCHED, "confirm", 100 + within - STUDIES * SEARCHED


def config_of(method: str, cell: dict[str, Any], lr: float, epochs: int, seed: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "method": {"name": method}, "encoder": {"name": "small_resnet", "width": 16},
        "projector": {"layers": 3, "hidden": 512, "dim": 64}, "data": {"name": "digits", "size": 16},
        "views": {"recipe": "digits", "global_views": 2, "local_views": 2},
        "optimizer": {"lr": lr, "weight_decay": 5e-4}, "epochs": epochs, "batch_size": 128, "seed": seed,
        "probe": {"on": "embedding", "k": 20, "shots": [1], "draws": 20}, "precision": "fp32",
    }  # fmt: skip
    for path, value in cell.items():
        part, _, last = path.rpartition(".")
        (config[part] if part else config)[last] = value
    return config


def write(folder: Path, trials: int, epochs: int) -> None:
    folder.mkdir(parents=True)
    arms = {name: {"nuisance": {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}}} for name in METHODS}
    spec = {
        "name": "large", "question": "What does a report of ten thousand trials cost?", "base": {}, "scientific": {},
        "nuisance": {}, "arms": arms, "seeds": [0], "search": {"sampler": "random", "trials": SEARCHED, "studies": 2},
        "stopping": None, "confirm": {"top": 1, "seeds": CONFIRMED}, "budget": None, "contrast": ["lejepa", "vicreg"],
        "pool": {"cpus": 1, "gpus": 0, "max_concurrent": 2}, "metric": {"name": "val/linear", "mode": "max"},
        "rope": 1.0, "profile": None,
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    (folder / "environment.json").write_text(json.dumps({"git": {"sha": "0" * 40, "dirty": False}, "packages": {}}))
    Ledger(folder / "ledger.db").close()
    with sqlite3.connect(folder / "ledger.db") as db:  # past the ledger's own writing, which is durable and slow
        db.execute("INSERT INTO events (time, key, kind, payload) VALUES (0, NULL, 'sweep_started', '{}')")
        fill(db, trials, epochs)
        db.execute("INSERT INTO events (time, key, kind, payload) VALUES (1, NULL, 'sweep_finished', '{}')")


def fill(db: sqlite3.Connection, trials: int, epochs: int) -> None:
    rng = np.random.default_rng(0)
    for method, cell, study, ordinal, purpose, seed in places(trials):
        lr = float(f"{10 ** rng.uniform(-4, -2):.4g}") if purpose == "search" else 1e-3
        config = config_of(method, cell, lr, epochs, seed)
        key = hashlib.sha256(canonical(config).encode()).hexdigest()[:16]
        db.execute("INSERT OR IGNORE INTO trials VALUES (?,?,?,?,?,?,?)",
                   (key, 0.0, canonical(config), seed, epochs, "da7a" * 16, "c0de" * 16))  # fmt: skip
        db.execute("INSERT INTO assignments (arm, cell, study, ordinal, purpose, key) VALUES (?,?,?,?,?,?)",
                   (method, canonical(cell), study, ordinal, purpose, key))  # fmt: skip
        level = 70.0 + rng.normal(0, 1)
        db.executemany("INSERT OR IGNORE INTO epochs VALUES (?,?,?,?,?)", epoch_rows(rng, key, level, epochs))
        test = {"test/linear": level} if purpose == "confirm" else {}
        for kind, payload in (("started", {"attempt": 1}), ("finished", {"test": test, "info": {"threads": 1}})):
            db.execute("INSERT INTO events (time, key, kind, payload) VALUES (?,?,?,?)",
                       (1.0, key, kind, json.dumps(payload)))  # fmt: skip


def epoch_rows(rng: np.random.Generator, key: str, level: float, epochs: int) -> Iterator[tuple[Any, ...]]:
    names = ("val/linear", "val/knn", "val/shot1", "train/loss", "train/pred", "train/sigreg", "train/lr", "diag/std",
             "diag/effective_rank", "diag/rankme", "diag/collapsed", "diag/loss_over_lambda")  # fmt: skip
    timing = json.dumps({"seconds": 1.25, "images_per_second": 1400.5, "data_wait": 0.02, "peak_memory": 812.5})
    values = rng.normal(0, 0.2, (epochs, len(names))).round(5)
    scale = np.array([1, 1, 1, 0.1, 0.1, 1, 0, 0.1, 1, 1, 0, 0.1])
    for epoch in range(epochs):
        rise = 25 * float(np.exp(-5 * (epoch + 1) / epochs))
        centre = np.array([level - rise, level - rise, level - rise - 9, 2, 1, 3, 1e-3, 0.9, 24, 30, 0, 1.0])
        metrics = dict(zip(names, (centre + scale * values[epoch]).tolist(), strict=True))
        yield key, epoch + 1, float(epoch), json.dumps(metrics), timing


def measure(what: str, folder: Path) -> list[float]:
    """Seconds by the clock, CPU seconds, peak memory in GB (10⁹ bytes), of a process that does only this."""
    done = subprocess.run([sys.executable, "-c", _CHILD, what, folder], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=int, nargs="?", default=10_000)
    parser.add_argument("epochs", type=int, nargs="?", default=100)
    parser.add_argument("--keep", type=Path, help="write the sweep here, and leave it; use it again if it is there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch) / "large"
        began = time.perf_counter()
        if not folder.exists():
            write(folder, given.trials, given.epochs)
        wrote = time.perf_counter() - began
        table = Table("step", "wall, s", "CPU, s", "peak memory, GB")
        for what, label in (("load", "ledger → frames"), ("build", "ledger → report")):
            wall, cpu, peak = measure(what, folder)
            table.add_row(label, f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.2f}")
        sizes = {path.name: path.stat().st_size / 1e6 for path in (folder / "report").glob("*.*") if path.is_file()}
        size = (folder / "ledger.db").stat().st_size / 1e6
    console = Console()
    console.print(f"{given.trials:,} trials × {given.epochs} epochs, ledger {size:,.0f} MB, written in {wrote:.0f} s")
    console.print(table)
    console.print(", ".join(f"{name} {mb:.1f} MB" for name, mb in sorted(sizes.items())))
    console.print(f"targets: {TARGET_SECONDS:.0f} s and {TARGET_GB:.0f} GB; n = 1; CPU with the imports")
    console.print(f"{platform.platform()}, {os.cpu_count()} cores; Python {platform.python_version()}")


if __name__ == "__main__":
    main()
