"""The λ section on sweeps whose truth is planted: plateau, price, learning rate, choosing without labels."""

import hashlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.ledger import Ledger, canonical
from reports import load
from reports.content import Figure, Prose, Table
from reports.evidence import study
from reports.interaction import best_of_each, slope
from reports.sections import diagnostics, lambda_, lambda_labelfree, lambda_rate
from reports.sections.losses import sigreg_bounds
from reports.spoken import spoken

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, config_of, flat, hill, lambda_cells, quickstart_arms, write_run, write_sweep

TEN = tuple(float(f"{value:.3g}") for value in 10 ** np.linspace(-3, -0.3, 10))


def lejepa(truth, lambdas=(0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3), **changes):
    return {"lejepa": SyntheticArm(truth, cells=lambda_cells(lambdas), **changes)}


def section(folder):
    (found,) = lambda_.sections(study(load(folder)))
    return found


def text(found):
    return " ".join(paragraph for block in found.blocks if isinstance(block, Prose) for paragraph in block.paragraphs)


def answer(folder):
    found = study(load(folder))
    return lambda_.answer(found, found.leads)


def ranked(folder):
    """Sentence and criteria by name, of all trainings."""
    found = study(load(folder))
    pool = lambda_labelfree.pool_of(found, found.leads)
    criteria = lambda_labelfree.criteria(found, pool)
    return lambda_labelfree.sentence(found, pool, criteria), {one.name: one for one in criteria}


def table(found, name):
    return next(block for block in found.blocks if isinstance(block, Table) and block.name == name)


def rewrite(folder, change):
    """Add a last epoch to every trial: change(config, level) → metrics, level being the trial's last validation."""
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for row in ledger.trials():
            epochs = ledger.epochs(row.key)
            if epochs:
                level = epochs[-1].metrics["val/shot1"]
                ledger.add_epoch(row.key, row.epochs + 1, change(row.config, level), {"seconds": 0.4})


# -- the answer -------------------------------------------------------------------------------------------------------


def test_the_answer_names_an_interval_a_default_and_the_price_of_ten_times(tmp_path):
    arms = lejepa(hill(peak=70, best=0.03, fall=9.0), noise=0.0)
    said = answer(write_sweep(tmp_path / "s", arms))
    assert "λ = 0.03" in said
    # 9 points a squared decade: one decade costs 9 and what both λ lie from the peak
    assert "about ten times too large (0.3) costs 9.0" in said
    assert "about ten times too small (0.003) costs 9.0" in said


def test_a_planted_plateau_is_given_with_its_width_in_decades(tmp_path):
    def truth(cell):
        return 70.0 if 0.003 <= cell["method.lamb"] <= 0.1 else 55.0

    found = study(load(write_sweep(tmp_path / "s", lejepa(truth, noise=0.05), seed_spread=2.0)))
    flat_part = lambda_.plateau(found.leads)
    assert (flat_part.low, flat_part.high) == (0.003, 0.1)
    assert flat_part.decades == pytest.approx(math.log10(0.1 / 0.003))
    assert "Any λ from 0.003 to 0.1 (1.5 decades) is as good as the best" in lambda_.answer(found, found.leads)


def test_a_plateau_that_reaches_the_end_of_the_grid_is_said_to_be_open(tmp_path):
    said = answer(write_sweep(tmp_path / "s", lejepa(flat(60.0), noise=0.05), seed_spread=8.0))
    assert "at least 2.5 decades" in said
    assert "maybe beyond, since the smallest and largest λ tried belong to it" in said


def test_with_one_seed_no_plateau_is_claimed(tmp_path):
    said = answer(write_sweep(tmp_path / "s", lejepa(hill()), seeds=(0,)))
    assert "is not known (one seed has no standard error)" in said


def test_a_ten_times_larger_lambda_that_diverges_is_priced_in_trainings(tmp_path):
    arms = lejepa(hill(best=0.03), ends={(6, 0): "diverged", (6, 2): "diverged"})
    said = answer(write_sweep(tmp_path / "s", arms))
    assert "about ten times too large (0.3) costs trainings (2 of 3 diverged)" in said


def test_every_number_of_views_has_its_own_plateau_and_its_own_mark(tmp_path):
    cells = [{"method.lamb": lamb, "views.global_views": v} for lamb in (0.005, 0.01, 0.02, 0.05) for v in (2, 4, 8)]

    def truth(cell):  # the best λ grows with the number of views
        return 70 - 20 * abs(math.log10(cell["method.lamb"] / (0.005 * (cell["views.global_views"]))))

    arms = {"lejepa": SyntheticArm(truth, cells=cells, noise=0.05)}
    found = section(write_sweep(tmp_path / "s", arms))
    frame = table(found, "lambda-0-plateau").frame()
    assert frame["best λ tried"].tolist() == [0.01, 0.02, 0.05]
    figure = next(block for block in found.blocks if isinstance(block, Figure))
    assert "0.005·V = 0.03 (V = 6)" in figure.svg  # 4 global and the 2 local views of the base
    told = [f"λ = {lamb:g}, views.global_views = {v}: " for lamb in (0.005, 0.01, 0.02, 0.05) for v in (2, 4, 8)]
    assert all(figure.alt.count(one) == 1 for one in told)
    assert [row[2].text for row in table(found, "lambda-0-plateau").rows] == ["0.01", "0.02", "0.05 (largest tried)"]


