"""Reports that several files of tests read, built once."""

import sys
from pathlib import Path

import pytest

from reports import build, compare

sys.path.insert(0, str(Path(__file__).parent))
from hostile import READABLE, hostile_sweep
from synthetic import SyntheticArm, flat, quickstart_arms, write_sweep


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory):
    """The folder of a sweep without surprises."""
    return write_sweep(tmp_path_factory.mktemp("runs") / "s", contrast=("lejepa", "vicreg"))


@pytest.fixture(scope="session")
def report(ordinary):
    return build(ordinary)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    return build(hostile_sweep(tmp_path_factory.mktemp("runs") / "hostile"))


@pytest.fixture(scope="session")
def comparison(ordinary, hostile, tmp_path_factory):
    """The ordinary sweep against one with hostile names in it, and in its own."""
    arms = {"vicreg": SyntheticArm(flat(66.0), "vicreg"), "lejepa": quickstart_arms()["lejepa"]}
    arms |= {name: SyntheticArm(flat(50.0), "vicreg") for name in READABLE[:4]}
    runs = tmp_path_factory.mktemp("runs")
    return compare(ordinary, write_sweep(runs / "<i>other", arms), runs / "out")
