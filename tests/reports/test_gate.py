"""What the gate lets pass, what it warns of, and what it refuses."""

import sys
from pathlib import Path

import pytest
import yaml

from harness.ledger import Ledger
from reports import load
from reports.evidence import study
from reports.sections import gate

sys.path.insert(0, str(Path(__file__).parent))
from planted import Searched, write_searched
from synthetic import SyntheticArm, flat, lambda_cells, write_sweep

PAIR = ("lejepa", "vicreg")
LR = {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}}


def found(folder, check):
    checks = gate.gate(study(load(folder)))
    return next((c for c in checks if c.name.lower().startswith(check)), None)


def amend(folder, **keys):
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**spec, **keys}))
    return folder


def two_arms(**changes):
    return {"lejepa": SyntheticArm(flat(70.0), **changes), "vicreg": SyntheticArm(flat(64.0), "vicreg")}


def searched(tmp_path, a=None, b=None, **keys):
    arms = {"lejepa": a or Searched(lambda study, ordinal: 70.0 + ordinal / 10, "lejepa"),
            "vicreg": b or Searched(lambda study, ordinal: 64.0 + ordinal / 10)}  # fmt: skip
    return write_searched(tmp_path / "s", arms, contrast=PAIR, **keys)


def with_nuisance(folder, **nuisance):
    return amend(folder, arms={name: {"nuisance": {**LR, **nuisance}, "scientific": {}} for name in PAIR})


# -- edges of searched ranges -----------------------------------------------------------------------------------------


def winner(folder, arm, value):
    """Make the confirmed learning rate of an arm known: its position in the space decides."""
    sweep = load(folder)
    confirmed = sweep.trials[(sweep.trials["arm"] == arm) & (sweep.trials["purpose"] == "confirm")]
    for key in confirmed["key"]:
        sweep.configs[key]["optimizer"]["lr"] = value
    return sweep


@pytest.mark.parametrize(
    ("value", "result"),
    [(1.05e-4, "warn"), (9.9e-3, "warn"), (2e-4, "pass"), (1e-3, "pass"), (7e-3, "pass")],  # 5 % of two decades: 1.26
)
@pytest.mark.parametrize("arm", PAIR)
def test_a_searched_value_near_an_end_of_its_range_is_warned_of_on_either_side(tmp_path, value, result, arm):
    folder = with_nuisance(searched(tmp_path))
    sweep = winner(folder, arm, value)
    other = next(name for name in PAIR if name != arm)
    for row in sweep.trials.itertuples():
        if row.arm == other:
            sweep.configs[row.key]["optimizer"]["lr"] = 1e-3
    check = next(c for c in gate.gate(study(sweep)) if c.name.startswith("Searched parameters"))
    assert check.result == result
    if result == "warn":
        assert f"learning rate of {arm} is {value:.6g}, and 0.0001 to 0.01 was searched" in check.finding
        assert len(check.keys) == 10


def test_a_sweep_that_searched_nothing_has_no_such_check(tmp_path):
    assert found(write_sweep(tmp_path / "s", two_arms(), contrast=PAIR), "searched parameters") is None


def test_a_chosen_number_at_the_end_of_a_list_is_warned_of_and_a_word_is_not(tmp_path):
    folder = with_nuisance(
        searched(tmp_path), batch_size={"choice": [128, 256, 512]}, **{"views.recipe": {"choice": ["a", "b", "c"]}}
    )
    check = found(folder, "searched parameters")
    assert check.result == "warn"
    assert "batch size of lejepa is 128, and 128 to 512 was searched" in check.finding
    assert "recipe" not in check.finding


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_equal_searches_pass_and_an_unfair_one_fails(tmp_path):
    assert found(searched(tmp_path), "equal tuning").result == "pass"
    unfair = searched(tmp_path / "unfair", b=Searched(lambda study, ordinal: 64.0, trials=8))
    check = found(unfair, "equal tuning")
    assert check.result == "fail"
    assert check.finding == "searched: lejepa 320 epochs and vicreg 160 epochs"


def test_search_trials_that_have_not_ended_are_no_budget(tmp_path):
    """Half of one arm's search still waits: what was planned is equal, what could be chosen from is not."""
    waits = {(1, ordinal): "waiting" for ordinal in range(16)}
    folder = searched(tmp_path, b=Searched(lambda study, ordinal: 64.0, ends=waits))
    assert found(folder, "equal tuning").result == "fail"


def test_equal_searches_that_did_not_come_to_their_end_are_warned_of(tmp_path):
    last = {(1, 15): "waiting"}
    folder = searched(
        tmp_path, Searched(lambda study, ordinal: 70.0, "lejepa", ends=last), Searched(lambda s, o: 64.0, ends=last)
    )
    check = found(folder, "equal tuning")
    assert check.result == "warn"
    assert "lejepa 31 of 32 search trials" in check.finding


def test_search_trials_that_were_never_asked_for_are_missed(tmp_path):
    folder = with_nuisance(searched(tmp_path))
    assert found(folder, "equal tuning").result == "pass"
    amend(folder, search={"sampler": "tpe", "trials": 20, "studies": 2})
    check = found(folder, "equal tuning")
    assert check.result == "warn"
    assert "lejepa 32 of 40 search trials" in check.finding


