"""Sweeps that are disturbed at random moments; chaos.py says what is promised, and judges it."""

import os
import subprocess
import sys

import pytest

from tests.harness.driver import ROOT


def chaos(*arguments: str) -> subprocess.Popen[str]:
    """A process of its own, as it forks its drivers."""
    command = [sys.executable, "-m", "tests.harness.chaos", *arguments]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=surroundings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def kept(process: subprocess.Popen[str], rounds: int) -> None:
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert f"{rounds} rounds" in said
    assert "0 broken" in said


@pytest.mark.timeout(600)
def test_ten_rounds_of_kills_broken_checkpoints_and_full_disks_keep_every_promise() -> None:
    cheap = ["--rounds", "5", "--seed", "3", "--most", "1", "--without", "server", "trained"]
    for process in [chaos(*cheap), chaos(*cheap, "--first", "5")]:  # side by side: a round waits more than it works
        kept(process, 5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_forty_rounds_of_every_fault_on_every_executor_keep_every_promise() -> None:
    kept(chaos("--rounds", "40", "--seed", "4", "--ray-every", "3"), 40)
