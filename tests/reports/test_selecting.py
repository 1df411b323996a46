"""Reports of sweeps that were selected without labels: labels judge, what has collapsed ranks last, regret is told."""

import math

import pytest
import yaml
from planted import Searched, write_searched
from synthetic import SyntheticArm, hill, lambda_cells, write_sweep

from harness.ledger import Ledger
from reports.evidence import study
from reports.load import load
from reports.sections import gate, lambda_, lambda_labelfree
from reports.sections.labelfree import choices, sections

LOSS = {"name": "loss/lambda^0.4", "mode": "min"}


def amend(folder, metric, last=None):
    """Give a sweep another metric; `last(config, metrics)`: a further epoch of every trial that was trained."""
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**spec, "metric": metric}, sort_keys=False))
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for row in ledger.trials() if last else ():
            epochs = ledger.epochs(row.key)
            if row.config["method"]["name"] not in ("random", "pixels"):
                metrics = epochs[-1].metrics | last(row.config, epochs[-1].metrics)
                ledger.add_epoch(row.key, len(epochs) + 1, metrics, {"seconds": 0.4})
    return folder


def swept(folder, last, noise=0.2, arms=None):
    """λ of which 0.01 and 0.05 are best by labels, and a loss as `last` has it."""
    arms = arms or {"lejepa": SyntheticArm(hill(best=0.02), cells=lambda_cells())}
    return study(load(amend(write_sweep(folder, arms, metric="val/linear", noise=noise), LOSS, last)))


def lowest_at(best, collapsed=()):
    """loss / λ^0.4 is lowest at `best` of what has not collapsed, and lower still in what has."""

    def last(config, metrics):
        lamb = config["method"]["lamb"]
        if lamb == 0:
            return {}
        if lamb in collapsed:
            return {"train/loss": 1e-3, "diag/collapsed": 1.0}
        return {"train/loss": lamb**0.4 * (1 + abs(math.log10(lamb / best)))}

    return last


def test_without_labels_the_loss_selects_and_test_accuracy_judges(tmp_path):
    found = swept(tmp_path / "s", lowest_at(0.2))
    assert found.judge == "test/linear"
    assert found.labels == "val/linear"
    assert found.leads.selected.values == {"method.lamb": 0.2}
    assert found.leads.selected.val.tolist() == pytest.approx([-1.0] * 3)
    assert found.leads.selected.estimate.mean == pytest.approx(70 - 9 * math.log10(0.2 / 0.02) ** 2, abs=2.5)


def test_what_has_collapsed_is_judged_and_never_chosen(tmp_path):
    found = swept(tmp_path / "s", lowest_at(0.05, collapsed=(0.2, 0.5)))
    gone = [cell for cell in found.leads.cells if cell.count("collapsed")]
    assert [cell.values["method.lamb"] for cell in gone] == [0, 0.2, 0.5]
    assert all(cell.complete and cell.estimate is not None for cell in gone)
    assert all(cell.val.mean() == -math.inf for cell in gone)
    assert found.leads.selected.values == {"method.lamb": 0.05}


def test_one_collapsed_seed_ranks_its_cell_behind_every_other(tmp_path):
    def last(config, metrics):
        lucky = config["method"]["lamb"] == 0.5 and config["seed"] > 0
        return lowest_at(0.5, collapsed=() if lucky else (0.5,))(config, metrics)

    assert swept(tmp_path / "s", last).leads.selected.values == {"method.lamb": 0.2}


def test_the_regret_is_what_the_choice_by_labels_has_more_of_test(tmp_path):
    found = swept(tmp_path / "s", lowest_at(0.2, collapsed=(0.5,)), noise=0.0)
    (choice,) = choices(found)
    best, chosen, last = (70 - 9 * math.log10(lamb / 0.02) ** 2 for lamb in (0.01, 0.2, 0.5))
    assert (choice.chosen, choice.by_labels) == ("λ = 0.2", "λ = 0.01")
    assert choice.regret.mean == pytest.approx(best - chosen)
    assert choice.alone == pytest.approx(best - last), "the loss alone would have taken a collapsed training"
    said = sections(found)[0].blocks[0].paragraphs[0]
    assert "6 trainings of 18 collapsed and rank last" in said
    assert "labels judge" in said.lower()


