"""The card of a sweep that runs a table of the paper: what its strength rests on, and which sweep it proposes."""

import math
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from harness.sweep_file import load_sweep
from reports import load, shapes
from reports import statistics as st
from reports.evidence import study
from reports.sections import card, gate, next_sweep, paper_card, paper_next, question

sys.path.insert(0, str(Path(__file__).parent))
from planted import undrawn
from synthetic import SyntheticArm, flat
from test_paper import hill, sweep, views_and_lambdas

NARROW = (0.01, 0.02, 0.05)


def grown(folder, truth, lambdas=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), **more):
    """With the sweep file of a real folder: what arms compare stands above them, too."""
    ends = more.pop("ends", {})
    sweep(folder, {"lejepa": SyntheticArm(truth, cells=views_and_lambdas(lambdas), epochs=2, ends=ends)}, **more)
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    grids = {"views.global_views": [2, 4, 8], "views.local_views": [0], "method.lamb": list(lambdas)}
    factors = {path: {"grid": values} for path, values in grids.items()}
    base = {"method": {"name": "lejepa"}, "encoder": {"name": "small_resnet"}, "data": {"name": "digits"}, "epochs": 2}
    more = {"search": {}, "base": base, "scientific": factors, "arms": {"lejepa": {"scientific": factors}}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec | more, sort_keys=False))
    return folder


def carded(folder):
    found = question.focused(study(load(folder)))
    return card.card(found, gate.gate(found))


