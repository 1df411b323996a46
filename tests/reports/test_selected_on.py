"""Whatever is said to be the best says by which metric it was found to be."""

import sys
from pathlib import Path

from reports import load
from reports.evidence import study
from reports.sections import lambda_

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import write_sweep
from test_selecting import lowest_at, swept


def test_what_selected_is_named_with_labels_and_without(tmp_path):
    with_labels = study(load(write_sweep(tmp_path / "with")))
    without = swept(tmp_path / "without", lowest_at(0.05))
    for found, name in ((with_labels, "by 1-shot validation accuracy"), (without, "by −loss/λ^0.4")):
        answer, curve, plateaus, cells = lambda_.sections(found)[0].blocks[:4]
        for said in (answer.paragraphs[0], curve.caption, plateaus.caption):
            assert name.removeprefix("by ") in said
        assert any(row[-1].text == f"selected {name}" for row in cells.rows)
        assert cells.columns[2].startswith(name.removeprefix("by "))