def test_a_worse_choice_is_a_warning_of_the_gate_and_an_equal_one_is_none(tmp_path):
    name = "Selected without labels, judged on test"
    for at, result in ((0.5, "warn"), (0.01, "pass")):
        found = swept(tmp_path / str(at), lowest_at(at), noise=0.05)
        (check,) = [check for check in gate.gate(found) if check.name.startswith("Selected")]
        assert (check.name, check.result) == (name, result)


def test_the_answer_says_by_what_it_was_selected(tmp_path):
    found = swept(tmp_path / "s", lowest_at(0.05))
    assert "by −loss/λ^0.4" in lambda_.answer(found, found.leads)
    assert "on validation" not in lambda_.answer(found, found.leads)


def test_the_section_on_lambda_compares_with_labels_all_the_same(tmp_path):
    found = swept(tmp_path / "s", lowest_at(0.2))
    pool = lambda_labelfree.pool_of(found, found.leads)
    by_name = {one.name: one for one in lambda_labelfree.criteria(found, pool)}
    expected = hill(best=0.02)({"method.lamb": 0.01}) - hill(best=0.02)({"method.lamb": 0.2})
    assert by_name["loss / λ^0.4"].regret.mean == pytest.approx(expected, abs=1.5)


def test_floors_have_no_loss_and_are_judged(tmp_path):
    arms = {
        "lejepa": SyntheticArm(hill(best=0.02), cells=lambda_cells()),
        "random": SyntheticArm(lambda cell: 52.0, "random"),
    }
    found = swept(tmp_path / "s", lowest_at(0.05), arms=arms)
    (floor,) = [arm for arm in found.arms if arm.is_floor]
    assert floor.selected.complete
    assert [check.result for check in gate.gate(found) if check.name.startswith("Trained arms beat")] == ["pass"]


def test_the_search_is_judged_within_its_studies_on_validation(tmp_path):
    def quality(number, ordinal):
        return 60.0 + ordinal

    folder = write_searched(
        tmp_path / "s", {"vicreg": Searched(quality, trials=6, collapsed=[(0, 0)])}, noise=0.0, seeds=(0, 1)
    )
    place = {}
    with Ledger(folder / "ledger.db") as ledger:
        place = {row.key: (row.study, row.ordinal) for row in ledger.assignments() if row.purpose == "search"}
        rates = {ledger.trial(key).config["optimizer"]["lr"]: at for key, at in place.items()}

    def last(
        config, metrics
    ):  # rises with the ordinal: the first trial has the lowest, and of study 0 it has collapsed
        return {"train/loss": 1.0 + rates[config["optimizer"]["lr"]][1]}

    found = study(load(amend(folder, {"name": "train/loss", "mode": "min"}, last)))
    (choice,) = choices(found)
    assert choice.judge == "val/linear"
    assert choice.regret.mean == pytest.approx(((65 - 61) + (65 - 60)) / 2)
    assert choice.alone == pytest.approx(5.0)


def test_a_rank_selects_upwards(tmp_path):
    def last(config, metrics):
        return {"diag/rankme": 10 + 100 * config["method"]["lamb"]}

    folder = write_sweep(tmp_path / "s", {"lejepa": SyntheticArm(hill(), cells=lambda_cells())}, metric="val/linear")
    found = study(load(amend(folder, {"name": "diag/rankme", "mode": "max"}, last)))
    assert found.leads.selected.values == {"method.lamb": 0.5}
    assert found.metric == "RankMe (no labels)"


def test_a_sweep_selected_by_labels_says_nothing_of_it(tmp_path):
    found = study(load(write_sweep(tmp_path / "s")))
    assert not sections(found)
    assert (found.metric, found.labels, found.judge) == ("val/shot1", "val/shot1", "test/shot1")


@pytest.mark.filterwarnings("error")
def test_where_everything_collapsed_there_is_no_plateau_and_no_warning(tmp_path):
    found = swept(tmp_path / "s", lowest_at(0.05, collapsed=(0.002, 0.01, 0.05, 0.2, 0.5)))
    assert lambda_.plateau(found.leads) is None
    assert "what collapsed has no rank" in lambda_.answer(found, found.leads)
    assert choices(found)[0].by_labels.endswith("(collapsed)")
