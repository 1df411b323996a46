"""Whether every method learns: its CPU recipe on CIFAR-10, three seeds, against the encoder as it was initialised.

The fast test reads the sweeps that were run and are kept in docs/results; the slow one runs one again.
"""

import os
from pathlib import Path

import pytest

from harness.run import run_sweep
from harness.spec import load_sweep
from reports import statistics as st
from reports.load import Sweep, load

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
FLOOR = {"small_resnet": "random", "small_vit": "random-vit"}
CONTROLS = {"bare"}  # collapses, and has to


def gains(sweep: Sweep) -> dict[str, st.Estimate]:
    """Trained arm → test accuracy above the random encoder's, paired by seed."""
    trials = sweep.trials[sweep.trials["purpose"].isin(["evidence", "floor"])]
    by_arm = {str(arm): rows.set_index("seed").sort_index() for arm, rows in trials.groupby("arm")}
    found = {}
    for arm, rows in by_arm.items():
        floor = FLOOR[sweep.configs[rows["key"].iloc[0]]["encoder"]["name"]]
        if arm not in {"pixels", floor} and floor in by_arm:
            assert list(rows.index) == list(by_arm[floor].index) == [0, 1, 2]
            found[arm] = st.paired_interval(rows["test/linear"], by_arm[floor]["test/linear"])
    return found


def check(sweep: Sweep) -> None:
    found = gains(sweep)
    assert len(found) > 1
    for arm, gain in found.items():
        assert gain.low is not None
        assert gain.high is not None
        if arm in CONTROLS:
            assert gain.high < 1, f"{arm} does not collapse: {gain}"
        else:
            assert gain.low > 0, f"{arm} is not above the random encoder: {gain}"
    outcomes = sweep.trials.groupby("arm")["outcome"].agg(set)
    assert all(outcomes[arm] == {"collapsed"} for arm in CONTROLS & found.keys())
    assert all(outcomes[arm] == {"trained"} for arm in found.keys() - CONTROLS)


@pytest.mark.parametrize("name", ["methods", "methods-vit"])
def test_in_the_sweep_that_is_kept_every_method_is_above_the_random_encoder_and_the_bare_objective_collapses(
    name: str,
) -> None:
    check(load(ROOT / "docs" / "results" / name))


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_every_method_ends_above_the_random_encoder_and_the_bare_objective_collapses(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(os.environ.get("LEJEPA_DATA", SHARED))
    if not (root / "cifar10").exists():
        pytest.skip("CIFAR-10 is neither in $LEJEPA_DATA nor beside the project")
    monkeypatch.setenv("LEJEPA_DATA", str(root))
    summary = run_sweep(load_sweep("methods", "cpu"), runs / "methods")
    assert set(summary.counts) == {"finished"}
    check(load(runs / "methods"))
