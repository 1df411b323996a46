"""Methods at equal budgets: sweeps with a planted truth, and what the report says of them."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.ledger import Ledger
from reports import figures, load
from reports import statistics as st
from reports.content import Figure, Prose, Table
from reports.evidence import study
from reports.sections import budget, conditions, gate, methods, rates, robustness, searches, tuning

sys.path.insert(0, str(Path(__file__).parent))
from planted import Searched, undrawn, write_searched
from synthetic import SyntheticArm, flat, write_sweep

PAIR = ("lejepa", "vicreg")


def steady(level, spread=1.0, seed=0):
    """Configurations worth about `level`, none much more."""
    drawn = np.random.default_rng(seed).exponential(spread, (8, 64))
    return lambda s, o: float(level - drawn[s, o])


def found(folder):
    return study(load(folder))


def section(found_study, name, checks=()):
    """Drawn alone where it can be."""
    modules = {"budget": budget, "tuning": tuning, "robustness": robustness}
    parts = modules[name].sections(found_study) if name in modules else methods.sections(found_study, checks)
    return next(part for part in parts if part.id == name)


def prose(part):
    return " ".join(text for block in part.blocks if isinstance(block, Prose) for text in block.paragraphs)


def table(part, name):
    (one,) = (block for block in part.blocks if isinstance(block, Table) and block.name == name)
    return one


def column(one, head):
    (place,) = (i for i, name in enumerate(one.columns) if name.startswith(head))
    return {row[0].raw: row[place] for row in one.rows}


def arms(lejepa=70.0, vicreg=66.0, **changes):
    return {"lejepa": Searched(steady(lejepa), "lejepa", **changes), "vicreg": Searched(steady(vicreg, seed=1))}


@pytest.fixture(scope="module")
def equal(tmp_path_factory):
    """Three arms at one budget: lejepa ahead of vicreg by 4 and as good as byol."""
    three = arms() | {"byol": Searched(steady(70.0, seed=2), "byol")}
    return found(write_searched(tmp_path_factory.mktemp("equal") / "s", three, contrast=PAIR, noise=0.15))


@pytest.fixture(autouse=True)
def _without_drawing(monkeypatch):
    """Set up after the fixtures of the module, of which `parts` is drawn."""
    for name in ("versus", "searches", "steps"):
        monkeypatch.setattr(figures, name, undrawn)


@pytest.fixture(scope="module")
def parts(equal):
    return {part.id: part for part in methods.sections(equal)}


# -- the contract and the verdicts ------------------------------------------------------------------------------------


def test_a_planted_difference_at_one_budget_is_decided(equal, parts):
    assert equal.primary.verdict == st.DECIDED
    assert gate.failures(gate.gate(equal)) == []
    said = prose(parts["methods"])
    assert said.startswith("Tuned at one budget, lejepa is ahead of vicreg (+")
    assert "practically equal to byol" in said


def test_the_contract_says_what_every_arm_was_given(parts):
    part = parts["budget"]
    assert prose(part).startswith("Equal: every arm was tuned by 2 studies of 16 search trials (320 epochs).")
    contract = table(part, "budget")
    assert {value.raw for value in column(contract, "search trials").values()} == {32}
    assert {value.raw for value in column(contract, "seeds compared").values()} == {5}
    assert {value.text for value in column(contract, "parameters tuned").values()} == {"learning rate"}
    charged = (2 * 16 + 5) * 10  # epochs
    assert {value.raw for value in column(contract, "epochs charged").values()} == {charged}
    assert column(contract, "images")["vicreg"].raw == pytest.approx(charged * 1280)


def test_an_unfair_search_is_not_equal_and_makes_the_report_invalid(tmp_path):
    few = {"lejepa": Searched(steady(70.0), "lejepa"), "vicreg": Searched(steady(66.0), trials=4)}
    unfair = found(write_searched(tmp_path / "s", few, contrast=PAIR))
    failed = gate.failures(gate.gate(unfair))
    assert [check.name for check in failed] == ["Equal tuning budget"]
    assert prose(section(unfair, "budget")).startswith(
        "Not equal, so a difference may be tuning: lejepa: 2 studies of 16"
    )
    assert prose(section(unfair, "methods", failed)).startswith("No ranking is claimed: the validity gate fails")


def test_where_no_arm_was_tuned_that_is_said(tmp_path):
    plain = {"lejepa": SyntheticArm(flat(70.0)), "vicreg": SyntheticArm(flat(64.0), "vicreg")}
    untuned = found(write_sweep(tmp_path / "s", plain, contrast=PAIR))
    part = section(untuned, "budget")
    assert prose(part).startswith("No arm was tuned")
    assert "search trials" not in table(part, "budget").columns
    assert prose(section(untuned, "methods")).startswith("As configured, untuned, lejepa is ahead of vicreg")
    assert "tuning" not in {s.id for s in methods.sections(untuned)}


def test_an_arm_that_chose_among_cells_had_another_budget(tmp_path):
    cells = [{"method.lamb": lamb} for lamb in (0.01, 0.05, 0.2)]
    plain = {"lejepa": SyntheticArm(flat(70.0), cells=cells), "vicreg": SyntheticArm(flat(64.0), "vicreg")}
    part = section(found(write_sweep(tmp_path / "s", plain, contrast=PAIR)), "budget")
    assert "lejepa: the choice among 3 settings; vicreg: nothing" in prose(part)


def test_sizes_and_data_are_no_settings_to_choose_from_and_rows_of_a_name_say_their_encoder(tmp_path):
    cells = [{"encoder.width": width, "data.limit": limit} for width in (16, 32) for limit in (1000, 2000)]
    grown = {"lejepa": SyntheticArm(flat(70.0), cells=cells), "vicreg": SyntheticArm(flat(64.0), "vicreg", cells)}
    sweep = found(write_sweep(tmp_path / "s", grown, contrast=PAIR))
    part = section(sweep, "budget")
    assert prose(part).startswith("small_resnet (width 16): No arm was tuned")
    assert "Device time was not made equal, and came to 48 s for each." in prose(
        part
    )  # 6 trainings of 20 epochs at 0.4 s
    shown = [(row[0].raw, row[1].raw) for row in table(part, "budget").rows]
    assert len(set(shown)) == len(shown) == 4
    (collapses,) = rates.sections(sweep)
    assert {(row[0].raw, row[1].raw) for row in table(collapses, "rates").rows} == set(shown)


def test_pairs_that_an_arm_wins_are_counted(tmp_path):
    plain = {"lejepa": SyntheticArm(flat(70.0)), "vicreg": SyntheticArm(flat(64.0), "vicreg")}
    part = section(found(write_sweep(tmp_path / "s", plain, contrast=PAIR)), "methods")
    assert column(table(part, "methods-0"), "lejepa better, of all pairs")["vicreg"].text == "9 of 9"


def test_planted_equivalence_is_equivalent_and_three_noisy_seeds_are_undecided(tmp_path):
    alike = write_searched(tmp_path / "a", arms(70.0, 70.0), contrast=PAIR, noise=0.1)
    assert found(alike).primary.verdict == st.EQUIVALENT
    noisy = write_searched(tmp_path / "b", arms(70.0, 69.0), contrast=PAIR, noise=3.0, seeds=(0, 1, 2))
    unsure = found(noisy)
    assert unsure.primary.verdict == st.UNDECIDED
    assert "not told apart from vicreg" in prose(section(unsure, "methods"))


def test_a_significance_that_the_number_of_seeds_makes_impossible_is_refused(parts):
    one = table(parts["methods"], "methods-0")
    assert column(one, "p (Holm)")["vicreg"].text == "n too small"
    assert "the smallest p that 5 pairs can give" in one.caption


def test_enough_seeds_give_the_sign_flip_p_times_the_number_of_rivals(tmp_path):
    three = arms() | {"byol": Searched(steady(60.0, seed=2), "byol")}
    many = found(write_searched(tmp_path / "s", three, contrast=PAIR, seeds=range(8), noise=0.1))
    p = column(table(section(many, "methods"), "methods-0"), "p (Holm)")
    assert p["vicreg"].raw == pytest.approx(2 * 2 / 2**8)  # all 8 differences have one sign; two rivals


def test_the_best_of_the_search_is_the_median_over_studies_of_their_best(equal, parts):
    trials = equal.sweep.trials
    mine = trials[(trials["arm"] == "vicreg") & (trials["purpose"] == "search")]
    expected = mine.groupby("study")["val/linear"].max().median()
    one = table(parts["methods"], "methods-0")
    assert column(one, "best of the search")["vicreg"].raw == pytest.approx(expected)


def test_in_another_encoder_lejepa_is_the_reference_whatever_comes_first(tmp_path):
    four = arms() | {
        "mae-vit": Searched(steady(60.0), "mae", encoder="small_vit"),
        "lejepa-vit": Searched(steady(62.0), "lejepa", encoder="small_vit"),
    }
    two = found(write_searched(tmp_path / "s", four, contrast=PAIR))
    assert [two.reference(encoder).name for encoder in two.encoders] == ["lejepa", "lejepa-vit"]


# -- tuning -----------------------------------------------------------------------------------------------------------


def test_a_method_that_wins_only_after_ten_trials_crosses_near_ten(tmp_path):
    """Four of vicreg's 64 configurations are worth 80, others 60; lejepa's 70: vicreg is ahead from the n on at which
    n draws meet one of the four more often than not."""
    lucky = {(0, 5), (0, 20), (1, 11), (1, 30)}
    slow = Searched(lambda s, o: 80.0 if (s, o) in lucky else 60.0, trials=32)
    pair = {"lejepa": Searched(lambda s, o: 70.0, "lejepa", trials=32), "vicreg": slow}
    late = found(write_searched(tmp_path / "s", pair, contrast=PAIR, noise=0.01))
    missed = [math.comb(60, n) / math.comb(64, n) for n in range(1, 65 - 4)]
    expected = 1 + next(i for i, chance in enumerate(missed) if chance < 0.5)
    assert 9 <= expected <= 11
    said = prose(section(late, "tuning"))
    assert f"Below {expected} search trials lejepa is ahead of vicreg, from {expected} on vicreg is" in said


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"sampler": "tpe"}, "tpe chose each point by the results before it"),
     ({"stopping": {"name": "asha", "scope": "cell"}}, "asha stopped trials early")],
)  # fmt: skip
def test_adaptive_searches_get_no_tuning_curve_and_are_told_why(tmp_path, changes, reason):
    adaptive = found(write_searched(tmp_path / "s", arms(), contrast=PAIR, **changes))
    (part,) = tuning.sections(adaptive)
    assert f"No tuning curve: {reason}" in prose(part)
    assert not [block for block in part.blocks if isinstance(block, Figure)]


def test_the_curve_of_a_quasi_random_search_is_marked_approximate(tmp_path):
    (part,) = tuning.sections(found(write_searched(tmp_path / "s", arms(), sampler="qmc")))
    (figure,) = (block for block in part.blocks if isinstance(block, Figure))
    assert "Approximate: quasi-random points" in figure.caption


def test_a_default_is_no_draw_of_the_search(tmp_path):
    default_wins = {"lejepa": Searched(lambda s, o: 90.0 if o == 0 else 60.0 + o / 10, "lejepa")}
    first = found(write_searched(tmp_path / "s", default_wins, defaults_first=True, noise=0.0))
    curve = searches.curve_of(first, first.arms[0], 0.0)
    assert curve.curve.n == 2 * 15
    assert max(curve.curve.mean) < 62
    assert curve.default == pytest.approx(90.0)
    assert "the default was the best found" in prose(tuning.sections(first)[0])


def test_what_tuning_gains_over_the_default_is_measured_on_fresh_seeds(tmp_path):
    better = {"lejepa": Searched(lambda s, o: 70.0 if (s, o) == (1, 7) else 64.0, "lejepa")}
    tuned = found(write_searched(tmp_path / "s", better, defaults_first=True, noise=0.0))
    one = table(tuning.sections(tuned)[0], "default-tuned")
    fresh = tuned.arms[0].selected.val.mean()
    assert column(one, "gain on fresh seeds")["lejepa"].raw == pytest.approx(fresh - 64.0)
    assert column(one, "published default")["lejepa"].raw == pytest.approx(64.0)


def test_a_default_that_diverged_is_not_passed_over_in_silence(tmp_path):
    lost = arms(ends={(0, 0): "diverged", (1, 0): "diverged"})
    part = tuning.sections(found(write_searched(tmp_path / "s", lost, defaults_first=True)))[0]
    assert "The published default did not run to its end for lejepa (2 diverged)." in prose(part)
    assert set(column(table(part, "default-tuned"), "studies")) == {"vicreg"}


def test_a_diverged_trial_is_a_draw_with_the_lowest_value_found(tmp_path):
    some = arms(ends={(0, 3): "diverged", (1, 4): "diverged"})
    sweep = found(write_searched(tmp_path / "s", some, contrast=PAIR))
    lowest = searches.worst(sweep, sweep.arms)
    curve = searches.curve_of(sweep, sweep.arms[0], lowest)
    good = sweep.arms[0].cells[0].searched.query("state == 'finished'")["val/linear"]
    assert curve.curve.n == 32
    assert curve.curve.mean[0] == pytest.approx((good.sum() + 2 * lowest) / 32)


# -- rates ------------------------------------------------------------------------------------------------------------


def test_rates_count_search_trials_and_leave_pruned_ones_out(tmp_path):
    ends = {(0, 1): "diverged", (0, 2): "pruned", (1, 2): "pruned"}
    some = arms(ends=ends, collapsed=[(1, 5), (1, 6), (1, 7)])
    (part,) = rates.sections(found(write_searched(tmp_path / "s", some, contrast=PAIR)))
    one = table(part, "rates")
    known = 32 + 5 - 2  # search and confirmation, without what was pruned
    assert column(one, "diverged")["lejepa"].text == f"1 of {known}"
    assert column(one, "collapsed")["lejepa"].text == f"3 of {known}"
    assert column(one, "collapse rate")["lejepa"].raw == pytest.approx(3 / known)
    assert len(column(one, "collapsed")["lejepa"].keys) == 3


# -- robustness -------------------------------------------------------------------------------------------------------


def named(found_study, start):
    reference, rival = found_study.arms[:2]
    others = [conditions.Elsewhere(found_study, metric) for metric in conditions.other_metrics(found_study)]
    every = conditions.conditions(found_study, reference, rival, others)
    return next(condition for condition in every if condition.name.startswith(start))


def test_half_the_search_flips_the_verdict_of_a_method_whose_luck_comes_late(tmp_path):
    late = Searched(lambda s, o: 75.0 if o == 12 else 60.0, studies=5)
    pair = {"lejepa": Searched(lambda s, o: 70.0, "lejepa", studies=5), "vicreg": late}
    flipped = found(write_searched(tmp_path / "s", pair, contrast=PAIR, noise=0.1))
    assert flipped.primary.verdict == st.DECIDED
    assert flipped.primary.estimate.mean < 0
    half = named(flipped, "under half")
    assert (half.outcome, half.metric) == (conditions.REVERSED, "val/linear")
    assert half.estimate.mean == pytest.approx(10, abs=0.5)
    assert "never confirmed" in half.basis
    assert "under half the search budget it is reversed: lejepa is ahead by" in prose(section(flipped, "robustness"))


def test_half_the_search_is_judged_on_test_where_both_winners_were_confirmed(tmp_path):
    early = {
        "lejepa": Searched(lambda s, o: 70.0 if (s, o) == (0, 2) else 60.0, "lejepa"),
        "vicreg": Searched(lambda s, o: 66.0 if (s, o) == (1, 7) else 60.0),
    }
    same = found(write_searched(tmp_path / "s", early, contrast=PAIR))
    half = named(same, "under half")
    assert (half.outcome, half.metric) == (conditions.HOLDS, "test/linear")
    assert half.estimate == same.primary.estimate


def test_another_metric_that_disagrees_is_said(tmp_path):
    pair = arms()
    pair["lejepa"].knn = -10.0
    other = found(write_searched(tmp_path / "s", pair, contrast=PAIR))
    assert named(other, "by k-NN").outcome == conditions.REVERSED
    assert "by k-NN accuracy it is reversed: vicreg is ahead by" in prose(section(other, "robustness"))


def test_at_equal_time_the_slower_method_is_read_earlier(tmp_path):
    pair = arms(70.0, 66.0, seconds=2.0)  # lejepa takes twice as long, and gains 25 points over its training
    timed = found(write_searched(tmp_path / "s", pair, contrast=PAIR, noise=0.05))
    equal_time = named(timed, "at equal")
    assert "epoch 5 of lejepa, 10 of vicreg" in equal_time.basis
    assert equal_time.estimate.mean == pytest.approx(timed.primary.estimate.mean - 12.5, abs=0.5)
    assert equal_time.outcome == conditions.REVERSED


def test_equal_time_cannot_be_told_where_nothing_was_evaluated_in_time(tmp_path):
    timed = found(write_searched(tmp_path / "s", arms(seconds=2.0, every=10), contrast=PAIR))
    condition = named(timed, "at equal")
    assert condition.outcome == conditions.OPEN
    assert "no epoch of lejepa was evaluated" in condition.basis
    assert "at equal training time cannot be told" in prose(section(timed, "robustness"))


def test_untuned_defaults_are_compared_study_by_study(tmp_path):
    pair = {
        "lejepa": Searched(lambda s, o: 60.0 if o == 0 else 70.0, "lejepa", studies=5),
        "vicreg": Searched(lambda s, o: 66.0, studies=5),
    }
    sweep = found(write_searched(tmp_path / "s", pair, contrast=PAIR, defaults_first=True, noise=0.1))
    condition = named(sweep, "with the published")
    assert condition.estimate.mean == pytest.approx(-6, abs=0.3)
    assert condition.estimate.n == 5
    assert condition.outcome == conditions.REVERSED


def test_the_number_of_conditions_in_which_an_answer_holds_counts_those_that_can_be_told(parts):
    text = prose(parts["robustness"])
    assert text.startswith("The answer (decided, for lejepa) holds in ")
    one = table(parts["robustness"], "robustness-others")
    assert set(column(one, "holds in")) == {"byol"}


@pytest.mark.parametrize(
    ("base", "estimate", "verdict", "expected"),
    [((4.0, st.DECIDED), (3.0, 2.0, 4.0), st.DECIDED, conditions.HOLDS),
     ((4.0, st.DECIDED), (1.0, 0.2, 1.8), st.LEANING, conditions.WEAKER),
     ((1.0, st.LEANING), (3.0, 2.0, 4.0), st.DECIDED, conditions.HOLDS),
     ((4.0, st.DECIDED), (-3.0, -4.0, -2.0), st.DECIDED, conditions.REVERSED),
     ((4.0, st.DECIDED), (-1.0, -4.0, 2.0), st.UNDECIDED, conditions.TURNED),
     ((4.0, st.DECIDED), (-1.0, None, None), st.UNDECIDED, conditions.TURNED),
     ((4.0, st.DECIDED), (1.0, None, None), st.UNDECIDED, conditions.OPEN),
     ((0.1, st.EQUIVALENT), (-0.1, -0.5, 0.3), st.EQUIVALENT, conditions.HOLDS),
     ((0.1, st.EQUIVALENT), (3.0, 2.0, 4.0), st.DECIDED, conditions.OTHER),
     ((0.1, st.EQUIVALENT), (0.1, -3.0, 3.2), st.UNDECIDED, conditions.WEAKER),
     ((1.0, st.UNDECIDED), (-1.0, -4.0, 2.0), st.UNDECIDED, conditions.HOLDS)],
)  # fmt: skip
def test_what_becomes_of_an_answer(equal, base, estimate, verdict, expected):
    first = replace(equal.primary, estimate=st.Estimate(base[0], None, None, 5, ""), verdict=base[1])
    assert conditions.outcome(first, st.Estimate(*estimate, 5, ""), verdict) == expected


# -- form -------------------------------------------------------------------------------------------------------------


def test_every_section_draws_and_names_the_trials_behind_its_numbers(equal, parts):
    assert list(parts) == ["budget", "methods", "tuning", "rates", "robustness"]
    drawn = [block for part in parts.values() for block in part.blocks if isinstance(block, Figure)]
    assert {figure.name for figure in drawn} == {"methods-0", "tuning-0"}
    assert all("n = " in figure.caption and len(figure.alt) > 40 for figure in drawn)
    assert all(figure.svg.startswith("<?xml") and len(figure.png) > 5000 for figure in drawn)
    row = next(row for row in table(parts["methods"], "methods-0").rows if row[0].raw == "vicreg")
    assert len(row[1].keys) == 32  # the search
    assert len(row[0].keys) == 5  # the confirmation


def test_a_sweep_that_is_not_about_methods_has_no_budget_and_no_robustness(tmp_path):
    alone = {"lejepa": SyntheticArm(flat(70.0)), "random": SyntheticArm(flat(50.0), "random")}
    parts = methods.sections(found(write_sweep(tmp_path / "s", alone)))
    assert [part.id for part in parts] == ["methods"]
    assert "p is of" not in table(parts[0], "methods-0").caption


def test_a_search_that_still_runs_gives_a_report_without_conclusions(tmp_path):
    folder = write_searched(tmp_path / "s", arms(), contrast=PAIR)
    with Ledger(folder / "ledger.db") as ledger:
        for place in ledger.assignments():
            if place.arm == "vicreg" and place.purpose == "confirm" and place.ordinal:
                ledger.add_event("started", place.key, attempt=2, epoch=0, info={})  # again, and not yet ended
    half_way = found(folder)
    ids = [part.id for part in methods.sections(half_way, gate.gate(half_way))]
    assert "robustness" not in ids
    assert robustness.sections(half_way) == []
    assert budget.sections(half_way)
