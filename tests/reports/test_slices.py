"""The slices section on sweeps whose truth is planted: the smallest M that is as good, what it saves, and doubt."""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.ledger import Ledger
from harness.spec import load_sweep
from reports import build, load
from reports.content import Figure, Prose, Table
from reports.evidence import study
from reports.sections import enough_slices, factor, lambda_, slices, step_cost

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, quickstart_arms, write_sweep

MS = (16, 64, 256, 1024, "exact")
STEP = {16: 50.0, 64: 55.0, 256: 60.0, 1024: 80.0, "exact": 100.0}  # ms
BATCH = 128  # of the synthetic sweeps


def rising(enough, fall=3.0):
    """70 from M = enough on; `fall` points less per halving below."""

    def truth(cell):
        m = cell["method.slices"]
        return 70.0 if m == "exact" or m >= enough else 70.0 - fall * math.log2(enough / m)

    return truth


def slices_sweep(folder, truth, *, rest=({},), noise=0.1, ends=None, seeds=range(6), measured=True, **changes):
    cells = [{"method.slices": m, **more} for more in rest for m in MS]
    arms = {
        "lejepa": SyntheticArm(truth, cells=cells, noise=noise, ends=ends or {}),
        "random": SyntheticArm(flat(40.0), "random"),
    }
    write_sweep(folder, arms, seeds=seeds, **changes)
    if measured:
        measure(folder)
    return folder


def measure(folder):
    """Add three epochs with what they cost and what the slices lose: a first, slow one and two as planned."""
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for row in ledger.trials():
            m, epochs = row.config["method"].get("slices"), ledger.epochs(row.key)
            if m is None or not epochs:
                continue
            metrics = {
                "val/shot1": epochs[-1].metrics["val/shot1"],
                "diag/slices_variance": 0.0 if m == "exact" else 0.3 / m,
                "diag/slices_cosine": 1.0 if m == "exact" else 1 / math.sqrt(1 + 400 / m),
            }
            ms = STEP[m] + 0.1 * row.seed
            for number in (1, 2, 3):
                cost = {"seconds": 4.0, "images_per_second": 1000 * BATCH / ms, "peak_memory_mb": 500.0 + number}
                ledger.add_epoch(row.key, row.epochs + number, metrics, cost)


def answers(folder):
    found = study(load(folder))
    arm = found.leads
    return [
        enough_slices.answer(found, one, step_cost.time(found, arm.cells)) for one in enough_slices.findings(found, arm)
    ]


# -- the answer -------------------------------------------------------------------------------------------------------


def test_a_planted_plateau_is_named_with_what_it_saves(tmp_path):
    (said,) = answers(slices_sweep(tmp_path / "s", rising(64)))
    assert said.startswith("M = 64 is equivalent to exact slices (")
    assert "n = 6 pairs of seeds" in said
    assert "saves 45 % [" in said  # 55 of 100 ms
    assert "of the step (100 → 55" in said
    assert "M = 16" not in said  # is decided to be worse


def test_three_noisy_seeds_are_not_decided_and_more_are_priced(tmp_path):
    (said,) = answers(slices_sweep(tmp_path / "s", rising(16), noise=3.0, seeds=range(3)))
    assert said.startswith("not decided: M = 16 differs from exact slices by ")
    assert "neither inside ±1 nor outside" in said


def test_where_every_smaller_number_is_worse_the_largest_is_taken(tmp_path):
    def truth(cell):
        m = cell["method.slices"]
        return 70.0 if m == "exact" else 40 + 2.5 * math.log2(m)

    (said,) = answers(slices_sweep(tmp_path / "s", truth))
    assert said.startswith("take exact slices: every smaller M is worse, M = 1024 by −5")


def test_a_smaller_number_that_is_better_counts_as_good(tmp_path):
    (said,) = answers(slices_sweep(tmp_path / "s", lambda cell: 60.0 if cell["method.slices"] == "exact" else 66.0))
    assert said.startswith("M = 16 is better than exact slices (+6")


def test_an_equivalent_number_below_one_that_is_worse_is_not_recommended(tmp_path):
    level = {16: 70.0, 64: 50.0, 256: 70.0, 1024: 70.0, "exact": 70.0}
    (said,) = answers(slices_sweep(tmp_path / "s", lambda cell: level[cell["method.slices"]]))
    assert said.startswith("M = 256 is equivalent to exact slices")


def test_without_the_largest_there_is_no_reference(tmp_path):
    (said,) = answers(slices_sweep(tmp_path / "s", rising(64), ends={(4, 1): "diverged"}))
    assert said == "not decided: exact slices have no result on all seeds (1 of 6 diverged)."


def test_a_number_with_a_diverged_seed_is_never_recommended(tmp_path):
    (said,) = answers(slices_sweep(tmp_path / "s", rising(64), ends={(1, 2): "diverged"}))
    assert said.startswith("M = 256 is equivalent")


