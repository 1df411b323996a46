"""What a sweep costs beside its trainings, measured on trials that train nothing. Measures, never asserts.

    python benchmarks/sweep.py [trials]
    python benchmarks/sweep.py --slots [--seconds 5 20] [--trials 64] [--others 24]

The first prints wall-clock time per trial on each executor, with the ledger, its fsyncs and the MLflow mirror in it: of
the whole sweep, which starts Ray and its workers once, and from the first trial's start on, when an actor is there.

The second prints slot utilisation on two slots: the seconds in which trials slept, over slots × wall clock, from the
moment in which every slot has begun its first trial to the start of the last one. Trials sleep in five epochs, each
reported: a sleeper needs no core, so the harness is measured, not the machine. Beside it, in turns, a shell that keeps
two processes going, each a trial that imports torch, and Ray Tune with a function and its stock MLflow callback.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
SLOTS, NAPS = 2, 5  # naps: the epochs of a trial that sleeps


class Idle:
    """A trainer without training."""

    def __init__(self, config: TrainConfig, checkpoints: Path) -> None:
        self.config, self.reports, self.info = config, list[EpochReport](), dict[str, Any](threads=config.threads)

    def load(self) -> bool:
        return False

    def __iter__(self) -> Iterator[EpochReport]:
        for epoch in range(1, self.config.length + 1):
            self._work()
            self.reports.append(EpochReport(epoch, {f"metric/{i}": float(i) for i in range(10)}, {}))
            yield self.reports[-1]

    def _work(self) -> None:
        pass

    def test(self) -> dict[str, float]:
        return {}


def spec(trials: int, places: int, epochs: int = EPOCHS) -> SweepSpec:
    base = {"epochs": epochs, "data": {"name": "digits", "size": 16}}
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


def overhead(trials: int, console: Console) -> None:
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
    console.print(table)
    console.print(f"overhead per trial on Ray with a reused actor: {reused:.3f} s (target: less than {TARGET} s)")
    console.print(f"n = 1 sweep each, {EPOCHS} epochs a trial; Ray starts in {up:.1f} s and ends in {down:.1f} s")


# -- slots -------------------------------------------------------------------------------------------------------------

_ONE_TRIAL = """
import sys, time, torch, torchvision
folder, seconds, seed = sys.argv[1:]
for _ in range({naps}):
    began = time.time()
    time.sleep(float(seconds) / {naps})
    with open(f"{{folder}}/{{seed}}", "a") as diary:
        diary.write(f"{{began}} {{time.time()}}\\n")
