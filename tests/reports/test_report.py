"""Sweeps with a planted truth, from the folder to the answer."""

import math
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.ledger import Ledger, LedgerError
from reports import LoadError, build, load
from reports.evidence import study
from reports.sections import card, gate, reproduce

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import (
    LAMBDAS,
    SyntheticArm,
    config_of,
    flat,
    hill,
    lambda_cells,
    quickstart_arms,
    write_environment,
    write_run,
    write_spec,
    write_sweep,
)

PAIR = ("lejepa", "vicreg")


class Decision:
    """What a report would say, without drawing and writing it."""

    def __init__(self, folder):
        found = study(load(folder))
        self.checks = gate.gate(found)
        self.card = card.card(found, self.checks)
        self.strength, self.answer = self.card.strength, self.card.answer


def result_of(report, check):
    return next(c.result for c in report.checks if c.name.lower().startswith(check))


def two_arms(a=70.0, b=64.0, **changes):
    return {"lejepa": SyntheticArm(flat(a), **changes), "vicreg": SyntheticArm(flat(b), "vicreg")}


# -- loading ----------------------------------------------------------------------------------------------------------


def test_a_sweep_is_loaded_as_tidy_frames(tmp_path):
    sweep = load(write_sweep(tmp_path / "s"))
    assert len(sweep.trials) == 27
    assert set(sweep.trials["arm"]) == {"lejepa", "vicreg", "random", "pixels"}
    assert sorted(sweep.trials["method.lamb"].dropna().unique()) == sorted(LAMBDAS)
    assert len(sweep.epochs) == 21 * 20 + 6
    assert sweep.epochs["train/sigreg"].notna().sum() == 18 * 20  # absent in other methods
    assert sweep.spec["name"] == "quickstart"
    assert sweep.environment["cores"] == 2
    first = sweep.trials.iloc[0]
    assert len(sweep.epochs_of([first["key"]])) == 20
    assert first["seconds"] == pytest.approx(8.0)


def test_the_last_measured_value_of_a_metric_is_the_trials_value(tmp_path):
    folder = write_sweep(tmp_path / "s", {"a": SyntheticArm(flat(50.0))}, seeds=(0,))
    with Ledger(folder / "ledger.db") as ledger:
        key = ledger.trials()[0].key
        ledger.add_epoch(key, 21, {"train/loss": 0.5}, {"seconds": 1.0})  # an epoch without an evaluation
    row = load(folder).trials.iloc[0]
    assert row["train/loss"] == 0.5
    assert row["val/shot1"] == pytest.approx(50, abs=5)


def test_a_folder_that_is_no_sweeps_is_refused_with_a_message(tmp_path):
    with pytest.raises(LoadError, match=r"no sweep\.yaml here"):
        load(tmp_path)
    (tmp_path / "sweep.yaml").write_text("name: x\nmetric: {name: val/shot1, mode: max}\n")
    with pytest.raises(LedgerError, match="there is no ledger here"):
        Decision(tmp_path)


# -- known truth ------------------------------------------------------------------------------------------------------


def test_a_planted_best_lambda_and_a_planted_difference_are_found(tmp_path):
    arms = quickstart_arms() | {"lejepa": SyntheticArm(hill(best=0.01), cells=lambda_cells())}
    report = Decision(write_sweep(tmp_path / "s", arms, contrast=PAIR))
    assert report.strength == "decided"
    assert report.answer.startswith("Use λ = 0.01: 1-shot test accuracy ")
    assert "(n = 3 seeds)" in report.answer
    assert "λ = 0 collapses" in report.answer
    assert "against vicreg (one setting, not tuned) the difference is +" in report.answer
    assert report.answer.endswith("decided, for lejepa.")
    assert result_of(report, "best value inside") == "pass"


def test_a_planted_loss_is_decided_for_the_other_arm(tmp_path):
    report = Decision(write_sweep(tmp_path / "s", two_arms(60.0, 66.0), contrast=PAIR))
    assert report.answer.endswith("decided, for vicreg.")


def test_planted_equivalence_is_called_equivalent(tmp_path):
    report = Decision(write_sweep(tmp_path / "s", two_arms(65.0, 65.2), noise=0.15, seeds=range(6), contrast=PAIR))
    assert report.strength == "equivalent"