def test_every_projector_dim_has_its_own_answer(tmp_path):
    def truth(cell):
        return rising(cell["projector.dim"])(cell)

    rest = [{"projector.dim": 64}, {"projector.dim": 256}]
    folder = slices_sweep(tmp_path / "s", truth, rest=rest)
    small, large = answers(folder)
    assert small.startswith("projector dim = 64: M = 64 is equivalent to exact slices")
    assert large.startswith("projector dim = 256: M = 256 is equivalent to exact slices")
    found = study(load(folder))
    assert not factor.sections(found)  # not shown twice
    assert not lambda_.sections(found)


def test_fewer_slices_that_are_slower_are_said_to_be_and_the_fastest_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(STEP, "exact", 52.0)
    (said,) = answers(slices_sweep(tmp_path / "s", rising(256)))
    assert "M = 256 is equivalent to exact slices" in said
    assert "makes the step 15 % longer (52" in said
    assert "of all that are as good, exact slices take the least time, 52" in said


def test_time_is_that_of_an_epoch_where_steps_were_not_timed(tmp_path):
    (said,) = answers(slices_sweep(tmp_path / "s", rising(64), measured=False))
    assert "is not shown to save time (0.4 → 0.4 s per epoch)" in said


def test_times_and_ratios_have_intervals_that_are_positive():
    logs = np.log([50.0, 50.0, 400.0])  # ms; as they are, Student's t would reach from −335 to 669
    half = 4.302652729911275 * logs.std(ddof=1) / math.sqrt(3)  # of Student's t at 2 degrees of freedom
    found = step_cost.geometric(pd.Series([50.0, 50.0, 400.0]))
    assert [found.low, found.mean, found.high] == pytest.approx(np.exp(logs.mean() + half * np.arange(-1, 2)))
    inverse = step_cost.geometric(1 / pd.Series([50.0, 50.0, 400.0]))
    assert (inverse.low, inverse.high) == pytest.approx((1 / found.high, 1 / found.low))  # either way round
    assert step_cost.geometric(pd.Series([0.0, 1.0])) is None


# -- the section ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    folder = slices_sweep(tmp_path_factory.mktemp("runs") / "s", rising(64))
    (found,) = slices.sections(study(load(folder)))
    return found


def table(section, name):
    return next(b for b in section.blocks if isinstance(b, Table) and b.name == name).frame()


def test_exact_stands_at_the_right_end_of_the_axis(section):
    figure = next(b for b in section.blocks if isinstance(b, Figure))
    ticks = [figure.svg.index(f">{name}</text>") for name in ("16", "1024", "exact")]
    assert ticks == sorted(ticks)
    assert isinstance(section.blocks[0], Prose)


def test_step_time_leaves_out_the_first_epoch_and_ratios_are_paired(section):
    frame = table(section, "slices-0-cost")
    assert frame["time of a step (ms) [95 % interval]"].tolist() == pytest.approx(
        [np.prod([STEP[m] + 0.1 * seed for seed in range(6)]) ** (1 / 6) for m in MS]
    )
    assert frame["times that of the most slices [95 % interval]"][0] == pytest.approx(0.5, abs=0.01)
    assert (frame["peak memory (MB)"] == 503).all()  # the most of the epochs


def test_the_noise_of_the_slices_is_shown_against_one_over_m(section):
    frame = table(section, "slices-0-cost")
    assert frame["variance / exact²"].tolist() == pytest.approx([0.3 / 16, 0.3 / 64, 0.3 / 256, 0.3 / 1024, 0])
    figures = {b.name: b for b in section.blocks if isinstance(b, Figure)}
    assert "∝ 1/M" in figures["slices-0-variance"].svg
    assert "exact" in figures["slices-0-cosine"].svg


def test_every_row_names_its_trials(section):
    assert (table(section, "slices-0-cost")["trial keys"].str.split().map(len) == 6).all()


def test_a_sweep_without_several_numbers_of_slices_has_no_such_section(tmp_path):
    assert slices.sections(study(load(write_sweep(tmp_path / "s", quickstart_arms())))) == []


def test_a_whole_report_of_a_sweep_of_slices_is_written(tmp_path):
    rest = [{"batch_size": 64}, {"batch_size": 128}]
    folder = slices_sweep(tmp_path / "s", rising(64), rest=rest, seeds=range(3), measured=False)
    page = build(folder).markdown.read_text()
    assert "## Slices in lejepa" in page
    assert "- batch size = 64: M = " in page
    assert "- batch size = 128: M = " in page
    assert "What fewer slices lose" not in page  # was not measured


# -- the sweep that it answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["cpu", "gpu", "paper"])
def test_the_shipped_sweep_asks_for_slices_in_every_profile(profile):
    path = Path(__file__).parents[2] / "sweeps" / "slices.yaml"
    spec = load_sweep(path, profile)
    values = {cell.values["method.slices"] for cell in spec.cells() if "method.slices" in cell.values}
    assert "exact" in values
    assert len(values) > 2
    assert "slices" in yaml.safe_load(path.read_text())["question"]
