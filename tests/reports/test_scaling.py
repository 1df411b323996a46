"""The scaling section on sweeps whose truth is planted: laws, verdicts between arms, and what is kept apart."""

import hashlib
import itertools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.ledger import Ledger, canonical
from harness.spec import STUDY_SEEDS
from reports import build, load
from reports.content import Card, Document, Figure, Items, Table
from reports.evidence import study
from reports.render import write
from reports.sections import factor, question, scaling, scaling_lines, scaling_rules

sys.path.insert(0, str(Path(__file__).parent))
from planted import undrawn
from synthetic import SyntheticArm, config_of, flat, lambda_cells, write_environment, write_spec, write_sweep

WIDTHS, LIMITS, EPOCHS = (8, 16, 32, 64, 128), (1000, 4000, 16000), (4, 12)


def params(width):
    return 300 * width**2


@dataclass
class Grown:
    """An arm's error is c + size·(width / 8)^−b + data·(images · epochs / 4000)^−0.4 percent."""

    b: float = 0.5
    size: float = 20.0
    c: float = 10.0
    data: float = 25.0
    method: str = "lejepa"
    flops: float = 1.0  # times those of another arm
    encoder: str = "small_resnet"
    ends: Mapping[tuple[int, int], str] = field(default_factory=dict)  # (width, seed) → state other than finished

    def error(self, width, images, epochs):
        return self.c + self.size * (width / 8) ** -self.b + self.data * (images * epochs / 4000) ** -0.4


@dataclass
class OfCompute(Grown):
    """60·(FLOPs / those of the smallest)^−b percent, whichever way it grows."""

    def error(self, width, images, epochs):
        return 60 * ((width / 8) ** 2 * images * epochs / 4000) ** -self.b


def grow(folder, arms, *, widths=WIDTHS, limits=LIMITS, epochs=EPOCHS, seeds=3, noise=0.15, costs=True):
    folder.mkdir(parents=True)
    write_spec(folder, list(arms), range(seeds), None, 1.0, "val/linear", "What does scale bring?")
    write_environment(folder, None)
    rng = np.random.default_rng(1)
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for name, arm in arms.items():
            for width, images, length in itertools.product(widths, limits, epochs):
                for seed in range(seeds):
                    _train(ledger, rng, name, arm, (width, images, length), seed, noise, costs)
    return folder


def _train(ledger, rng, name, arm, size, seed, noise, costs):
    width, images, length = size
    cell = {"encoder.width": width, "data.limit": images, "epochs": length}
    config = config_of(SyntheticArm(lambda cell: 0.0, arm.method, encoder=arm.encoder, epochs=length), cell, seed)
    key = hashlib.sha256(canonical({"config": config, "arm": name}).encode()).hexdigest()[:16]
    ledger.add_trial(key, config, seed, length, "da7a" * 16, "c0de" * 16)
    ledger.assign(name, cell, 0, seed, "evidence", key)
    info = {"device": "cpu", "threads": 1, "encoder_params": params(width), "probe_protocol": "p-1"}
    ledger.add_event("started", key, attempt=1, epoch=0, info=info)
    error = arm.error(*size) + float(rng.normal(0, noise))
    timing = {"seconds": 2.0}
    if costs:
        timing |= {"train_seconds": 1.5, "images_per_second": images / 1.5}
        timing |= {"flops_per_image": 6 * params(width) * arm.flops}
    state = arm.ends.get((width, seed), "finished")
    for epoch in range(1, (length if state == "finished" else 2) + 1):
        done = {"val/linear": 100 - error} if epoch == length else {}
        metrics = {"train/loss": 0.2 + error / 50, "diag/collapsed": 0.0, **done}
        ledger.add_epoch(key, epoch, metrics, timing, at=float(epoch))
    if state == "finished":
        ledger.add_event("finished", key, test={"test/linear": 100 - error}, info=info)
    else:
        ledger.add_event("diverged", key, epoch=2, step=1, reason="the loss is NaN")