def proposed(folder, command):
    """The sweep that a command makes of the folder's file."""
    words = shlex.split(command)
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    return load_sweep(folder / "sweep.yaml", overrides=sets)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Words without their drawings."""
    monkeypatch.setattr("reports.sections.paper_card.against", undrawn)
    monkeypatch.setattr("reports.sections.paper_card.spots", undrawn)


# -- strength ---------------------------------------------------------------------------------------------------------


def test_a_shape_that_clearly_holds_is_decided_though_its_two_best_cells_are_alike(tmp_path):
    said = carded(grown(tmp_path / "s", hill(lambda v: 0.005 * v)))
    assert said.strength == st.DECIDED
    assert said.answer.startswith("The best λ grows with V here, too")
    assert "of 26 cells attempted at another setting than the published, so none can reproduce" in said.answer


def test_a_shape_that_clearly_does_not_hold_is_decided_too(tmp_path):
    said = carded(grown(tmp_path / "s", hill(lambda v: 0.02)))
    assert said.strength == st.DECIDED
    assert said.answer.startswith("The best λ does not grow with V here")


def test_an_undecided_shape_is_undecided_however_clear_the_best_cell_is(tmp_path):
    def cliff(c):
        return 90.0 if (c["views.global_views"], c["method.lamb"]) == (8, 0.05) else 50.0

    said = carded(grown(tmp_path / "s", cliff, noise=1.0))
    assert said.strength == st.UNDECIDED
    assert said.figure is not None
    assert said.figure.name == "effect"


def test_a_failed_check_leaves_no_verdict_to_the_shapes_either(tmp_path):
    said = carded(grown(tmp_path / "s", hill(lambda v: 0.005 * v), ends={(0, 0): "waiting"}))
    assert said.strength == st.INVALID
    assert said.command.startswith("harness resume")


def test_collapsed_cells_of_a_table_do_not_make_its_card_invalid(tmp_path):
    folder = grown(tmp_path / "s", hill(lambda v: 0.005 * v))
    found = study(load(folder))
    trials = found.sweep.trials
    trials.loc[(trials["method.lamb"] == 0.002) & (trials["seed"] == 0), "outcome"] = "collapsed"
    found = question.focused(study(found.sweep))
    (check,) = [one for one in gate.gate(found) if one.name == "Infeasible trials"]
    assert check.result == gate.WARN


def test_a_declared_contrast_stays_the_question_of_a_table(tmp_path):
    folder = grown(tmp_path / "s", hill(lambda v: 0.005 * v))
    spec = yaml.safe_load((folder / "sweep.yaml").read_text()) | {"contrast": ["lejepa", "random"]}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    assert paper_card.deciding(study(load(folder))) == ()


def test_cells_at_the_published_setting_count_and_one_seed_only_leans(tmp_path):
    def strength(name, score, seeds):
        cells = [{"views.global_views": 8, "views.local_views": 0, "method.lamb": 0.05, "epochs": 4}]
        arm = SyntheticArm(flat(score), cells=cells, encoder="resnet50")
        found = study(load(sweep(tmp_path / name, {"lejepa": arm}, seeds=seeds, noise=0.1, seed_spread=0.1)))
        for config in found.sweep.configs.values():  # the length of the trial stays short
            config["epochs"], config["data"]["name"] = 400, "imagenet100"
        return paper_card.strength(paper_card.verdicts(found)), paper_card.answer(paper_card.verdicts(found))

    assert strength("whole", 84.32, (0, 1, 2)) == (st.DECIDED, "1 of 26 cells attempted: 1 reproduced.")
    assert strength("far", 70.0, (0, 1, 2)) == (st.DECIDED, "1 of 26 cells attempted: 1 not reproduced.")
    assert strength("single", 84.32, (0,))[0] == st.LEANING


# -- what next --------------------------------------------------------------------------------------------------------


def test_an_undecided_shape_asks_for_more_seeds_of_the_sweep_that_tests_it(tmp_path):
    folder = grown(tmp_path / "s", hill(lambda v: 0.005 * v, fall=3.0), noise=2.0, seeds=(0, 1))
    said = carded(folder)
    assert said.strength == st.UNDECIDED
    assert "More seeds for “the best λ grows with V”" in said.command_note
    assert "--reuse" in said.command
    assert len(proposed(folder, said.command).seeds) > 2


def test_more_seeds_for_one_line_of_a_table_leave_the_others_out(tmp_path):
    """The first shape holds, and at V = 8 alone the place of the optimum is open."""

    def truth(c):
        v = c["views.global_views"]
        return 70.0 - (8.0 if v < 8 else 0.6) * math.log10(c["method.lamb"] / (0.005 * v)) ** 2

    folder = grown(tmp_path / "s", truth, noise=0.1, seeds=(0, 1, 2))
    found = question.focused(study(load(folder)))
    (verdict,) = paper_card.verdicts(found)
    finding = next(one for one in verdict.findings if one.where == "V = 8")
    cells = [cell for cell in found.cells if set(cell.keys) & set(finding.keys)]
    command, why = next_sweep.more_seeds(found, 10, "More seeds", cells)
    spec = proposed(folder, command)
    assert spec.arms["lejepa"].scientific["views.global_views"].values == (8,)
    assert f"{len(cells) * 7} trials" in why


def test_an_optimum_at_the_end_of_its_grid_asks_for_a_wider_one(tmp_path):
    folder = grown(tmp_path / "s", hill(lambda v: 1.0), NARROW)
    said = carded(folder)
    assert "A wider grid" in said.command_note
    values = proposed(folder, said.command).arms["lejepa"].scientific["method.lamb"].values
    assert values == (0.01, 0.02, 0.05, 0.13)  # by the ratio of the two outermost, at the end where the best lies
    assert ": 9 more trials, about " in said.command_note  # one λ, three numbers of views, three seeds


def test_a_settled_table_asks_for_the_cells_that_were_left_out_at_their_price(tmp_path):
    folder = grown(tmp_path / "s", hill(lambda v: 0.005 * v, fall=40.0), noise=0.02)
    found = question.focused(study(load(folder)))
    (verdict,) = paper_card.verdicts(found)
    verdict.findings[:] = [one for one in verdict.findings if one.verdict != shapes.OPEN]
    command, why = paper_next.propose(found, [verdict])
    assert f"The {len(verdict.unattempted)} cells of T7 that were not attempted" in why
    assert "of device time a seed" in why
    assert 0.4 in proposed(folder, command).arms["lejepa"].scientific["method.lamb"].values


def test_the_forecast_of_seeds_is_that_of_the_interval_that_decides():
    values = [0.5, 1.0, 1.5]
    needed = st.seeds_needed(values, lambda found: (found.low or 0) > 0)
    assert needed is not None
    assert needed > 3
    assert st.seeds_needed(values, lambda found: (found.low or 0) > 0.99) is None
    assert st.seeds_needed([1.0], lambda found: True) is None
    assert st.pairs_needed([2.0, 2.4, 1.6], 1.0) == st.seeds_needed(
        [2.0, 2.4, 1.6], lambda found: st.verdict(found, 1.0) in (st.DECIDED, st.EQUIVALENT)
    )