def test_three_noisy_seeds_are_called_undecided_and_more_are_priced(tmp_path):
    report = Decision(write_sweep(tmp_path / "s", two_arms(66.0, 65.0), noise=3.0, contrast=PAIR))
    assert report.strength == "undecided"
    assert "--set seeds=" in report.card.command
    assert "device time" in report.card.command_note


def test_the_interval_of_the_answer_is_the_paired_student_interval_on_test(tmp_path):
    folder = write_sweep(tmp_path / "s", two_arms(), contrast=PAIR)
    trials = load(folder).trials.set_index(["arm", "seed"])["test/shot1"]
    differences = (trials["lejepa"] - trials["vicreg"]).to_numpy()
    half = 4.302652729911275 * differences.std(ddof=1) / math.sqrt(3)
    found = study(load(folder)).primary.estimate
    assert found.mean == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - half)


def test_validation_selects_and_test_judges(tmp_path):
    arms = {
        "a": SyntheticArm(
            lambda cell: 60.0 + cell["optimizer.lr"], cells=[{"optimizer.lr": v} for v in (1.0, 2.0, 3.0)]
        )
    }
    folder = write_sweep(tmp_path / "s", arms)
    with Ledger(folder / "ledger.db") as ledger:  # validation prefers what test does not
        for place in ledger.assignments():
            value = 90.0 if place.cell["optimizer.lr"] == 2.0 else 40.0
            ledger.add_epoch(place.key, 21, {"val/shot1": value}, {"seconds": 0.4})
    found = study(load(folder))
    assert found.leads.selected.values == {"optimizer.lr": 2.0}
    assert found.leads.selected.estimate.mean == pytest.approx(62.0, abs=2.5)


def test_a_smaller_metric_wins_where_the_sweep_minimises(tmp_path):
    folder = write_sweep(tmp_path / "s", two_arms(3.0, 9.0), noise=0.1, rope=0.5, contrast=PAIR, metric="val/error")
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    spec["metric"]["mode"] = "min"
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec))
    report = Decision(folder)
    assert report.answer.endswith("decided, for lejepa.")
    assert "%" not in report.answer


def test_every_lambda_that_collapses_is_named_in_the_answer(tmp_path):
    folder = write_sweep(tmp_path / "s", contrast=PAIR)
    with Ledger(folder / "ledger.db") as ledger:
        for place in ledger.assignments():
            if place.cell.get("method.lamb") == 0.002:
                ledger.add_epoch(place.key, 21, {"diag/collapsed": 1.0}, {"seconds": 0.4})
    decision = Decision(folder)
    assert "; every tried λ up to 0.002 collapses;" in decision.answer
    assert result_of(decision, "infeasible") == "warn"


# -- the gate ---------------------------------------------------------------------------------------------------------


def test_an_unfair_training_budget_is_called_invalid(tmp_path):
    report = Decision(write_sweep(tmp_path / "s", two_arms(epochs=40), contrast=PAIR))
    assert report.strength == "invalid"
    assert result_of(report, "equal training budget") == "fail"
    assert report.answer.startswith("No valid answer: “Equal training budget” fails: lejepa: 40 epochs")


def test_a_contrast_across_encoders_is_called_invalid(tmp_path):
    report = Decision(write_sweep(tmp_path / "s", two_arms(encoder="small_vit"), contrast=PAIR))
    assert report.strength == "invalid"
    assert result_of(report, "contrast within one encoder") == "fail"


def test_arms_of_different_encoders_are_never_in_one_table_and_each_has_its_floors(tmp_path):
    arms = quickstart_arms() | {
        "lejepa-vit": SyntheticArm(hill(66.0), cells=lambda_cells(), encoder="small_vit"),
        "random-vit": SyntheticArm(flat(40.0), "random", encoder="small_vit"),
    }
    report = build(write_sweep(tmp_path / "s", arms, contrast=PAIR))
    tables = {t.name: {row[0].raw for row in t.rows} for s in report.document.sections if s.id == "methods"
              for t in s.blocks if type(t).__name__ == "Table"}  # fmt: skip
    assert tables == {
        "methods-0": {"lejepa", "vicreg", "random", "pixels"}, "methods-1": {"lejepa-vit", "random-vit"}
    }  # fmt: skip
    assert report.strength == "decided"