@pytest.fixture(scope="module")
def two_arms(tmp_path_factory):
    arms = {"lejepa": Grown(b=0.6), "vicreg": Grown(b=0.15, size=17.0, method="vicreg")}
    return grow(tmp_path_factory.mktemp("runs") / "s", arms)


@pytest.fixture
def quick(monkeypatch):
    """Words and tables without their drawings."""
    monkeypatch.setattr("reports.figures.scaling", undrawn)


@cache
def section(folder):
    found = scaling.sections(study(load(folder)))
    return found[0] if found else None


def said(found):
    return [text for block in found.blocks if isinstance(block, Items) for text in block.items]


def table(found, name):
    return next(block for block in found.blocks if isinstance(block, Table) and block.name == f"scaling-{name}")


# -- laws -------------------------------------------------------------------------------------------------------------


def test_the_laws_of_a_planted_sweep_are_recovered_where_the_other_sizes_are_largest(two_arms, quick):
    rows = table(section(two_arms), "laws").frame()
    size = rows[(rows["arm"] == "lejepa") & (rows["of"] == "error") & (rows["against"].str.contains("size"))].iloc[0]
    assert (size["at"], size["scales"]) == ("16,000 images, 12 epochs", 5)
    assert (size["from"], size["to"]) == (params(8), params(128))
    assert size["b [95 % interval]"] == pytest.approx(0.3, abs=0.04)  # of parameters, which grow as width squared
    left = 10 + 25 * (16000 * 12 / 4000) ** -0.4
    assert size["c [95 % interval]"] == pytest.approx(left, abs=1.0)
    assert abs(size["the largest missed by (%)"]) < 5


def test_samples_and_flops_are_those_of_the_whole_training(two_arms, quick):
    rows = table(section(two_arms), "measured").frame()
    mine = rows[(rows["arm"] == "vicreg") & (rows["images"] == 4000) & (rows["epochs"] == 12)].sort_values("encoder")
    assert set(mine["samples seen (thousand)"]) == {48.0}
    assert sorted(mine["training TFLOPs"]) == pytest.approx([6 * params(w) * 48_000 / 1e12 for w in WIDTHS])
    assert sorted(mine["encoder parameters (M)"]) == pytest.approx([params(w) / 1e6 for w in WIDTHS])


def test_three_amounts_of_data_are_shown_and_refused(two_arms, quick):
    rows = table(section(two_arms), "laws").frame()
    data = rows[(rows["of"] == "error") & (rows["against"] == "samples seen, data")]
    assert set(data["law"]) == {"none"}
    assert set(data["lack of fit"].dropna()) == set()
    assert set(data.iloc[:, -2]) == {"3 scales, and a law with an offset needs 4"}


def test_a_scale_with_a_diverged_seed_is_shown_and_enters_no_law(tmp_path, quick):
    found = section(grow(tmp_path / "s", {"lejepa": Grown(ends={(32, 1): "diverged"})}, limits=(4000,), epochs=(4,)))
    rows = table(found, "measured").frame()
    lost = rows[rows["encoder parameters (M)"].round(4) == params(32) / 1e6].iloc[0]
    assert np.isnan(float(lost["error, 100 − accuracy (%) [95 % interval]"] or np.nan))
    assert lost.iloc[-2] == "1 of 3 diverged"
    assert set(table(found, "laws").frame()["scales"]) == {4}


def test_a_size_that_changes_nothing_has_no_trend(tmp_path, quick):
    found = section(grow(tmp_path / "s", {"lejepa": Grown(size=0.0)}, limits=(4000,), epochs=(4,)))
    assert ": no law, no trend (log–log slope" in said(found)[0]


def test_what_was_not_recorded_is_not_fitted(tmp_path, quick):
    found = section(grow(tmp_path / "s", {"lejepa": Grown()}, costs=False))
    assert set(table(found, "laws").frame()["against"]) == {"encoder parameters, encoder size"}


# -- extrapolations ---------------------------------------------------------------------------------------------------


