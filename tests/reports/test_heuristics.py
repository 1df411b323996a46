"""The switch matrix: arms of heuristics with a planted truth."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reports import figures, load
from reports.content import Figure, Prose, Table
from reports.evidence import study
from reports.sections import gate, heuristics, methods, recipes

sys.path.insert(0, str(Path(__file__).parent))
from planted import TEACHER, Searched, Switched, all_heuristics, undrawn, write_heuristics, write_searched


def found(folder):
    return study(load(folder))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return found(write_heuristics(tmp_path_factory.mktemp("heuristics") / "s", all_heuristics()))


@pytest.fixture(scope="module")
def part(matrix):
    (only,) = heuristics.sections(matrix)
    return only


@pytest.fixture(autouse=True)
def _without_drawing(monkeypatch):
    """Set up after the fixtures of the module, of which `part` is drawn."""
    for name in ("switches", "versus"):
        monkeypatch.setattr(figures, name, undrawn)


def paragraphs(section):
    return [text for block in section.blocks if isinstance(block, Prose) for text in block.paragraphs]


def table(section, name="heuristics-0"):
    return next(block for block in section.blocks if isinstance(block, Table) and block.name == name)


def row(section, arm):
    one = table(section)
    return dict(zip(one.columns, next(r for r in one.rows if r[0].raw == arm), strict=True))


def group(a_study):
    return recipes.recipes(a_study, a_study.encoders[0])


def recipe(a_study, name):
    return next(r for r in group(a_study) if r.arm.name == name)


# -- the answer -------------------------------------------------------------------------------------------------------


def test_the_heuristics_that_alone_prevent_collapse_are_named(part):
    alone = paragraphs(part)[2]
    enough, some, never = alone.split("; ")
    assert enough.startswith(
        "Batch normalisation, layer normalisation, whitening normalisation, negatives, variance + covariance and "
        "SIGReg alone keep every seed from collapsing"
    )
    assert some == "EMA teacher (1 of 3 seeds) does so for some seeds"
    assert never == "stop-gradient, momentum schedule, predictor, weight-decay schedule and covariance do not."


def test_what_trains_without_beating_the_random_encoder_is_said(part):
    assert "(layer normalisation is not shown to beat the random encoder)" in paragraphs(part)[2]


def test_what_adds_less_than_the_rope_to_lejepa_is_superfluous_and_what_hurts_is_too(part):
    superfluous, helps, rest = paragraphs(part)[0].split("; ")
    assert superfluous.startswith(
        "Superfluous with lejepa, as adding it gains less than the ROPE of ±1 points by the interval: stop-gradient (+"
    )
    assert "whitening normalisation (−" in superfluous
    assert helps.startswith("predictor (+")
    assert helps.endswith(" helps")
    assert rest.startswith("not settled: EMA teacher (")


def test_where_nothing_is_settled_nothing_is_called_superfluous(tmp_path):
    arms = {name: arm for name, arm in all_heuristics().items() if name in ("bare", "lejepa", "lejepa+ema_teacher")}
    (part,) = heuristics.sections(found(write_heuristics(tmp_path / "s", arms, noise=5.0)))
    assert paragraphs(part)[0].startswith("Nothing is shown to be superfluous with lejepa")


def test_lejepa_without_any_heuristic_is_held_against_whole_recipes_alone(part):
    without = paragraphs(part)[1]
    assert without.startswith("Without any of them lejepa reaches test linear-probe accuracy ")
    assert "(0 of 3 seeds collapse) and is ahead of byol (+" in without
    assert "bare" not in without  # nor byol-predictor: parts of what they are made from


def test_an_interval_that_excludes_zero_and_not_the_rope_is_said_to_lean(tmp_path):
    arms = {name: all_heuristics()[name] for name in ("bare", "lejepa", "lejepa+predictor")}
    arms |= {"byol": replace(all_heuristics()["byol"], level=64.6), "jepa": all_heuristics()["byol"]}
    leaning = found(write_heuristics(tmp_path / "s", arms, noise=0.25))
    pair = leaning.compare(*(recipe(leaning, name).cell for name in ("lejepa", "byol")), "lejepa", "byol")
    assert pair.verdict == "leaning"
    (part,) = heuristics.sections(leaning)
    assert "is ahead of jepa (+" in paragraphs(part)[1]
    assert " and probably ahead of byol (+" in paragraphs(part)[1]


def test_a_bare_prediction_of_which_seeds_wait_says_nothing_yet(tmp_path):
    some = found(write_heuristics(tmp_path / "s", all_heuristics()))
    trials = some.sweep.trials
    trials.loc[(trials["arm"] == "bare") & (trials["seed"] > 0), ["state", "outcome"]] = "waiting"
    said = heuristics.answer(study(some.sweep), group(study(some.sweep)))
    assert said[-1].startswith("Whether the bare prediction collapses is not known yet (2 of 3 waiting")


def test_where_the_bare_prediction_does_not_collapse_nothing_is_said_to_prevent_it(tmp_path):
    arms = {"bare": Switched(50.0), "bare+predictor": Switched(51.0, {"predictor": True})}
    (part,) = heuristics.sections(found(write_heuristics(tmp_path / "s", arms)))
    assert paragraphs(part) == [
        "The bare prediction does not collapse here (3 trained), so no heuristic can be said to prevent it."
    ]


def test_a_report_whose_gate_fails_opens_with_that(matrix):
    checks = gate.gate(matrix)
    assert gate.failures(checks)  # the first two arms, which are compared where no contrast is declared, collapse
    (part,) = heuristics.sections(matrix, checks)
    assert paragraphs(part)[0].startswith("The validity gate fails")


# -- each heuristic ---------------------------------------------------------------------------------------------------


def test_each_heuristic_is_shown_with_and_without_in_every_method_that_has_it(matrix, part):
    effects = table(part, "heuristics-0-effects")
    rows = [dict(zip(effects.columns, row, strict=True)) for row in effects.rows]
    by = {(row["heuristic"].raw, row["in"].raw): row for row in rows}
    assert {where for what, where in by if what == "predictor"} == {"bare", "byol", "lejepa"}
    trials = matrix.sweep.trials.pivot_table(index="seed", columns="arm", values="test/linear")
    gain = "effect [95 % interval] (points)"
    added = by["predictor", "lejepa"][gain].raw
    assert added == pytest.approx((trials["lejepa+predictor"] - trials["lejepa"]).mean())
    taken = by["predictor", "byol"]  # one seed without it diverged: no mean over the others
    assert (taken[gain].raw, taken["without [95 % interval] (%)"].text) == (None, "— 1 of 3 diverged")
    assert taken["with [95 % interval] (%)"].raw == pytest.approx(trials["byol"].mean())
    assert by["stop-gradient", "bare"]["collapsed with"].text == "3 of 3"
    to_lejepa = by["batch normalisation", "bare"]["with it, difference to lejepa [95 % interval] (points)"].raw
    assert to_lejepa == pytest.approx((trials["bare+batch"] - trials["lejepa"]).mean())
    assert by["SIGReg", "bare"]["collapsed without"].text == "3 of 3"


# -- the matrix -------------------------------------------------------------------------------------------------------


def test_the_matrix_ticks_what_is_on_with_its_setting(part):
    byol = row(part, "byol")
    assert byol["EMA teacher"].text == "✓ 0.99"
    assert byol["stop-gradient"].text == "✓"
    assert byol["normalisation"].text == "✓ layer"
    assert byol["momentum schedule"].text == "✓ cosine"
    assert row(part, "bare+variance_covariance")["variance + covariance"].text == "✓"
    assert row(part, "vicreg-variance")["variance + covariance"].text == "✓ covariance"
    assert (byol["SIGReg"].raw, byol["SIGReg"].text) == (None, "–")
    assert row(part, "bare+negatives")["negatives"].text == "✓"


def test_settings_that_differ_are_shown_as_different_in_table_figure_and_words(tmp_path):
    terms = {"variance": 0.25, "covariance": 0.01}
    arms = {
        "bare": Switched(20.0, collapsed=(0, 1, 2)), "both": Switched(60.0, {"variance_covariance": terms}),
        "stronger": Switched(60.0, {"variance_covariance": {**terms, "variance": 1.0}}),
        "a": Switched(60.0, {"variance_covariance": {**terms, "variance": 0}}),
        "b": Switched(60.0, {"variance_covariance": {**terms, "covariance": 0}}),
        "slow": Switched(60.0, {**TEACHER, "ema_teacher": 0.996}), "fast": Switched(60.0, TEACHER),
    }  # fmt: skip
    (part,) = heuristics.sections(found(write_heuristics(tmp_path / "s", arms)))
    shown = {name: row(part, name)["variance + covariance"].text for name in ("both", "stronger", "a", "b")}
    assert shown == {
        "both": "✓ covariance 0.01, variance 0.25", "stronger": "✓ covariance 0.01, variance 1", "a": "✓ covariance",
        "b": "✓ variance",
    }  # fmt: skip
    (figure,) = (block for block in part.blocks if isinstance(block, Figure))
    assert "EMA teacher a: 0.99, b: 0.996; variance + covariance a: " in figure.caption
    assert "stronger (variance + covariance covariance 0.01, variance 1)" in figure.alt


def test_what_an_arm_reaches_stands_before_its_switches(part):
    columns = table(part).columns
    first = min(columns.index(name) for name in recipes.SWITCHES.values() if name in columns)
    assert {"verdict", "collapsed", "test linear-probe accuracy [95 % interval] (%)"} <= set(columns[:first])


def test_the_matrix_counts_every_outcome_and_averages_over_no_hole(part):
    lost = row(part, "byol-predictor")
    assert [lost[what].text for what in ("trained", "collapsed", "diverged")] == ["2 of 3", "0 of 3", "1 of 3"]
    assert lost["test linear-probe accuracy [95 % interval] (%)"].raw is None
    collapsed = row(part, "bare")
    assert collapsed["collapsed"].text == "3 of 3"
    assert collapsed["test linear-probe accuracy [95 % interval] (%)"].raw == pytest.approx(19.4, abs=1.5)


def test_an_arm_differs_from_the_one_that_its_name_says_it_was_made_from(matrix, part):
    expected = {
        "bare+ema_schedule": "bare", "byol-predictor": "byol", "lejepa+whitening": "lejepa", "lejepa": "bare",
        "vicreg-variance": "bare", "byol": None, "bare": None,
    }  # fmt: skip
    assert {name: row(part, name)["made from"].raw for name in expected} == expected
    trials = matrix.sweep.trials.pivot_table(index="seed", columns="arm", values="test/linear")
    difference = (trials["lejepa+predictor"] - trials["lejepa"]).mean()
    assert row(part, "lejepa+predictor")["difference to it [95 % interval] (points)"].raw == pytest.approx(difference)


def test_the_cost_is_the_time_of_an_epoch_and_its_ratio_to_the_bare_arm(part):
    byol = row(part, "byol")
    assert byol["training (s per epoch)"].raw == pytest.approx(1.5)
    assert byol["ratio to bare"].raw == pytest.approx(1.5)


def test_a_teacher_brings_the_stop_gradient_and_a_schedule_the_teacher(matrix):
    assert recipe(matrix, "bare+ema_teacher").alone == "ema_teacher"
    assert recipe(matrix, "bare+ema_schedule").alone == "ema_schedule"
    assert recipe(matrix, "byol").alone is None
    assert recipe(matrix, "bare").alone is None


def test_every_row_opens_its_trials_and_the_figure_says_what_it_shows(part):
    assert all(len(r[0].keys) == 3 for r in table(part).rows)
    (figure,) = (block for block in part.blocks if isinstance(block, Figure))
    assert "n = " in figure.caption
    assert "normalisation B: batch, L: layer, W: whitening; " in figure.caption
    assert "byol-predictor (EMA teacher 0.99, stop-gradient, normalisation layer" in figure.alt
    assert "2 trained and 1 diverged" in figure.alt
    assert figure.svg.startswith("<?xml")


# -- where it stands --------------------------------------------------------------------------------------------------


def test_the_matrix_takes_the_place_of_the_arms_side_by_side(matrix):
    assert [s.id for s in methods.sections(matrix)] == ["budget"]


def test_a_sweep_with_other_methods_shows_both(tmp_path):
    arms = all_heuristics() | {"vicreg": Switched(64.0, method="vicreg")}
    mixed = found(write_heuristics(tmp_path / "s", arms))
    assert len(heuristics.sections(mixed)) == 1
    assert "methods" in {s.id for s in methods.sections(mixed)}
    assert "vicreg" not in {r.arm.name for r in group(mixed)}


def test_sweeps_without_switches_have_no_matrix(tmp_path):
    one = {"bare": Switched(20.0, collapsed=(0, 1, 2)), "random": Switched(35.0, method="random")}
    assert heuristics.sections(found(write_heuristics(tmp_path / "a", one))) == []
    searched = {
        "lejepa": Searched(lambda s, o: 70.0, "lejepa", trials=2),
        "vicreg": Searched(lambda s, o: 60.0, trials=2),
    }
    assert heuristics.sections(found(write_searched(tmp_path / "b", searched))) == []


def test_hostile_names_are_shown_as_text_and_make_no_parent(tmp_path):
    arms = {"bare": Switched(20.0, collapsed=(0, 1, 2)), "+<b>": Switched(40.0, {**TEACHER, "predictor": True}),
            "a-": Switched(50.0, {"predictor": True, "normalisation": "batch"})}  # fmt: skip
    odd = found(write_heuristics(tmp_path / "s", arms))
    assert [recipes.parent(r, group(odd)) for r in group(odd)] == [None, None, None]
    assert heuristics.sections(odd)
