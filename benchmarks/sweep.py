"""What a trial costs beside its training: a sweep of trials that train nothing, on each executor.

    python benchmarks/sweep.py [trials]

Prints wall-clock time per trial, with the ledger, its fsyncs and the MLflow mirror in it: of the whole sweep, which
starts Ray and its workers once, and from the first trial's start on, when an actor is there. Measures, never asserts.
"""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.executors import RayExecutor
from harness.ledger import Ledger
from harness.run import run_sweep
from harness.spec import Pool, SweepSpec
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport

EPOCHS = 3
TARGET = 0.6  # seconds beside its training that a trial may cost on a reused actor


class Idle:
    """A trainer without training."""

    def __init__(self, config: TrainConfig, checkpoints: Path) -> None:
        self.config, self.reports, self.info = config, list[EpochReport](), dict[str, Any](threads=config.threads)

    def load(self) -> bool:
        return False

    def __iter__(self) -> Iterator[EpochReport]:
        for epoch in range(1, self.config.length + 1):
            self.reports.append(EpochReport(epoch, {f"metric/{i}": float(i) for i in range(10)}, {}))
            yield self.reports[-1]

    def test(self) -> dict[str, float]:
        return {}


def spec(trials: int, places: int) -> SweepSpec:
    base = {"epochs": EPOCHS, "data": {"name": "digits", "size": 16}}
    pool = {"cpus": 1, "max_concurrent": places}
    return SweepSpec.model_validate({"name": f"idle-{places}", "base": base, "seeds": trials, "pool": pool})


def measure(executor: str, trials: int, places: int) -> tuple[float, float]:
    """Seconds from the sweep's first event to its last, and from a trial's start to the end of the last one."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / f"idle-{places}"
        run_sweep(spec(trials, places), folder, executor, trainer=Idle)
        with Ledger.read(folder / "ledger.db") as ledger:
            events = ledger.events()
    ends = [event.time for event in events if event.kind == "finished"]
    first = next(event.time for event in events if event.kind == "started")
    return events[-1].time - events[0].time, ends[-1] - first


def main(trials: int) -> None:
    began = time.perf_counter()
    with RayExecutor(Pool(max_concurrent=1)):
        up = time.perf_counter() - began
    down = time.perf_counter() - began - up
    table = Table("executor", "places", "trials", "sweep, s", "sweep, s/trial", "once warm, s/trial")
    reused = 0.0
    for executor, places in (("local", 1), ("ray", 1), ("ray", 2)):
        whole, warm = measure(executor, trials, places)
        reused = warm / trials if (executor, places) == ("ray", 1) else reused
        table.add_row(
            executor, str(places), str(trials), f"{whole:.1f}", f"{whole / trials:.3f}", f"{warm / trials:.3f}"
        )
    console = Console()
    console.print(table)
    console.print(f"overhead per trial on Ray with a reused actor: {reused:.3f} s (target: less than {TARGET} s)")
    console.print(f"n = 1 sweep each, {EPOCHS} epochs a trial; Ray starts in {up:.1f} s and ends in {down:.1f} s")
    machine = f"{platform.platform()}, {os.cpu_count()} cores"
    console.print(f"{machine}; 1 thread a trial; Python {platform.python_version()}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