def test_what_is_extrapolated_stands_in_no_table_with_what_was_measured(two_arms, quick):
    found = section(two_arms)
    beyond, rows = table(found, "beyond").frame(), table(found, "measured").frame()
    points = beyond[(beyond["of"] == "error") & beyond["scale"].notna()]
    assert len(points) >= 2
    assert (points["times the largest scale measured"] > 1).all()
    assert points["times the largest scale measured"].max() == pytest.approx(4.0)
    by_size = points[points["against"].str.startswith("encoder parameters")]
    assert by_size["scale"].min() > 1e6 * rows["encoder parameters (M)"].max()
    for column in (*rows.columns, *table(found, "laws").columns):
        assert "extrapolated" not in column


# -- arm against arm --------------------------------------------------------------------------------------------------


def test_curves_that_cross_inside_are_said_to_cross_where_they_do(two_arms, quick):
    (line,) = [text for text in said(section(two_arms)) if text.startswith("lejepa or vicreg, error against encoder")]
    assert "lejepa scales better than vicreg" in line
    grid = np.geomspace(8, 128, 100_001)
    gap = np.abs(20 * (grid / 8) ** -0.6 - 17 * (grid / 8) ** -0.15)
    truth = params(grid[gap.argmin()]) / 1e6
    shown = line.split("the curves cross at ")[1].split(":")[0]
    low, high = (float(x) for x in shown.split("[")[1].rstrip("]").split(", "))
    assert low <= truth <= high
    assert "vicreg is better below, lejepa above" in line


def test_a_crossing_beyond_the_range_is_not_claimed(tmp_path, quick):
    arms = {"lejepa": Grown(b=0.6), "vicreg": Grown(b=0.55, size=30.0, c=9.0, method="vicreg")}
    found = section(grow(tmp_path / "s", arms, limits=(4000,), epochs=(4,)))
    (line,) = [text for text in said(found) if text.startswith("lejepa or vicreg, error against encoder")]
    assert "lejepa is better throughout, and no crossing lies inside" in line


def test_methods_on_other_encoders_are_not_compared(tmp_path, quick):
    arms = {"lejepa": Grown(), "vicreg": Grown(method="vicreg", encoder="small_convnext")}
    found = section(grow(tmp_path / "s", arms, limits=(4000,), epochs=(4,)))
    lines = [text for text in said(found) if text.startswith("lejepa or vicreg")]
    assert lines
    assert all(text.endswith("not compared, they have other encoders.") for text in lines)


# -- hyperparameters across scale -------------------------------------------------------------------------------------


def best_lambda(power):
    def truth(cell):
        return 70 - 9 * math.log10(cell["method.lamb"] / (0.005 * cell["views.global_views"] ** power)) ** 2

    return truth


def views_sweep(folder, power, lambdas=(0.0005, 0.002, 0.008, 0.03, 0.12, 0.5), noise=0.1):
    cells = [
        {"views.global_views": v, "views.local_views": 0, **lamb} for v in (2, 4, 8) for lamb in lambda_cells(lambdas)
    ]
    return write_sweep(folder, {"lejepa": SyntheticArm(best_lambda(power), cells=cells, noise=noise)})


def test_a_best_lambda_that_grows_with_the_views_is_said_to_and_one_that_does_not_is_not(tmp_path):
    (grows,) = said(section(views_sweep(tmp_path / "a", 1.0)))
    assert grows.startswith("Best λ against views V in lejepa")
    assert ": grows with exponent " in grows
    assert grows.endswith("the paper's 0.005·V is exponent 1, inside.")
    (stays,) = said(section(views_sweep(tmp_path / "b", 0.0)))
    assert ": not shown to move, exponent " in stays
    assert stays.endswith("outside.")


def test_a_best_lambda_at_the_end_of_its_grid_is_undecided(tmp_path):
    (text,) = said(section(views_sweep(tmp_path / "s", 1.0, lambdas=(0.008, 0.016, 0.03))))
    assert ": undecided, the best value is at an edge of what was tried, at scale " in text


