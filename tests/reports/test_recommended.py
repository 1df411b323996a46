"""What the ledger says of a search's recommendation, in the report; the report computes nothing of it."""

import sys
from pathlib import Path

import pytest

from harness.ledger import Ledger
from reports import load
from reports.content import Prose, Table
from reports.evidence import study
from reports.sections import recommended

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, write_sweep

LAMB, LR = "method.lamb", "optimizer.lr"


@pytest.fixture
def folder(tmp_path):
    return write_sweep(
        tmp_path / "s", {"lejepa": SyntheticArm(flat(70.0)), "vicreg": SyntheticArm(flat(64.0), "vicreg")}
    )


def event(ledger, arm, **keys):
    payload = {
        "arm": arm, "cell": {}, "metric": "val/shot1", "keys": [r.key for r in ledger.assignments() if r.arm == arm],
        "stopped": 2, "point": {LAMB: 0.02, LR: 0.01}, "reason": None, "mean": 66.0, "error": 1.0, "chance": 0.62,
        "intervals": {LAMB: [0.01, 0.05], LR: [0.01, 0.01]}, "noise": 2.0, "values": 40,
    }  # fmt: skip
    ledger.add_event("recommended", **{**payload, **keys})


def blocks(folder, kind):
    return [block for section in recommended.sections(study(load(folder))) for block in section.blocks
            if isinstance(block, kind)]  # fmt: skip


def test_a_sweep_whose_ledger_recommends_nothing_has_no_such_section(folder):
    assert recommended.sections(study(load(folder))) == []
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "lejepa", point={}, reason="too few")
    assert recommended.sections(study(load(folder))) == []


def test_the_latest_recommendation_is_shown_with_where_the_best_may_lie_and_its_chance(folder):
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "lejepa", point={LAMB: 0.5, LR: 0.1})
        event(ledger, "lejepa")
    answer = blocks(folder, Prose)[0].paragraphs[0]
    assert "λ = 0.02" in answer
    assert "2 were stopped early" in answer
    assert "62 %" in answer
    [table] = blocks(folder, Table)
    assert [row[4].text for row in table.rows] == ["0.01 to 0.05", "0.01 to 0.01"]


def test_a_cell_without_a_fit_says_why(folder):
    with Ledger(folder / "ledger.db") as ledger:
        event(ledger, "lejepa")
        event(ledger, "vicreg", point={}, reason="3 trials have a value")
    assert blocks(folder, Prose)[-1].paragraphs == ["No fit: vicreg (3 trials have a value)."]
