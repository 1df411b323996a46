"""What the gate says of what training came to, of what was not measured, and of data that differ."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reports import load
from reports.evidence import study
from reports.sections import caveats, checklist, gate

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, hill, lambda_cells, write_sweep

PAIR = ("lejepa", "vicreg")
LEARNED, SETTLED, AGREE = "Trained arms beat", "Curves have settled", "Training loss and probe"


def two_arms(b=64.0, **changes):
    return {"lejepa": SyntheticArm(flat(70.0), **changes), "vicreg": SyntheticArm(flat(b), "vicreg", **changes)}


def written(folder, arms=None, **keys):
    return study(load(write_sweep(folder, arms or two_arms(), **{"contrast": PAIR, **keys})))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return written(tmp_path_factory.mktemp("plain") / "s")


@pytest.fixture(scope="module")
def with_floor(tmp_path_factory):
    """Three seeds; the random encoder has 40.0 in each."""
    arms = {**two_arms(), "random": SyntheticArm(flat(40.0), "random", noise=0.0)}
    return written(tmp_path_factory.mktemp("floor") / "s", arms)


def check(found, name):
    return next((one for one in gate.gate(found) if one.name.startswith(name)), None)


def judged(found, arm, values):
    """The study with these test values for the seeds of an arm."""
    trials = found.sweep.trials.copy()
    mine = trials.index[trials["arm"] == arm]
    trials.loc[mine, "test/shot1"] = values
    return study(replace(found.sweep, trials=trials))


def probed_at(found, *epochs):
    """The study as if validation had been read at these epochs only."""
    rows = found.sweep.epochs.copy()
    rows.loc[~rows["epoch"].isin(epochs), "val/shot1"] = float("nan")
    return study(replace(found.sweep, epochs=rows))


def answered(found, question):
    """(✓ holds | ! limits | ✕ fails, what is said) of a line of the checklist."""
    section = checklist.section(found, gate.gate(found))
    rows = next(block.rows for block in section.blocks if hasattr(block, "rows"))
    return next(((row[0].text, row[2].text) for row in rows if row[1].text.startswith(question)), None)


# -- against the random encoder ---------------------------------------------------------------------------------------


def test_a_gain_whose_interval_is_wide_is_not_shown_and_nothing_more(with_floor):
    found = check(judged(with_floor, "vicreg", [60.0, 41.0, 48.0]), LEARNED)
    assert found.result == "warn"
    assert "not shown, as the interval of the gain holds 0: vicreg (+9.7 [" in found.finding
    assert "nothing was learned" not in found.finding
    assert "lejepa" not in found.finding


def test_nothing_was_learned_where_the_interval_ends_inside_the_rope(with_floor):
    found = check(judged(with_floor, "vicreg", [40.1, 39.9, 40.0]), LEARNED)
    assert found.result == "warn"
    assert "nothing was learned that the probe reads" in found.finding
    assert "vicreg (0.0 [−0.2, 0.2] points, n = 3)" in found.finding.replace("+0.0", "0.0")
    assert "not shown" not in found.finding


def test_an_arm_is_named_with_the_encoder_in_which_nothing_was_shown(tmp_path):
    arms = {
        "lejepa": SyntheticArm(flat(70.0)), "vicreg": SyntheticArm(flat(64.0), "vicreg"),
        "random": SyntheticArm(flat(40.0), "random", noise=0.0),
        "simclr": SyntheticArm(flat(64.0), "simclr", encoder="small_vit"),
        "random-vit": SyntheticArm(flat(40.0), "random", encoder="small_vit", noise=0.0),
    }  # fmt: skip
    found = check(judged(written(tmp_path / "s", arms), "simclr", [60.0, 41.0, 48.0]), LEARNED)
    assert "holds 0: simclr in small_vit (+9.7 [" in found.finding


def test_without_a_random_encoder_it_is_not_known_whether_anything_was_learned(plain):
    assert check(plain, LEARNED).result == "unmeasured"
    assert answered(plain, "Was anything learned?") == ("! limits", "not measured: no random encoder was evaluated")


def test_one_arm_without_an_interval_keeps_the_others_from_passing_for_it(with_floor):
    trials = with_floor.sweep.trials.copy()
    gone = (trials["arm"] == "vicreg") & (trials["seed"] > 0)
    found = check(study(replace(with_floor.sweep, trials=trials[~gone])), LEARNED)
    assert found.result == "unmeasured"
    assert found.finding.endswith("; not measured in vicreg: one seed has no interval")
    assert "above 0: lejepa (+" in found.finding


# -- curves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        ((20,), "not measured: probed at epoch 20 of 20 only"),
        ((10, 20), "probed at epochs 10 and 20 of 20 only, "),
        ((1, 2, 20), "not measured: not probed between epochs 10 and 16 of 20"),
        ((), "not measured: 1-shot validation accuracy was not recorded"),
    ],
)
def test_curves_that_were_hardly_probed_are_not_called_settled(plain, epochs, said):
    found = probed_at(plain, *epochs)
    assert check(found, SETTLED).result == "unmeasured"
    assert said in check(found, SETTLED).finding
    assert check(found, AGREE).result == "unmeasured"
    assert answered(found, "Had training settled")[0] == "! limits"


def test_curves_that_were_probed_all_along_are_judged_by_what_they_gained(plain):
    rows = plain.sweep.epochs.copy()
    rows["val/shot1"] = 50 + 0.1 * rows["epoch"]
    found = study(replace(plain.sweep, epochs=rows))
    assert [check(found, name).result for name in (SETTLED, AGREE)] == ["pass", "pass"]
    assert "lejepa +0.4 points since epoch 16 of 20" in check(found, SETTLED).finding
    assert answered(found, "Had training settled")[0] == "✓ holds"


def test_one_curve_that_rises_is_warned_of_though_the_other_was_not_measured(plain):
    rows = plain.sweep.epochs.copy()
    keys = dict(zip(plain.sweep.trials["key"], plain.sweep.trials["arm"], strict=True))
    arm = rows["key"].astype(object).map(keys)
    rows.loc[arm == "lejepa", "val/shot1"] = 2.0 * rows["epoch"]
    rows.loc[(arm == "vicreg") & (rows["epoch"] < 20), "val/shot1"] = float("nan")
    one = check(study(replace(plain.sweep, epochs=rows)), SETTLED)
    assert one.result == "warn"
    assert one.finding == (
        "still rising: lejepa +8 points since epoch 16 of 20; longer training may change the order; "
        "not measured in vicreg: probed at epoch 20 of 20 only"
    )


def test_what_was_not_measured_comes_back_under_what_the_report_does_not_say(plain):
    found = probed_at(plain, 20)
    said = caveats.caveats(found, gate.gate(found))
    assert "Curves have settled: not measured: probed at epoch 20 of 20 only." in said


def test_the_tally_of_the_gate_counts_what_was_not_measured(plain):
    checks = gate.gate(probed_at(plain, 20))
    assert gate.tally(checks).endswith("0 fail and 3 not measured")  # both curves, and no random encoder
    assert gate.failures(checks) == []


# -- nothing to go by -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["failed", "waiting"])
def test_without_any_evidence_no_check_of_it_holds_or_warns(tmp_path, state):
    arms = two_arms(ends={(0, seed): state for seed in range(3)})
    found = written(tmp_path / "s", arms)
    by_name = {one.name.split(" ")[0]: one for one in gate.gate(found)}
    assert by_name["Every"].result == "fail"
    for name in ("Same", "Seeds", "Selected", "Infeasible", "Curves", "Training"):
        assert by_name[name].result == "unmeasured", name
        assert by_name[name].finding.startswith("not measured: ")
    assert not any("looks better" in one.finding for one in by_name.values())


def test_one_side_alone_is_no_comparison(tmp_path):
    arms = two_arms() | {"vicreg": SyntheticArm(flat(64.0), "vicreg", ends={(0, seed): "waiting" for seed in range(3)})}
    found = check(written(tmp_path / "s", arms), "Same data")
    assert (found.result, found.finding) == (
        "unmeasured", "not measured: of what is compared, only lejepa has finished trials"
    )  # fmt: skip


# -- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """Two arms on 1000 and on 2000 images."""
    cells = [{"data.limit": n} for n in (1000, 2000)]
    arms = {name: SyntheticArm(flat(level), name, cells) for name, level in (("lejepa", 70.0), ("vicreg", 64.0))}
    return written(tmp_path_factory.mktemp("sizes") / "s", arms)


def with_data(found, fingerprints, compared=(2000, 2000)):
    """`fingerprints`: (arm, images) → that of its data. `compared`: the images of either arm that are best."""
    trials = found.sweep.trials.copy()
    places = list(zip(trials["arm"], trials["data.limit"], strict=True))
    trials["data"] = [fingerprints[place] for place in places]
    trials["val/shot1"] = [70.0 if n == compared[PAIR.index(arm)] else 60.0 for arm, n in places]
    return study(replace(found.sweep, trials=trials))


ALIKE = {("lejepa", 1000): "aaaa", ("vicreg", 1000): "aaaa", ("lejepa", 2000): "bbbb", ("vicreg", 2000): "bbbb"}


def test_data_under_study_are_compared_where_the_trials_have_the_same_of_it(sizes):
    found = check(with_data(sizes, ALIKE), "Same data")
    assert (found.result, found.finding) == ("pass", "one data fingerprint: bbbb")


def test_other_data_at_the_same_size_fail_though_the_size_is_under_study(sizes):
    found = check(with_data(sizes, ALIKE | {("vicreg", 2000): "0ther"}), "Same data")
    assert found.result == "fail"
    assert "differs between lejepa at data.limit = 2000 and vicreg at data.limit = 2000" in found.finding


def test_other_data_at_another_size_are_excused(sizes):
    found = check(with_data(sizes, ALIKE, compared=(1000, 2000)), "Same data")
    assert (found.result, found.finding) == (
        "pass", "the data fingerprint differs only with data.limit, which is under study"
    )  # fmt: skip


def test_other_data_at_a_size_that_is_not_compared_are_warned_of(sizes):
    found = check(with_data(sizes, ALIKE | {("vicreg", 1000): "0ther"}), "Same data")
    assert (found.result, found.finding) == (
        "warn", "2 different values of the data fingerprint among the evidence trials at one value of data.limit"
    )  # fmt: skip


# -- scales and choices -----------------------------------------------------------------------------------------------


def test_sizes_data_and_epochs_are_no_choice_and_have_no_best_value(tmp_path):
    cells = [{"data.limit": n} for n in (1000, 2000, 4000)]
    arms = {name: SyntheticArm(flat(level), name, cells) for name, level in (("lejepa", 70.0), ("vicreg", 64.0))}
    found = written(tmp_path / "s", arms)
    assert check(found, "Best value") is None
    one = check(found, "Equal tuning")
    assert (one.result, one.finding) == ("pass", "nothing was tuned: one setting of each arm")
    assert "lejepa and vicreg ran at given settings, not tuned: tuning may change that." in caveats.caveats(found, [])


def test_a_best_lambda_at_an_end_is_told_beside_a_scale(tmp_path):
    cells = [{"method.lamb": lamb, "data.limit": n} for lamb in (0.01, 0.05, 0.2) for n in (1000, 2000, 4000)]
    arms = {
        "lejepa": SyntheticArm(hill(best=1.0, fall=20.0), cells=cells),
        "vicreg": SyntheticArm(flat(64.0), "vicreg"),
    }
    one = check(written(tmp_path / "s", arms, seeds=(0,)), "Best value")
    assert (one.result, one.finding) == ("warn", "λ = 0.2 lies at the edge: the best value may lie beyond")


def test_arms_that_could_choose_among_equally_many_settings_are_told_how_many(tmp_path):
    arms = {
        "lejepa": SyntheticArm(hill(), cells=lambda_cells((0.01, 0.05))),
        "vicreg": SyntheticArm(flat(64.0), "vicreg", cells=[{"optimizer.lr": lr} for lr in (1e-3, 1e-2)]),
    }
    one = check(written(tmp_path / "s", arms), "Equal tuning")
    assert (one.result, one.finding) == ("pass", "nothing was searched; each arm was selected among 2 settings")


def test_a_checklist_question_that_nothing_was_asked_of_is_left_out(plain):
    assert answered(plain, "Were the ranges wide enough?") is None
    assert answered(plain, "Was the tuning budget equal?")[0] == "✓ holds"