def test_different_trainer_code_in_the_two_arms_is_called_invalid(tmp_path):
    folder = write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(flat(70.0))}, contrast=PAIR)
    add_arm(folder, "vicreg", SyntheticArm(flat(64.0), "vicreg"), code="beef" * 16)
    report = Decision(folder)
    assert result_of(report, "same trainer code") == "fail"
    assert report.strength == "invalid"


def test_code_that_changed_between_run_and_resume_is_warned_of(tmp_path):
    folder = write_sweep(tmp_path / "s", two_arms(), contrast=PAIR)
    with Ledger(folder / "ledger.db") as ledger:
        ledger.add_event("code_changed", old="c0de" * 16, new="beef" * 16)
    report = Decision(folder)
    assert result_of(report, "same trainer code") == gate.WARN
    assert "c0dec0dec0de → beefbeefbeef" in next(c.finding for c in report.checks if c.name.startswith("Same trainer"))


def add_arm(folder, name, arm, code="c0de" * 16, data="da7a" * 16, purpose="evidence", seeds=(0, 1, 2)):
    rng = np.random.default_rng(3)
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for ordinal, seed in enumerate(seeds):
            for index, cell in enumerate(arm.cells):
                key = f"{name}-{index}-{seed}-{purpose}"
                config = config_of(arm, cell, seed)
                ledger.add_trial(key, config, seed, arm.epochs, data, code)
                ledger.assign(name, cell, 0, ordinal, purpose, key)
                level = arm.truth(cell) + float(rng.normal(0, 0.5))
                write_run(ledger, rng, key, config, level, arm.epochs, "finished", "val/shot1")


def test_another_data_fingerprint_in_one_arm_is_called_invalid(tmp_path):
    folder = write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(flat(70.0))}, contrast=PAIR)
    add_arm(folder, "vicreg", SyntheticArm(flat(64.0), "vicreg"), data="0ther")
    assert result_of(Decision(folder), "same data") == "fail"


def test_a_diverged_seed_is_counted_and_its_cell_gets_no_mean(tmp_path):
    cells = lambda_cells((0.01, 0.05, 0.2))
    arms = quickstart_arms() | {"lejepa": SyntheticArm(hill(best=0.2), cells=cells, ends={(2, 1): "diverged"})}
    folder = write_sweep(tmp_path / "s", arms, contrast=PAIR)
    found = study(load(folder))
    broken = next(cell for cell in found.leads.cells if cell.values["method.lamb"] == 0.2)
    assert broken.estimate is None
    assert broken.losses == "1 of 3 diverged"
    assert found.leads.selected.values["method.lamb"] == 0.05  # the best of the cells that are whole
    assert result_of(Decision(folder), "infeasible") == "warn"


def test_an_arm_with_a_diverged_seed_and_no_other_cell_makes_the_report_invalid(tmp_path):
    report = build(write_sweep(tmp_path / "s", two_arms(ends={(0, 2): "diverged"}), contrast=PAIR))
    assert report.strength == "invalid"
    assert "1 of 3 diverged" in report.markdown.read_text()


@pytest.mark.parametrize("state", ["waiting", "failed", "running"])
def test_a_trial_of_a_compared_arm_that_has_not_finished_makes_the_report_invalid(tmp_path, state):
    report = Decision(write_sweep(tmp_path / "s", two_arms(ends={(0, 0): state}), contrast=PAIR))
    assert report.strength == "invalid"
    assert result_of(report, "every planned trial") == "fail"
    wanted = "harness show" if state == "failed" else "harness resume"
    assert report.card.command.startswith(wanted)


def test_a_best_lambda_at_the_edge_of_the_grid_is_warned_of_though_zero_lies_below(tmp_path):
    arms = quickstart_arms() | {"lejepa": SyntheticArm(hill(best=0.002), cells=lambda_cells())}
    report = Decision(write_sweep(tmp_path / "s", arms, contrast=PAIR))
    assert result_of(report, "best value inside") == "warn"


