"""The paper's tables against ledgers whose truth is planted: verdicts of cells, shapes, known differences."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from reports import load, optima, provenance, shapes
from reports.content import Card, Document, Table
from reports.evidence import study
from reports.published import load_published
from reports.render import write
from reports.sections import paper, paper_cells, paper_effects, paper_shapes, scaling_rules
from reports.shapes import FAILS, HOLDS, OPEN, Line
from reports.statistics import Estimate, mean_interval

sys.path.insert(0, str(Path(__file__).parent))
from hostile import HOSTILE
from synthetic import SyntheticArm, flat, lambda_cells, quickstart_arms, write_sweep

T7 = load_published().table("T7")
LAMBDAS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
PAPER = {"data.name": "imagenet100", "encoder.name": "resnet50", "epochs": 400}


def views_and_lambdas(lambdas=LAMBDAS, **setting):
    """Cells of a sweep over λ and V. What they share may be written into each: its columns are constant then."""
    return [
        {"views.global_views": v, "views.local_views": 0, "method.lamb": lamb, **setting}
        for v in (2, 4, 8)
        for lamb in lambdas
    ]


def hill(best, top=70.0, fall=8.0):
    """best: V → the best λ."""
    return lambda c: top - fall * math.log10(c["method.lamb"] / best(c["views.global_views"])) ** 2


def sweep(folder, arms, name="t7_lambda_views", **more):
    """Synthetic arms under the name of a shipped sweep."""
    write_sweep(folder, arms, **{"metric": "val/linear", "noise": 0.2, **more})
    spec = yaml.safe_load((folder / "sweep.yaml").read_text()) | {"name": name}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder


def t7(folder, truth, **more):
    return study(load(sweep(folder, {"lejepa": SyntheticArm(truth, cells=views_and_lambdas(), epochs=2)}, **more)))


def judged(found, table=T7):
    cells = paper_cells.comparisons(found, table)
    return cells, paper_shapes.findings(found, table, cells)


def of(findings, claim):
    return [one for one in findings if claim in one.claim]


def at_paper_setting(folder, score, **more):
    """One cell of T7 (V = 8, λ = 0.05: 84.32), trained as published; `score` is ours."""
    cells = [{"views.global_views": 8, "views.local_views": 0, "method.lamb": 0.05, "epochs": 4}]
    arm = SyntheticArm(flat(score), cells=cells, encoder="resnet50")
    found = study(load(sweep(folder, {"lejepa": arm}, **more)))
    for config in found.sweep.configs.values():  # the length of the trial stays short
        config["epochs"], config["data"]["name"] = 400, "imagenet100"
    return next(one for one in paper_cells.comparisons(found, T7) if one.cell.id == "t7/V8/lamb0.05")


# -- the optimum ------------------------------------------------------------------------------------------------------


def test_a_best_lambda_that_grows_with_the_views_is_told_so(tmp_path):
    _, findings = judged(t7(tmp_path / "s", hill(lambda v: 0.005 * v)))
    (moves,) = of(findings, "grows with V")
    assert moves.verdict == HOLDS
    assert moves.raw == pytest.approx(1.0, abs=0.2)  # 0.005·V is a slope of 1
    assert moves.sentence.startswith("The best λ grows with V here, too")
    where = of(findings, "where the best λ is")
    assert [one.verdict for one in where] == [HOLDS, HOLDS, HOLDS]
    assert [one.raw for one in where] == pytest.approx([0.01, 0.02, 0.04], rel=0.2)


def test_a_best_lambda_that_stands_still_is_told_so(tmp_path):
    found = t7(tmp_path / "s", hill(lambda v: 0.02))
    _, findings = judged(found)
    (moves,) = of(findings, "grows with V")
    assert moves.verdict == FAILS
    assert moves.raw == pytest.approx(0, abs=0.2)
    assert "does not grow with V here" in moves.sentence


def test_one_seed_leaves_every_shape_undecided(tmp_path):
    _, findings = judged(t7(tmp_path / "s", hill(lambda v: 0.005 * v), seeds=(0,)))
    assert {one.verdict for one in findings} == {OPEN}
    assert "one seed has no interval" in of(findings, "grows with V")[0].sentence


def test_noise_larger_than_the_hill_leaves_the_slope_undecided(tmp_path):
    _, findings = judged(t7(tmp_path / "s", hill(lambda v: 0.005 * v, fall=1.0), noise=5.0, seeds=(0, 1)))
    assert of(findings, "grows with V")[0].verdict == OPEN


def test_an_optimum_at_the_end_of_its_grid_is_not_called_an_optimum(tmp_path):
    _, findings = judged(t7(tmp_path / "s", hill(lambda v: 1.0)))  # all of the grid is below the best
    (moves,) = of(findings, "grows with V")
    assert moves.verdict == OPEN
    assert moves.raw is None  # an end of a grid is no value of a slope
    assert "the best λ at V = 2 is the largest tried (0.2) in 3 of 3 seeds and on average" in moves.sentence
    assert "by validation linear-probe accuracy" in moves.sentence
    assert moves.ours == "not known: the grid of λ is too narrow at V = 2, V = 4 and V = 8"
    assert {one.verdict for one in of(findings, "where the best λ is")} == {OPEN}


def test_a_rise_that_only_hides_how_far_it_goes_still_holds(tmp_path):
    _, findings = judged(t7(tmp_path / "s", hill(lambda v: {2: 0.01, 4: 0.05, 8: 0.8}[v])))
    (moves,) = of(findings, "grows with V")
    assert moves.verdict == HOLDS
    assert "slope at least" in moves.sentence


def test_one_seed_at_the_end_of_a_grid_is_averaged_with_nothing(tmp_path):
    folder = sweep(tmp_path / "s", {"lejepa": SyntheticArm(hill(lambda v: 0.005 * v), cells=views_and_lambdas())})
    sweep_ = load(folder)
    trials = sweep_.trials
    odd = (trials["views.global_views"] == 4) & (trials["method.lamb"] == 0.2) & (trials["seed"] == 1)
    trials.loc[odd, "val/linear"] = 99.0
    _, findings = judged(study(sweep_))
    (moves,) = of(findings, "grows with V")
    assert (moves.verdict, moves.raw, moves.seeds) == (OPEN, None, None)
    assert "the best λ at V = 4 is the largest tried (0.2) in 1 of 3 seeds" in moves.sentence
    places = {one.where: one for one in of(findings, "where the best λ is")}
    assert (places["V = 4"].verdict, places["V = 4"].raw) == (OPEN, None)
    assert places["V = 8"].raw == pytest.approx(0.04, rel=0.2)


def test_a_best_lambda_is_found_by_validation_and_is_the_same_in_the_rules_of_scale(tmp_path):
    sweep_ = load(sweep(tmp_path / "s", {"lejepa": SyntheticArm(hill(lambda v: 0.005 * v), cells=views_and_lambdas())}))
    sweep_.trials["test/linear"] = -sweep_.trials["val/linear"]  # what judges has its best elsewhere
    found = study(sweep_)
    _, findings = judged(found)
    (rule,) = (one.rule for one in scaling_rules.rules(found) if one.path == "method.lamb")
    places = of(findings, "where the best λ is")
    assert [one.raw for one in places] == pytest.approx([one.value for one in rule.optima])
    assert [one.quantity.estimate.low for one in places] == pytest.approx([math.log10(one.low) for one in rule.optima])
    assert of(findings, "grows with V")[0].raw == pytest.approx(rule.slope.mean)


def test_an_optimum_is_found_between_the_values_tried():
    x = np.log10(LAMBDAS)
    found = optima.peaks(LAMBDAS, np.stack([50 - 7 * (x - math.log10(0.03)) ** 2] * 2, axis=1))
    assert 10**found.logs == pytest.approx([0.03, 0.03])
    assert not found.censored


# -- order, plateau, rise ---------------------------------------------------------------------------------------------


def published_truth(sign=1.0, scale=1.0):
    known = {(cell.at["V"], cell.at["lamb"]): cell.value for cell in T7.cells}
    return lambda c: 60 + sign * scale * (known.get((c["views.global_views"], c["method.lamb"]), 80.0) - 80.0)


def test_cells_in_the_order_of_the_paper_are_told_so_at_any_height(tmp_path):
    _, findings = judged(t7(tmp_path / "s", published_truth(scale=2.0)))
    (order,) = of(findings, "in the paper's order")
    assert order.verdict == HOLDS
    assert order.raw == pytest.approx(1.0, abs=0.1)


def test_cells_in_the_opposite_order_are_told_so(tmp_path):
    _, findings = judged(t7(tmp_path / "s", published_truth(-1.0, 2.0)))
    (order,) = of(findings, "in the paper's order")
    assert order.verdict == FAILS
    assert "do not come in the order" in order.sentence


def lines(*columns, noise=0.1, seeds=3):
    rng = np.random.default_rng(2)
    means = [np.asarray(column, dtype=float)[:, None] for column in columns]
    return [Line(tuple(range(1, len(m) + 1)), m + noise * rng.normal(size=(len(m), seeds))) for m in means]


def test_a_rise_holds_and_a_flat_line_or_a_fall_does_not():
    rise, still, fall = lines([60, 63, 66]), lines([60, 60, 60]), lines([66, 63, 60])
    for line, verdict in ((rise, HOLDS), (still, FAILS), (fall, FAILS)):
        change, contrary = mean_interval(shapes.changes(line)), shapes.contrary_steps(line, 1, 1.2)
        assert shapes.monotone_verdict(change, contrary, 1.2) == verdict
    assert shapes.changes(rise).mean() == pytest.approx(6, abs=0.2)


def test_a_rise_with_a_deep_dip_in_it_is_not_monotone():
    dip = lines([60, 50, 66])
    assert shapes.contrary_steps(dip, 1, 1.2) == [(1, 2)]
    assert shapes.monotone_verdict(mean_interval(shapes.changes(lines([60, 50, 90]))), [(1, 2)], 1.2) == FAILS


def test_what_rises_and_stops_saturates_and_what_goes_on_rising_does_not():
    def verdict(found):
        rise, last = mean_interval(shapes.rises(found)), mean_interval(shapes.rises(found, -2))
        return shapes.saturation_verdict(rise, last, 1.2)

    assert verdict(lines([50, 60, 60.1])) == HOLDS
    assert verdict(lines([50, 60, 70])) == FAILS
    assert verdict(lines([60, 60, 60])) == OPEN
    assert verdict(lines([50, 60, 60.1], seeds=1)) == OPEN


def test_a_plateau_holds_where_all_that_is_flat_in_the_paper_is_flat_here(tmp_path):
    flat_ones = judged(t7(tmp_path / "flat", flat(70.0), noise=0.1))[1]
    assert {one.verdict for one in of(flat_ones, "flat to 1.2 points")} == {HOLDS}
    steep = judged(t7(tmp_path / "steep", hill(lambda v: 0.005 * v, fall=200.0)))[1]
    assert {one.verdict for one in of(steep, "flat to 1.2 points")} == {FAILS}


# -- the verdict on a cell --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "status"),
    [(84.5, "reproduced"), (83.4, "reproduced"), (82.0, "not reproduced"), (60.0, "not reproduced")],
)
def test_a_cell_at_the_published_setting_is_judged_by_the_tolerance(tmp_path, score, status):
    one = at_paper_setting(tmp_path / "s", score, seed_spread=0.0, noise=0.1)
    assert one.differences == ()
    assert one.status == status
    assert one.gap == pytest.approx(score - 84.32, abs=0.3)


def test_outside_the_tolerance_an_interval_that_reaches_it_is_close():
    assert paper_cells.judged(Estimate(82.9, 82.5, 83.3, 3, ""), 84.32, 1.2) == "close"
    assert paper_cells.judged(Estimate(82.9, 82.8, 83.0, 3, ""), 84.32, 1.2) == "not reproduced"
    assert paper_cells.judged(Estimate(82.9, None, None, 1, ""), 84.32, 1.2) == "close"  # within twice the tolerance
    assert paper_cells.judged(Estimate(81.9, None, None, 1, ""), 84.32, 1.2) == "not reproduced"


def test_the_right_number_on_other_data_is_of_another_setting_and_says_in_what(tmp_path):
    truth = published_truth()
    found = t7(tmp_path / "s", lambda c: truth(c) + 20)  # the published numbers themselves
    cells, _ = judged(found)
    attempted = [one for one in cells if one.attempted]
    assert {one.status for one in attempted} == {"other setting"}
    assert abs(attempted[0].gap) < 2
    assert [d.text for d in attempted[0].differences] == [
        "data digits (published: imagenet100)", "encoder small_resnet (published: resnet50)",
        "epochs 2 (published: 400)",
    ]  # fmt: skip
    assert "0 reproduced" in paper.bottom_line(found, T7, cells, [])
    assert "no gap can be told" in paper.bottom_line(found, T7, cells, [])


def test_a_published_setting_that_is_not_known_is_never_met(tmp_path):
    arm = SyntheticArm(flat(92.51), encoder="resnet18", cells=[{"data.name": "cifar10"}])
    found = study(load(sweep(tmp_path / "s", {"lejepa": arm}, "t5_in_domain")))
    table = load_published().table("T5")
    one = next(one for one in paper_cells.comparisons(found, table) if one.cell.id == "t5/resnet18/cifar10")
    assert one.status == "other setting"
    assert [d.text for d in one.differences] == ["epochs 20 (published: not known)"]


def test_a_cell_with_an_unfinished_seed_gets_no_verdict(tmp_path):
    arm = SyntheticArm(flat(80.0), cells=views_and_lambdas((0.01,)), ends={(0, 1): "diverged"})
    cells, _ = judged(study(load(sweep(tmp_path / "s", {"lejepa": arm}))))
    one = next(one for one in cells if one.cell.id == "t7/V2/lamb0.01")
    assert one.attempted
    assert one.estimate is None


def test_cells_that_were_not_attempted_stay_visible_greyed_with_a_cost_only_where_one_was_measured(tmp_path):
    arm = SyntheticArm(flat(80.0), cells=[c for c in views_and_lambdas() if c["views.global_views"] == 2])
    found = study(load(sweep(tmp_path / "s", {"lejepa": arm})))
    cells, _ = judged(found)
    assert len(cells) == 26
    table = paper_cells.cell_table(T7, cells, "paper-0")
    rows = {row[0].raw: row for row in table.rows}
    missing = rows["t7/V2/lamb0.001"]
    assert {value.tone for value in missing} == {"muted"}
    # 20 epochs of 0.4 s, as the other λ of these views took
    assert missing[6].text == "not attempted: costs 0.0022 device-hours a seed at this sweep's setting"
    assert rows["t7/V8/lamb0.05"][6].text == "not attempted: cost unknown"  # eight views were never trained


def test_another_method_is_at_no_cell(tmp_path):
    arms = {"vicreg": SyntheticArm(flat(84.0), "vicreg", cells=views_and_lambdas((0.01, 0.02)))}
    cells, findings = judged(study(load(sweep(tmp_path / "s", arms))))
    assert not any(one.attempted for one in cells)
    assert findings == []


# -- which sweeps -----------------------------------------------------------------------------------------------------


def test_a_sweep_of_another_name_with_the_tables_axes_is_compared_with_it(tmp_path):
    cells = [{k: v for k, v in c.items() if k != "views.local_views"} for c in views_and_lambdas((0.01, 0.02))]
    arms = {"lejepa": SyntheticArm(flat(70.0), cells=cells)}
    found = study(load(sweep(tmp_path / "s", arms, "mine")))
    assert [table.id for table in paper.tables_of(found, load_published())] == ["T7"]


def test_a_sweep_over_lambda_alone_has_no_such_section(tmp_path):
    folder = write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(flat(70.0), cells=lambda_cells())})
    assert paper.sections(study(load(folder))) == []
    assert paper.sections(study(load(write_sweep(tmp_path / "q", quickstart_arms())))) == []


# -- known differences ------------------------------------------------------------------------------------------------


def test_launch_settings_are_measured_each_against_the_arm_without_them(tmp_path):
    def arm(level, **switch):
        return SyntheticArm(flat(level), cells=({},), noise=0.05), switch

    folder = tmp_path / "s"
    levels = {"lejepa": 60.0, "lejepa+teacher": 63.0, "lejepa+drop_path": 59.9, "lejepa+launch": 63.5}
    settings = {
        "lejepa+teacher": ["teacher"],
        "lejepa+drop_path": ["drop_path"],
        "lejepa+launch": ["teacher", "drop_path"],
    }
    sweep(folder, {name: SyntheticArm(flat(level), noise=0.05) for name, level in levels.items()}, "t1_launch_settings")
    found = study(load(folder))
    rows = found.sweep.trials.drop_duplicates("key")
    for key, name in zip(rows["key"], rows["arm"], strict=True):
        config, own = found.sweep.configs[key], settings.get(name, [])
        config["method"]["teacher"] = 0.99 if "teacher" in own else None
        config["encoder"]["drop_path"] = 0.1 if "drop_path" in own else 0.0
    effects = paper_effects.effects(found, load_published().table("T1a"))
    assert [(one.arm, len(one.switches)) for one in effects] == [
        ("lejepa+teacher", 1), ("lejepa+drop_path", 1), ("lejepa+launch", 2),
    ]  # fmt: skip
    assert [one.estimate.mean for one in effects] == pytest.approx([3.0, -0.1, 3.5], abs=0.2)
    assert effects[0].verdict == "decided"
    assert effects[0].here == "method.teacher — → 0.99"
    (section,) = paper.sections(found)
    assert "Not measured here: a patch mask ratio of 0.3" in section.blocks[0].paragraphs[0]
    rows = next(block for block in section.blocks if isinstance(block, Table)).rows
    assert [row[7].raw for row in rows] == [pytest.approx(3.0, abs=0.2), pytest.approx(2.9, abs=0.3), None]


# -- the whole report -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The section alone, in every format: a whole report draws many figures."""
    folder = tmp_path_factory.mktemp("runs")
    arms = {
        "lejepa": SyntheticArm(hill(lambda v: 0.005 * v), cells=views_and_lambdas((0.005, 0.01, 0.05)), epochs=2),
        HOSTILE[0]: SyntheticArm(flat(50.0), cells=views_and_lambdas((0.1,)), encoder="<script>alert(2)</script>"),
    }
    found = study(load(sweep(folder / "s", arms)))
    shown = Card("?", "!", "undecided", "nothing is", [], [], "harness run", "again", None)
    document = Document("T7", shown, paper.sections(found), "", trials=provenance.trials(found))
    return write(document, folder / "report", {})


def test_the_section_is_in_every_format_and_hostile_names_are_text_in_it(files):
    page, markdown, latex = (path.read_text() for path in (files.html, files.markdown, files.latex))
    assert "T7 of the paper: λ × number of views" in page
    assert "## T7 of the paper: λ × number of views" in markdown
    assert r"T7 of the paper: \ensuremath{\lambda} \ensuremath{\times} number of views" in latex
    assert "<script>alert(2)" not in page
    assert "<script>alert(2)" not in markdown
    assert "&lt;script&gt;alert(2)" in page
    assert (files.html.parent / "tables" / "paper-0-shapes.csv").is_file()
    csv = (files.html.parent / "tables" / "paper-0-cells.csv").read_text()
    assert csv.count("\nt7/") == 26
    assert "not attempted" in csv


def test_the_bottom_line_counts_what_was_attempted_and_what_holds(files):
    (line,) = [text for text in files.markdown.read_text().splitlines() if text.startswith("T7: ")]
    assert line.startswith("T7: 10 of 26 cells attempted, 0 reproduced, ")
    assert "no gap can be told, as every attempted cell is of another setting." in line