def test_words_for_a_figure_say_how_many_points_they_leave_out():
    assert spoken(["a", "b"]) == "a; b"
    assert spoken([str(n) for n in range(70)]).endswith("58; 59; and 10 more, which the data has")


def test_a_smaller_metric_gives_a_positive_price(tmp_path):
    def truth(cell):
        return 10 + 5 * math.log10((cell["method.lamb"] or 1e-4) / 0.03) ** 2

    folder = write_sweep(tmp_path / "s", lejepa(truth, noise=0.01), metric="val/error")
    spec = (folder / "sweep.yaml").read_text().replace("mode: max", "mode: min")
    (folder / "sweep.yaml").write_text(spec)
    assert "about ten times too large (0.3) costs 5" in answer(folder)


# -- the two losses ---------------------------------------------------------------------------------------------------


def test_the_losses_stand_in_the_section_on_lambda_and_not_again_below(tmp_path):
    found = study(load(write_sweep(tmp_path / "s")))
    (swept,) = lambda_.sections(found)
    assert "losses" in [block.name for block in swept.blocks if isinstance(block, Figure)]
    below = [block.name for block in diagnostics.section(found).blocks if isinstance(block, Figure)]
    assert not [name for name in below if name.startswith("losses")]


def test_where_lambda_stands_still_the_losses_stay_with_the_diagnostics(tmp_path):
    folder = write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(flat(60.0), cells=[{"method.lamb": 0.05}])})
    found = study(load(folder))
    assert not lambda_.sections(found)
    assert "losses" in [block.name for block in diagnostics.section(found).blocks if isinstance(block, Figure)]


def test_floor_and_ceiling_follow_the_quadrature_that_ran():
    config = {"method": {"name": "lejepa"}, "batch_size": 128, "views": {"global_views": 2, "local_views": 2}}
    found = sigreg_bounds(config)
    assert (found.floor, found.ceiling) == (pytest.approx(1.0525, abs=1e-4), pytest.approx(0.4020 * 128, abs=0.01))
    config["method"] |= {"t_max": 5.0, "interval": "whole", "sample": "pooled"}
    found = sigreg_bounds(config)
    assert (found.floor, found.per_sample) == (pytest.approx(1.0594, abs=1e-4), pytest.approx(0.4089, abs=1e-4))
    assert found.samples == 512
    assert sigreg_bounds({"method": {"statistic": "watson"}, "batch_size": 8}) is None


# -- choosing without labels ------------------------------------------------------------------------------------------


def test_a_loss_that_foretells_the_accuracy_is_found_to_and_costs_nothing(tmp_path):
    folder = write_sweep(tmp_path / "s", lejepa(hill(best=0.03, fall=12), TEN, noise=0.3), seeds=range(4))

    def change(config, level):  # accuracy falls with loss / λ^0.4
        return {"train/loss": (100 - level) * config["method"]["lamb"] ** 0.4, "val/shot1": level}

    rewrite(folder, change)
    said, by = ranked(folder)
    assert said.startswith("Among 40 trainings, the loss foretells the accuracy: loss / λ^α, held out has ρ = −")
    assert by["loss / λ^0.4"].rho.mean < -0.97
    assert by["loss / λ^α, held out"].rho.mean < -0.95
    assert by["loss / λ^0.4"].regret.mean == pytest.approx(0, abs=0.2)
    assert by["training loss"].rho.mean > -0.9
    alphas = [float(part) for part in by["loss / λ^α, held out"].alpha.split(" (")[0].split(" to ")]
    assert alphas == pytest.approx([0.4] * len(alphas), abs=0.05)


def test_a_loss_that_has_nothing_to_do_with_the_accuracy_is_said_not_to_foretell_it(tmp_path):
    folder = write_sweep(tmp_path / "s", lejepa(flat(60.0), TEN, noise=2.0), seeds=range(4))
    rng = np.random.default_rng(0)
    rewrite(folder, lambda config, level: {"train/loss": float(rng.uniform(1, 2)), "val/shot1": level})
    said, by = ranked(folder)
    assert "the loss is not shown to foretell the accuracy" in said
    assert by["loss / λ^α, held out"].foretells is False


