"""What the ledger says of searched parameters, in the report; the report computes nothing of it."""

import sys
from pathlib import Path

import pytest
import yaml

from harness.ledger import Ledger
from reports import load
from reports.content import Figure, Prose, Table
from reports.evidence import study
from reports.sections import importance

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, lambda_cells, write_sweep

LR, DECAY = "optimizer.lr", "optimizer.weight_decay"


def share(mean, low, high):
    return {"mean": mean, "low": low, "high": high}


CLEAR = {LR: share(0.9, 0.7, 0.97), DECAY: share(0.1, 0.03, 0.3)}
NOISE = {LR: share(0.55, 0.1, 0.9), DECAY: share(0.45, 0.1, 0.9)}


def event(ledger, arm, cell, parameters, n=24, reason=None, left_out=None):
    keys = [row.key for row in ledger.assignments() if (row.arm, row.cell) == (arm, cell)]
    ledger.add_event(
        "importance", arm=arm, cell=cell, metric="val/shot1", n=n, keys=keys, left_out=left_out or {},
        parameters=parameters, reason=reason, quantile=0.2, resamples=200, by="PED-ANOVA of optuna 5.0.0",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    arms = {"lejepa": SyntheticArm(lambda cell: 70.0, cells=lambda_cells((0.01, 0.05))),
            "vicreg": SyntheticArm(flat(64.0), "vicreg")}  # fmt: skip
    return write_sweep(tmp_path / "s", arms)


def blocks(folder, kind):
    return [block for section in importance.sections(study(load(folder))) for block in section.blocks
            if isinstance(block, kind)]  # fmt: skip


def test_a_sweep_whose_ledger_says_nothing_of_it_has_no_such_section(folder):
    assert importance.sections(study(load(folder))) == []


def test_the_parameter_that_stands_out_is_named_with_the_cells_in_which_it_does(folder):
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "lejepa", {"method.lamb": 0.01}, CLEAR)
        event(ledger, "lejepa", {"method.lamb": 0.05}, NOISE)
        event(ledger, "vicreg", {}, CLEAR)
    answer = blocks(folder, Prose)[0].paragraphs[0]
    assert "was the learning rate in lejepa at λ = 0.01 and vicreg;" in answer
    assert answer.endswith("in 1 other cell none stands out.")


def test_where_no_interval_lies_above_an_equal_share_nothing_is_concluded(folder):
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "vicreg", {}, NOISE)
    assert blocks(folder, Prose)[0].paragraphs[0].startswith("No searched parameter stands out in any of 1 cell")


def test_every_share_is_shown_with_its_interval_n_and_trials(folder):
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "vicreg", {}, CLEAR, left_out={"pruned": 3, "diverged": 2})
    (table,) = blocks(folder, Table)
    assert [row[3].text for row in table.rows] == ["90 [70, 97]", "10 [3, 30]"]
    assert {row[5].raw for row in table.rows} == {24}
    assert all(len(row[0].keys) == 3 for row in table.rows)
    (figure,) = blocks(folder, Figure)
    assert "n = 24 trials" in figure.caption
    assert "learning rate 90 %" in figure.alt
    assert set(figure.data["parameter"]) == {LR, DECAY}
    assert "Left out: 2 diverged and 3 pruned." in blocks(folder, Prose)[1].paragraphs[0]


def test_the_last_word_on_a_cell_counts_and_a_refusal_is_said(folder):
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "vicreg", {}, NOISE)
        event(ledger, "vicreg", {}, CLEAR, n=30)
        event(ledger, "lejepa", {"method.lamb": 0.05}, {}, n=3, reason="3 have finished")
    (table,) = blocks(folder, Table)
    assert {row[5].raw for row in table.rows} == {30}
    assert blocks(folder, Prose)[-1].paragraphs == ["Not weighed: lejepa at λ = 0.05 (3 have finished)."]


def test_a_search_that_could_not_be_weighed_at_all_says_why(folder):
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "vicreg", {}, {}, reason="one parameter was searched: there is nothing to share")
    said = [block.paragraphs[0] for block in blocks(folder, Prose)]
    assert said[0] == "The search says nothing about which parameter mattered."
    assert "one parameter was searched" in said[1]


def test_parameters_under_a_condition_are_named_as_not_weighed_with_their_condition(folder):
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    under = {"uniform": [0.8, 0.99], "when": {"optimizer.name": "sgd"}}
    spec["arms"]["lejepa"] = {"nuisance": {LR: {"log_uniform": [1e-4, 1e-2]}, "optimizer.momentum": under}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "lejepa", {"method.lamb": 0.01}, CLEAR)
        event(ledger, "vicreg", {}, CLEAR)
    (said,) = [text for block in blocks(folder, Prose) for text in block.paragraphs if "Not weighed" in text]
    assert said.startswith("Not weighed: optimizer.momentum in lejepa, where optimizer.name is sgd. Only some trials")