"""


def nap(diary: Path, seconds: float) -> None:
    """Sleep, and write down from when to when (unix seconds)."""
    began = time.time()
    time.sleep(seconds)
    with diary.open("a") as file:
        file.write(f"{began} {time.time()}\n")


@dataclass(frozen=True)
class Sleepers:
    """A factory of trainers that sleep, for so many seconds in all, and keep diaries."""

    diaries: Path
    seconds: float

    def __call__(self, config: TrainConfig, checkpoints: Path) -> "Sleeper":
        return Sleeper(config, checkpoints, self)


class Sleeper(Idle):
    def __init__(self, config: TrainConfig, checkpoints: Path, kind: Sleepers) -> None:
        super().__init__(config, checkpoints)
        self._diary, self._nap = kind.diaries / uuid.uuid4().hex, kind.seconds / NAPS

    def _work(self) -> None:
        nap(self._diary, self._nap)


def ours(diaries: Path, trials: int, seconds: float) -> None:
    run_sweep(spec(trials, SLOTS, NAPS), diaries.parent / "sweep", "ray", trainer=Sleepers(diaries, seconds))


def shell(diaries: Path, trials: int, seconds: float) -> None:
    script = diaries.parent / "train_one.py"
    script.write_text(_ONE_TRIAL.format(naps=NAPS))
    loop = f"seq {trials} | xargs -P {SLOTS} -I SEED {sys.executable} {script} {diaries} {seconds} SEED"
    subprocess.run(["sh", "-c", loop], check=True, stdout=subprocess.DEVNULL)


def ray_tune(diaries: Path, trials: int, seconds: float) -> None:
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    def train(config: dict[str, Any]) -> None:
        import torch  # noqa: F401
        import torchvision  # noqa: F401

        diary = diaries / uuid.uuid4().hex
        for epoch in range(NAPS):
            nap(diary, seconds / NAPS)
            tune.report({f"metric/{i}": float(i + epoch) for i in range(10)})

    store = f"sqlite:///{diaries.parent / 'mlflow.db'}"
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    try:
        tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={"seed": tune.grid_search(list(range(trials)))},
            run_config=tune.RunConfig(
                storage_path=str(diaries.parent / "tune"),
                callbacks=[MLflowLoggerCallback(tracking_uri=store, experiment_name="naps")],
                verbose=0,
            ),
        ).fit()
    finally:
        ray.shutdown()


CONTESTANTS: dict[str, Callable[[Path, int, float], None]] = {
    "harness": ours,
    "shell, one process a trial": shell,
    "Ray Tune, MLflow callback": ray_tune,
}


def utilisation(diaries: Path) -> float:
    """Seconds slept over slots × seconds, from when all slots have begun a trial until the last trial's begin."""
    trials = [[tuple(map(float, line.split())) for line in path.read_text().splitlines()] for path in diaries.iterdir()]
    begins = sorted(naps[0][0] for naps in trials)
    start, end = begins[SLOTS - 1], begins[-1]
    slept = sum(max(0.0, min(until, end) - max(since, start)) for naps in trials for since, until in naps)
    return slept / (SLOTS * (end - start))


def slots(seconds: list[float], trials: int, others: int, console: Console) -> None:
    table = Table("trials of", "contestant", "trials", "utilisation", "whole run, s", "s, least possible")
    for length in seconds:
        for name, contest in CONTESTANTS.items():
            n = trials if contest is ours else others
            with tempfile.TemporaryDirectory() as scratch:
                diaries, began = Path(scratch) / "diaries", time.perf_counter()
                diaries.mkdir()
                again = [sys.executable, __file__, "--contest", name, str(diaries), str(n), str(length)]
                subprocess.run(again, check=True, stdout=subprocess.DEVNULL)  # Ray heeds our environment
                whole = time.perf_counter() - began
                row = (f"{length:g} s", name, str(n), f"{utilisation(diaries):.1%}", f"{whole:.1f}")
            table.add_row(*row, f"{n * length / SLOTS:g}")
            console.print(*row, sep=" | ")
    console.print(table)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(f"n = 1 run a row, {SLOTS} slots, {NAPS} epochs a trial; load average at the end {load}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("overhead", nargs="?", type=int, default=30, metavar="trials")
    parser.add_argument("--slots", action="store_true", help="measure slot utilisation instead")
    parser.add_argument("--seconds", nargs="+", type=float, default=[5.0, 20.0], help="a trial sleeps for")
    parser.add_argument("--trials", type=int, default=64, help="of the harness")
    parser.add_argument("--others", type=int, default=24, help="trials of the two others")
    parser.add_argument("--contest", nargs=4, help=argparse.SUPPRESS)
    given, console = parser.parse_args(), Console()
    if given.contest:
        name, diaries, trials, seconds = given.contest
        return CONTESTANTS[name](Path(diaries), int(trials), float(seconds))
    if given.slots and min(given.trials, given.others) <= SLOTS:
        parser.error(f"utilisation needs more than {SLOTS} trials, as the last wave does not count")
    if given.slots:
        slots(given.seconds, given.trials, given.others, console)
    else:
        overhead(given.overhead, console)
    machine = f"{platform.platform()}, {os.cpu_count()} cores"
    console.print(f"{machine}; 1 thread a trial; Python {platform.python_version()}")


if __name__ == "__main__":
    main()