def test_the_best_learning_rate_is_read_from_search_trials_of_every_width(tmp_path):
    """Planted: the best rate is 0.032 / width."""
    folder = grow(tmp_path / "s", {"lejepa": Grown()}, widths=(8, 16, 32), limits=(4000,), epochs=(4,))
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    spec["arms"]["lejepa"] = {"nuisance": {"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec))
    rng = np.random.default_rng(0)
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for width, number, ordinal in itertools.product((8, 16, 32), range(3), range(40)):
            rate = float(10 ** rng.uniform(-4, -1))
            cell = {"encoder.width": width, "data.limit": 4000, "epochs": 4}
            config = config_of(SyntheticArm(flat(0.0), epochs=4), cell, STUDY_SEEDS + number)
            config["optimizer"]["lr"] = rate
            key = f"{width}-{number}-{ordinal}"
            ledger.add_trial(key, config, STUDY_SEEDS + number, 4, "da7a" * 16, "c0de" * 16)
            ledger.assign("lejepa", cell, number, ordinal, "search", key)
            ledger.add_event("started", key, attempt=1, epoch=0, info={})
            worth = 70 - 5 * math.log10(rate * width / 0.032) ** 2
            ledger.add_epoch(key, 4, {"val/linear": worth, "train/loss": 1.0}, {"seconds": 1.0}, at=1.0)
            ledger.add_event("finished", key, test={}, info={})
    (found,) = scaling_rules.rules(study(load(folder)))
    assert (found.path, found.scale, found.searched, found.rounds) == (
        "optimizer.lr",
        "encoder.width",
        True,
        "3 studies",
    )
    assert found.rule.slope.low < -1 < found.rule.slope.high
    assert "Best learning rate against encoder width" in scaling_rules.sentence(found)


# -- the question of its sweep -----------------------------------------------------------------------------------------


def test_a_sweep_over_sizes_is_answered_by_its_law_of_compute(tmp_path, quick):
    arms = {"lejepa": OfCompute(b=0.15), "vicreg": OfCompute(b=0.1, method="vicreg")}
    folder = grow(tmp_path / "s", arms, widths=WIDTHS[:3], epochs=EPOCHS[:1])
    said = question.answer(question.focused(study(load(folder))))
    assert said.startswith("Error of lejepa against training FLOPs (compute: the best at each cost) falls as")
    assert "lejepa scales better than vicreg" in said


def test_a_sweep_over_sizes_is_decided_at_the_largest_scale(two_arms, quick):
    found = question.focused(study(load(two_arms)))
    largest = {"encoder.width": 128, "data.limit": 16000, "epochs": 12}
    assert [cell.values for cell in (found.primary.a, found.primary.b)] == [largest, largest]
    assert found.primary.estimate.mean > 0  # lejepa's error falls faster with width
    assert found.leads.name == "lejepa"


def test_where_the_points_bend_the_answer_claims_no_law_and_the_largest_scale_is_compared(two_arms, quick):
    """Planted: error is what size leaves and what data leave, together no power of compute."""
    answer = question.answer(question.focused(study(load(two_arms))))
    assert answer.startswith("Error of lejepa against training FLOPs (compute: the best at each cost) falls from ")
    assert "but by no power law: the points bend, and no single exponent describes them (lack of fit F(" in answer
    assert "Local exponents are " in answer
    assert "Not extrapolated." in answer
    assert "no laws to compare, lejepa follows none (F(" in answer
    assert "scales better" not in answer
    found = section(two_arms)
    (largest,) = [text for text in said(found) if "at the largest scale of both" in text]
    assert "(small_resnet (width 128), 16,000 images, 12 epochs): lejepa is ahead, lejepa − vicreg = +" in largest
    assert largest.endswith("points in test linear-probe accuracy (3 paired seeds).")
    laws = table(found, "laws").frame()
    bent = laws[(laws["of"] == "error") & laws["against"].str.endswith("compute")]
    assert set(bent["law"]) == {"none"}
    assert (bent["lack of fit"] < 0.01).all()
    assert bent["b [95 % interval]"].isna().all()
    beyond = table(found, "beyond").frame()
    mine = beyond[(beyond["of"] == "error") & beyond["against"].str.endswith("compute")]
    assert mine["scale"].isna().all()
    assert mine.iloc[:, -2].str.startswith("not extrapolated: the points bend").all()


def test_with_one_seed_the_report_says_that_misfit_cannot_be_tested(tmp_path, quick):
    found = section(grow(tmp_path / "s", {"lejepa": Grown()}, limits=(4000,), epochs=(4,), seeds=1))
    assert any("falls as a power law" in text and "whether the law fits cannot be tested" in text.lower()
               for text in said(found))  # fmt: skip
    assert set(table(found, "laws").frame()["lack of fit"].dropna()) == set()


def test_a_sweep_over_sizes_with_a_declared_contrast_keeps_it(two_arms):
    plain = study(load(two_arms))
    plain.sweep.spec["contrast"] = ["vicreg", "lejepa"]
    assert question.focused(plain) is plain
    assert scaling.answer(plain) is None


# -- where it stands --------------------------------------------------------------------------------------------------


def test_an_arm_that_only_grows_has_no_factor_section_beside_its_scale(two_arms, ordinary, quick):
    grown = study(load(two_arms))
    assert len(grown.encoders) == len(WIDTHS)
    assert scaling.covers(grown) == {"lejepa", "vicreg"}
    assert factor.sections(grown, scaling.covers(grown)) == []
    shown = {block.rows[i][0].raw for block in section(two_arms).blocks if isinstance(block, Table)
             and block.name == "scaling-measured" for i in range(len(block.rows))}  # fmt: skip
    assert shown == {"lejepa", "vicreg"}
    assert scaling.covers(study(load(ordinary))) == set()


def test_a_sweep_without_three_scales_has_no_such_section(ordinary, tmp_path):
    assert section(ordinary) is None
    assert section(grow(tmp_path / "s", {"lejepa": Grown()}, widths=(8, 16), limits=(4000,), epochs=(4, 12))) is None


def test_the_front_of_a_cost_holds_what_nothing_cheaper_beats(two_arms):
    found = study(load(two_arms))
    (front,) = [
        line
        for line in scaling_lines.lines(found, scaling_lines.ladders(found))
        if line.arm == "lejepa" and line.along == "compute"
    ]
    means = [rung.cell.val.mean() for rung in front.rungs]
    assert means == sorted(means)
    assert front.x == sorted(front.x)
    for rung in scaling_lines.rungs(found, "lejepa"):
        rivals = [mine.cell.val.mean() for mine in front.rungs if mine.flops <= rung.flops]
        assert max(rivals) >= rung.cell.val.mean()


def written(found, folder):
    card = Card("What does scale bring?", "It depends.", "undecided", "no contrast", [], [], "harness run", "", None)
    return write(Document("scale", card, [found], "made from a ledger"), folder, {})


def test_the_section_is_written_in_every_format_with_its_seeds(tmp_path):
    folder = grow(tmp_path / "s", {"lejepa": Grown()}, limits=(4000,), epochs=(4,))
    (found,) = scaling.sections(study(load(folder)))
    files = written(found, tmp_path / "out")
    figures = [block for block in found.blocks if isinstance(block, Figure)]
    assert [figure.name for figure in figures] == ["scaling-error", "scaling-loss"]
    assert "nothing was measured there" in figures[0].caption
    assert set(figures[0].data["seed"]) == {0, 1, 2}
    for name in ("measured", "laws", "beyond"):
        assert (tmp_path / "out" / "tables" / f"scaling-{name}.csv").is_file()
    assert "## Scale" in files.markdown.read_text()
    assert "scaling-error" in files.latex.read_text()
    assert "<svg" in files.html.read_text()


@pytest.mark.slow
def test_the_report_of_a_sweep_over_sizes_holds_the_section(tmp_path):
    report = build(grow(tmp_path / "s", {"lejepa": Grown()}, limits=(4000,), epochs=(4,)))
    assert "scaling" in [section.id for section in report.document.sections]