def test_one_seed_gives_no_interval_and_no_decision(tmp_path):
    report = Decision(write_sweep(tmp_path / "s", seeds=(0,), contrast=PAIR))
    assert report.strength == "undecided"
    assert result_of(report, "seeds") == "warn"
    assert "(n = 1 seed)" in report.answer


def test_an_arm_that_does_not_beat_the_random_encoder_is_warned_of(tmp_path):
    arms = {**two_arms(70.0, 41.0), "random": SyntheticArm(flat(40.5), "random")}
    warned = Decision(write_sweep(tmp_path / "a", arms, contrast=PAIR))
    assert result_of(warned, "trained arms") == gate.WARN
    finding = next(c.finding for c in warned.checks if c.name.startswith("Trained arms"))
    assert finding.startswith("not shown, as the interval of the gain holds 0: vicreg (")
    arms["vicreg"] = SyntheticArm(flat(64.0), "vicreg")
    assert result_of(Decision(write_sweep(tmp_path / "b", arms, contrast=PAIR)), "trained arms") == gate.PASS


def test_curves_that_still_rise_are_warned_of(tmp_path):
    folder = write_sweep(tmp_path / "s", two_arms(), contrast=PAIR)
    with Ledger(folder / "ledger.db") as ledger:
        for place in ledger.assignments():
            for epoch in range(21, 26):
                ledger.add_epoch(place.key, epoch, {"val/shot1": 70.0 + 2 * epoch}, {"seconds": 0.4})
    assert result_of(Decision(folder), "curves have settled") == "warn"


def test_a_dirty_worktree_is_warned_of_and_printed(tmp_path):
    git = {"sha": "abcdef123456", "dirty": True, "diff": "feed" * 16}
    folder = write_sweep(tmp_path / "s", git=git, contrast=PAIR)
    assert result_of(Decision(folder), "clean worktree") == "warn"
    assert "feedfeed" in str(reproduce.section(study(load(folder))).blocks)


def test_a_ledger_without_trials_and_one_without_results_still_give_a_page(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    write_spec(folder, ["a"], [0], None, 1.0, "val/shot1", "?")
    write_environment(folder, None)
    Ledger(folder / "ledger.db").close()
    assert build(folder).strength == "invalid"
    waiting = {(0, seed): "waiting" for seed in range(3)}
    report = build(write_sweep(tmp_path / "s", {"a": SyntheticArm(flat(1.0), ends=waiting)}))
    assert report.strength == "invalid"
    assert "3 waiting of 3 trials" in report.answer


# -- other designs ----------------------------------------------------------------------------------------------------


def test_search_trials_never_enter_the_evidence(tmp_path):
    folder = write_sweep(tmp_path / "s", two_arms(), contrast=PAIR)
    before = study(load(folder)).primary.estimate
    add_arm(folder, "lejepa", SyntheticArm(flat(99.0)), purpose="search", seeds=(7, 8))
    found = study(load(folder))
    assert found.primary.estimate == before
    assert len(found.leads.cells[0].everything) == 5
    report = Decision(folder)
    assert report.strength == "invalid"  # only one of the two arms was tuned
    assert result_of(report, "equal tuning budget") == "fail"


def test_a_cell_that_was_searched_but_not_confirmed_is_said_to_have_no_evidence(tmp_path):
    folder = write_sweep(tmp_path / "s", {"a": SyntheticArm(flat(70.0), cells=[{"method.slices": 64}])})
    add_arm(folder, "a", SyntheticArm(flat(60.0), cells=[{"method.slices": 8}]), purpose="search")
    page = build(folder).markdown.read_text()
    assert "no evidence" in page


def test_of_several_confirmed_configurations_validation_chooses_one(tmp_path):
    folder = write_sweep(tmp_path / "s", {"a": SyntheticArm(flat(60.0))})
    add_arm(folder, "a", SyntheticArm(flat(80.0), epochs=19), purpose="confirm")
    cell = study(load(folder)).leads.selected
    assert (cell.candidates, cell.planned) == (2, 3)
    assert cell.estimate.mean == pytest.approx(80, abs=1)


def test_a_categorical_factor_gets_a_dot_plot_and_an_answer(tmp_path):
    cells = [{"views.recipe": name} for name in ("paper", "crop", "digits")]
    level = {"paper": 60.0, "crop": 62.0, "digits": 71.0}
    arms = {"lejepa": SyntheticArm(lambda cell: level[cell["views.recipe"]], cells=cells)}
    report = build(write_sweep(tmp_path / "s", arms))
    assert report.answer.startswith("Use views.recipe = digits: ")
    assert report.strength == "decided"
    assert (report.html.parent / "figures" / "factor-0.png").stat().st_size > 5000


def test_factors_whose_values_are_lists_or_parts_of_the_config_are_compared_too(tmp_path):
    cells = [{"views.global_scale": [low, 1.0], "encoder": {"name": name}} for low, name in ((0.3, "a"), (0.5, "b"))]
    level = {0.3: 60.0, 0.5: 70.0}
    arms = {"lejepa": SyntheticArm(lambda cell: level[cell["views.global_scale"][0]], cells=cells)}
    page = build(write_sweep(tmp_path / "s", arms)).markdown.read_text()
    assert "0.5, 1.0" in page


def test_two_factors_are_drawn_as_one_line_per_value_of_the_second(tmp_path):
    cells = [{"method.lamb": lamb, "method.slices": m} for lamb in (0, 0.01, 0.05, 0.2) for m in (64, 1024)]
    report = build(write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(hill(), cells=cells)}))
    svg = (report.html.parent / "figures" / "lambda-0.svg").read_text()
    assert "slices M = 64" in svg
    assert "slices M = 1024" in svg


