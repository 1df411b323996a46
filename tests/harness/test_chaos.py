"""Sweeps that are disturbed at random moments; chaos.py says what is promised, and judges it."""

import os
import subprocess
import sys

import pytest

from tests.harness.driver import ROOT


def chaos(*arguments: str) -> str:
    """What a process of its own says, as it forks its drivers; fails where a promise was broken."""
    command = [sys.executable, "-m", "tests.harness.chaos", *arguments]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(600)
def test_ten_rounds_of_kills_broken_checkpoints_and_full_disks_keep_every_promise() -> None:
    said = chaos("--rounds", "10", "--seed", "3", "--most", "1", "--without", "server", "trained")
    assert "10 rounds" in said
    assert "0 broken" in said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_forty_rounds_of_every_fault_on_every_executor_keep_every_promise() -> None:
    said = chaos("--rounds", "40", "--seed", "4", "--ray-every", "3")
    assert "40 rounds" in said
    assert "0 broken" in said