def test_collapsed_trainings_are_ranked_too_and_the_others_also_alone(tmp_path):
    folder = write_sweep(tmp_path / "s", lejepa(hill(best=0.03), TEN))

    def change(config, level):
        collapsed = float(config["method"]["lamb"] < 0.003)
        return {"train/loss": 100 - level, "val/shot1": level, "diag/collapsed": collapsed}

    rewrite(folder, change)
    found = section(folder)
    frame = table(found, "lambda-0-labelfree").frame()
    assert set(frame["among"]) == {"all", "not collapsed"}
    assert set(frame["n (trainings)"]) == {30, 24}
    assert "Among 24 trainings that did not collapse" in text(found)


def test_fewer_than_five_trainings_are_not_ranked(tmp_path):
    found = study(load(write_sweep(tmp_path / "s", lejepa(hill(), (0.01, 0.1)), seeds=(0, 1))))
    assert not lambda_labelfree.blocks(found, found.leads, 0)


# -- λ × learning rate ------------------------------------------------------------------------------------------------


def search(folder, power, studies=3, tries=12, lambdas=(0, 0.01, 0.03, 0.1)):
    """Add search trials whose validation is best at lr = 0.003·(λ/0.03)^power; a third of them is pruned."""
    rng = np.random.default_rng(5)
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for lamb in lambdas:
            cell = {"method.lamb": lamb}
            arm = SyntheticArm(flat(0.0), cells=[cell])
            for number in range(studies):
                for ordinal, rate in enumerate(10 ** rng.uniform(-4.5, -0.5, tries)):
                    config = config_of(arm, cell, number)
                    config["optimizer"]["lr"] = float(rate)
                    off = math.log10(rate / (0.003 * ((lamb or 0.03) / 0.03) ** power))
                    key = hashlib.sha256(canonical({"search": number, "n": ordinal, **config}).encode()).hexdigest()[
                        :16
                    ]
                    ledger.add_trial(key, config, number, arm.epochs, "da7a" * 16, "c0de" * 16)
                    ledger.assign("lejepa", cell, number, ordinal, "search", key)
                    state = "pruned" if abs(off) > 1.3 else "finished"
                    write_run(ledger, rng, key, config, 70 - 15 * off**2, arm.epochs, state, "val/shot1")
    return folder


def searched(tmp_path, power):
    arms = lejepa(hill(best=0.03), (0, 0.01, 0.03, 0.1))
    return search(write_sweep(tmp_path / "s", arms), power)


def test_a_best_learning_rate_that_stands_still_is_not_said_to_move(tmp_path):
    sweep = study(load(searched(tmp_path, 0.0)))
    found = lambda_rate.tried(sweep, sweep.leads)
    said = lambda_rate.sentence(found, slope(found.tries))
    assert said.startswith("That the best learning rate moves with λ is not shown")
    assert "n = 3 studies" in said
    assert [best.y for best in best_of_each(found.tries)] == pytest.approx([0.003] * 4, rel=0.7)


def test_a_best_learning_rate_that_follows_lambda_is_said_to(tmp_path):
    found = section(searched(tmp_path, 1.0))
    assert "The best learning rate rises with λ, by" in text(found)
    assert table(found, "lambda-0-rate").frame()["pruned"].sum() > 0
    figure = next(b for b in found.blocks if isinstance(b, Figure) and b.name == "lambda-0-rate")
    assert "pruned" in figure.svg
    assert len(figure.data) == 4 * 3 * 12


def test_a_crossed_grid_of_rates_is_a_heat_map_over_seeds(tmp_path):
    cells = [{"method.lamb": x, "optimizer.lr": y} for x in (0.01, 0.03, 0.1) for y in (1e-3, 3e-3, 1e-2)]

    def truth(cell):
        return 70 - 30 * math.log10(cell["optimizer.lr"] / (0.1 * cell["method.lamb"])) ** 2

    found = section(write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(truth, cells=cells, noise=0.2)}))
    frame = table(found, "lambda-0-rate").frame()
    assert frame["best learning rate"].tolist() == pytest.approx([1e-3, 3e-3, 1e-2])
    assert "rises with λ, by" in text(found)
    assert "n = 3 seeds" in text(found)


def test_a_rate_at_which_a_seed_diverged_is_not_the_best_of_the_others(tmp_path):
    cells = [{"method.lamb": x, "optimizer.lr": y} for x in (0.01, 0.1) for y in (1e-3, 1e-2, 1e-1)]
    truth = lambda cell: 70 + math.log10(cell["optimizer.lr"])  # noqa: E731 the largest rate is best
    arms = {"lejepa": SyntheticArm(truth, cells=cells, noise=0.05, ends={(5, 1): "diverged"})}
    sweep = study(load(write_sweep(tmp_path / "s", arms)))
    best = best_of_each(lambda_rate.tried(sweep, sweep.leads).tries)
    assert [round(one.y, 3) for one in best] == [0.1, 0.01]


def test_without_several_rates_nothing_is_said_of_them(tmp_path):
    found = study(load(write_sweep(tmp_path / "s", quickstart_arms())))
    assert not lambda_rate.blocks(found, found.leads, 0)