def test_every_aggregated_row_names_the_trials_it_came_from(report):
    frame = pd.read_csv(report.html.parent / "tables" / "lambda-0-cells.csv")
    assert (frame["trial keys"].str.split().map(len) == 3).all()
    key = frame["trial keys"][0].split()[0]
    assert f'href="#trial-{key}"' in report.html.read_text()
    assert f'id="trial-{key}"' in report.html.read_text()


def test_the_csv_of_a_figure_holds_every_seed(report):
    frame = pd.read_csv(report.html.parent / "figures" / "lambda-0.csv")
    assert len(frame) == 18
    assert {"method.lamb", "seed", "val/shot1", "test/shot1", "outcome"} <= set(frame)


def test_the_ceiling_follows_the_batch_and_the_floor_is_drawn(report):
    svg = (report.html.parent / "figures" / "losses.svg").read_text()
    assert "ceiling 51.5: collapsed" in svg  # 0.402 · 128
    assert "floor 1.05: isotropic Gaussian" in svg


def test_provenance_is_printed(report):
    page = report.markdown.read_text()
    for text in ("0123456789abcdef", "torch 2.14.1", "A processor, 2 cores", "da7ada7a", "harness run quickstart"):
        assert text in page


def test_commands_name_the_folder_as_it_was_given(tmp_path, monkeypatch):
    folder = write_sweep(tmp_path / "runs" / "s", two_arms(), contrast=PAIR)
    said = Decision(folder).card.command
    assert said.startswith(f"harness run {folder}/sweep.yaml ")
    monkeypatch.chdir(tmp_path)
    for given in (Path("runs/s"), folder):  # where this machine keeps its runs is nobody's business
        assert Decision(given).card.command.startswith("harness run runs/s/sweep.yaml ")
    monkeypatch.chdir(tmp_path / "runs")
    assert Decision(Path("s")).card.command.startswith("harness run s/sweep.yaml ")


def test_trials_from_earlier_sweeps_are_counted_apart_in_the_cost(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    with sqlite3.connect(folder / "ledger.db") as db:
        db.execute("""
            UPDATE events SET payload = json_set(payload, '$.reused', 'runs/earlier')
            WHERE kind = 'finished' AND key IN (SELECT key FROM assignments WHERE arm = 'vicreg')""")
    db.close()
    (cost,) = [text for label, text, _ in Decision(folder).card.facts if label == "Cost"]
    assert cost.endswith("; 3 trials of these (24 s) were taken from earlier sweeps, not run again")


def test_a_report_says_where_its_trials_stand_in_mlflow(tmp_path: Path) -> None:
    said = reproduce.section(study(load(write_sweep(tmp_path / "s"))))
    assert "experiment quickstart in mlflow.db beside the sweep" in str(said.blocks)