def test_a_batch_size_that_was_searched_is_no_unfair_budget(tmp_path):
    folder = write_sweep(tmp_path / "s", two_arms(), contrast=PAIR)
    sweep = load(folder)
    for row in sweep.trials.itertuples():
        if row.arm == "vicreg":
            sweep.configs[row.key]["batch_size"] = 512
    assert next(c for c in gate.gate(study(sweep)) if c.name.startswith("Equal training")).result == "fail"
    sweep.spec["arms"]["vicreg"] = {"nuisance": {"batch_size": {"choice": [128, 512]}}}
    check = next(c for c in gate.gate(study(sweep)) if c.name.startswith("Equal training"))
    assert (check.result, check.finding) == (
        "pass",
        "20 epochs and 2 global views per trial (batch_size varied by design)",
    )


# -- infeasible and missing -------------------------------------------------------------------------------------------


def test_trials_lost_in_the_search_are_counted_and_warned_of_where_they_are_most(tmp_path):
    some = {(0, ordinal): "diverged" for ordinal in range(4)}
    few = found(searched(tmp_path, b=Searched(lambda study, ordinal: 64.0, ends=some)), "infeasible")
    assert few.result == "pass"
    assert "4 of 64 search trials" in few.finding
    most = {(study, ordinal): "diverged" for study in range(2) for ordinal in range(15)}
    arms = [Searched(lambda study, ordinal: 64.0, method, ends=most) for method in PAIR]
    assert found(searched(tmp_path / "most", *arms), "infeasible").result == "warn"


def test_a_cell_that_the_ledger_does_not_have_is_missed(tmp_path):
    arms = two_arms() | {"lejepa": SyntheticArm(lambda cell: 70.0, cells=lambda_cells((0.01, 0.05)))}
    folder = write_sweep(tmp_path / "s", arms, contrast=PAIR)
    grid = {"scientific": {"method.lamb": {"grid": [0.01, 0.05, 0.2]}}}
    assert found(folder, "every planned").result == "pass"
    amend(folder, arms={"lejepa": grid, "vicreg": {}})
    check = found(folder, "every planned")
    assert (check.result, check.finding) == (
        "fail",
        "the sweep asks for what the ledger does not have: 1 cell of lejepa",
    )
    amend(folder, arms={"lejepa": {}, "vicreg": {}, "byol": {}})
    assert found(folder, "every planned").result == "warn"  # not one of the two that are compared


def test_a_contrast_that_names_no_arm_fails_though_nothing_else_is_missing(tmp_path):
    folder = amend(write_sweep(tmp_path / "s", two_arms()), contrast=["lejepa", "vicrag"])
    check = found(folder, "every planned")
    assert check.result == "fail"
    assert "vicrag: no such arm" in check.finding


# -- what a training is given ------------------------------------------------------------------------------------------


def test_a_method_that_masks_patches_may_see_one_view_and_other_methods_may_not(tmp_path):
    for other, verdict in (("ijepa", "warn"), ("simclr", "fail")):
        arms = {"lejepa": SyntheticArm(flat(70.0)), other: SyntheticArm(flat(64.0), other, views=1)}
        folder = write_sweep(tmp_path / other, arms, contrast=("lejepa", other))
        assert found(folder, "equal training budget").result == verdict


def test_a_method_that_masks_patches_owes_the_same_epochs_as_others(tmp_path):
    arms = {"lejepa": SyntheticArm(flat(70.0)), "ijepa": SyntheticArm(flat(64.0), "ijepa", epochs=40)}
    folder = write_sweep(tmp_path / "s", arms, contrast=("lejepa", "ijepa"))
    assert found(folder, "equal training budget").result == "fail"


def test_a_sweep_that_its_budget_ended_is_warned_of_and_one_in_time_does_not_repeat(tmp_path):
    folder = write_sweep(tmp_path / "s", two_arms(), contrast=PAIR)
    assert found(folder, "budget left") is None
    for repeats in (True, False):
        with Ledger(folder / "ledger.db") as ledger:
            ledger.add_event("budget_spent", budget="device_seconds", limit=90.0, used=91.0, repeats=repeats)
        check = found(folder, "budget left")
        assert check.result == "warn"
        assert "device seconds of 90 used up" in check.finding
        assert ("each time it is run" in check.finding) is not repeats


def test_values_under_a_condition_are_not_missed_where_they_do_not_apply(tmp_path):
    arms = {
        "lejepa": SyntheticArm(flat(70.0), cells=lambda_cells([0.01, 0.1])),
        "vicreg": SyntheticArm(flat(64.0), "vicreg"),
    }
    folder = write_sweep(tmp_path / "s", arms, contrast=PAIR)
    when = {"method.lamb": {"grid": [0.01, 0.1], "when": {"arm": "lejepa"}}}
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    spec["arms"]["lejepa"]["scientific"] = when
    amend(folder, arms=spec["arms"])
    assert found(folder, "every planned trial").result == "pass"
