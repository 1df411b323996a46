"""Drivers as processes of their own, to be stopped and killed, and what their ledgers and MLflow have in the end.

    python tests/harness/driver.py FOLDER EXECUTOR SECONDS < spec.json

makes a sweep of fake trials that take so many seconds an epoch; or goes on with it, where the folder is there.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.ledger import ENDED, Ledger, LedgerError
from harness.lock import outlast_orphans

ROOT = Path(__file__).parents[2]


def main(folder: Path, executor: str, seconds: float) -> int:
    from harness.resume import resume_sweep
    from harness.run import run_sweep
    from harness.spec import SweepSpec
    from tests.harness import fake

    if executor == "ray":
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(fake)  # workers do not have the tests on their path
    trainer = fake.Fake(seconds=seconds)
    if folder.exists():
        summary = resume_sweep(folder, executor, trainer=trainer)
    else:
        summary = run_sweep(SweepSpec.model_validate(json.load(sys.stdin)), folder, executor, trainer=trainer)
    return 130 if summary is not None and summary.interrupted else 0


@contextmanager
def driver(
    folder: Path, spec: Mapping[str, Any], executor: str = "local", seconds: float = 0.1
) -> Iterator[subprocess.Popen[str]]:
    """A driver that runs or resumes the sweep; killed at the end of the block if it still lives."""
    with driving([sys.executable, __file__, str(folder), executor, str(seconds)], folder, json.dumps(spec)) as process:
        yield process


@contextmanager
def driving(command: list[str], folder: Path, stdin: str = "") -> Iterator[subprocess.Popen[str]]:
    """A command that drives a sweep's folder. Its group is its own, so that Ctrl-C reaches what it started."""
    stray = {**os.environ, "RAY_ADDRESS": "192.0.2.77:6379"}  # somebody's cluster, which a sweep does not follow
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(command, **pipes, text=True, cwd=folder.parent, env=stray, start_new_session=True)
    try:
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None  # communicate would write to it
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
        _no_process_is_left(folder)


def finish(process: subprocess.Popen[str], timeout: float = 120) -> str:
    """Let it come to its end; what it said."""
    _, said = process.communicate(timeout=timeout)
    assert process.returncode == 0, said
    return said


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 120) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, f"the driver ended with {process.poll()}: {process.communicate()[1]}"
        assert time.monotonic() < until, f"not within {timeout} s"
        time.sleep(0.02)


def epochs(folder: Path) -> int:
    """In the ledger, so far; 0 before there is one."""
    try:
        with Ledger.read(folder / "ledger.db") as ledger:
            return len(ledger.epochs())
    except LedgerError:
        return 0


def record(folder: Path) -> dict[str, Any]:
    """All of a ledger that two equal sweeps have in common, however often one of them was stopped.

    No time, no timing, no pid; of what happened to a trial only how it ended, which must be said once.
    """
    with Ledger.read(folder / "ledger.db") as ledger:
        ends = [event for event in ledger.events() if event.kind in ENDED]
        doubled = [key for key, n in Counter(event.key for event in ends).items() if n > 1]
        assert not doubled, f"{doubled} ended twice"
        return {
            "trials": [(row.key, row.config, row.seed, row.epochs, row.data, row.code) for row in ledger.trials()],
            "places": [vars(row) for row in ledger.assignments()],
            "epochs": [(row.key, row.epoch, row.metrics) for row in ledger.epochs()],
            "states": ledger.states(),
            "ends": {event.key: (event.kind, event.payload.get("test")) for event in ends},
            "last": next(event.kind for event in reversed(ledger.events()) if event.kind.startswith("sweep_")),
        }


def mlflow_statuses(folder: Path, name: str) -> tuple[dict[str, str], str]:
    """(trial key → status, status of the sweep's run); fails where a run is doubled."""
    from mlflow import MlflowClient

    from harness.mlflow_store import default_uri

    client = MlflowClient(tracking_uri=default_uri(folder))
    experiment = client.get_experiment_by_name(name)
    assert experiment
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    [parent] = [run for run in runs if "trial_key" not in run.data.tags]
    children = [run for run in runs if "trial_key" in run.data.tags]
    statuses = {run.data.tags["trial_key"]: run.info.status for run in children}
    assert len(statuses) == len(children)
    return statuses, parent.info.status


def _no_process_is_left(folder: Path) -> None:
    """As a resume would see to it: Ray's processes end by themselves, but for some of a driver that died early."""
    outlast_orphans(folder)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
