"""Two sweeps side by side: what is compared, what is refused, and what is said."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.ledger import Ledger
from reports import compare, load
from reports import statistics as st
from reports.evidence import study
from reports.pairing import pair_up
from reports.sections import compared_card
from reports.unpaired import unpaired_interval

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, hill, lambda_cells, write_sweep


def arms(level=64.0, **changes):
    return {"vicreg": SyntheticArm(flat(level), "vicreg", **changes)}


def paired(first, second):
    return pair_up(study(load(first)), study(load(second)))


def two(tmp_path, first=None, second=None, a=None, b=None):
    """Folders of two sweeps: the arms and the options of each."""
    return (
        write_sweep(tmp_path / "before", first or arms(), **(a or {})),
        write_sweep(tmp_path / "after", second or arms(67.0), **(b or {})),
    )


def rewrite(folder, table, column, value):
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        ledger._execute(f"UPDATE {table} SET {column} = ?", (value,))


def test_a_planted_difference_between_two_sweeps_is_found_and_paired_by_seed(tmp_path):
    pair = paired(*two(tmp_path)).pairs[0]
    assert pair.paired
    assert pair.estimate.mean == pytest.approx(3.0, abs=1e-6)
    assert pair.verdict == "decided"


def test_other_seeds_make_the_difference_an_unpaired_one(tmp_path):
    before, after = two(tmp_path, b={"seeds": (5, 6, 7)})
    pair = paired(before, after).pairs[0]
    assert not pair.paired
    assert pair.estimate.how == "Welch t, unpaired"
    reference = stats.ttest_ind(pair.b.judged, pair.a.judged, equal_var=False).confidence_interval()
    assert (pair.estimate.low, pair.estimate.high) == pytest.approx((reference.low, reference.high))


def test_welchs_interval_covers_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        found = unpaired_interval(rng.normal(2.0, 1.0, 5), rng.normal(0.0, 3.0, 8))
        hits += found.low <= 2.0 <= found.high
    assert 0.93 < hits / 2000 < 0.97


def test_one_seed_on_a_side_has_no_interval():
    assert unpaired_interval([1.0], [2.0, 3.0]).low is None
    with pytest.raises(ValueError, match="finite"):
        unpaired_interval([], [1.0])


def test_other_data_are_not_comparable_and_the_report_says_so(tmp_path):
    before, after = two(tmp_path)
    rewrite(after, "trials", "data", "0ther" * 8)
    report = compare(before, after, tmp_path / "out")
    assert report.strength == "invalid"
    assert report.answer.startswith("Not comparable: data differ")
    shared = next(block for section in report.document.sections for block in section.blocks
                  if getattr(block, "name", "") == "shared")  # fmt: skip
    assert all(value.raw is None for row in shared.rows for value in row[1:5])  # no numbers side by side


def test_another_metric_is_not_comparable(tmp_path):
    before, after = two(tmp_path, b={"metric": "val/knn"})
    assert "judged by" in compare(before, after, tmp_path / "out").answer


def test_another_setting_of_the_evaluation_is_not_comparable(tmp_path):
    before, after = two(tmp_path)
    with Ledger(after / "ledger.db") as ledger, ledger.transaction():
        ledger._execute("""UPDATE trials SET config = replace(config, '"k":20', '"k":5')""")
    rewrite(after, "trials", "data", "0ther" * 8)
    assert "settings of the evaluation differ" in compare(before, after, tmp_path / "out").answer


def test_another_encoder_is_refused_for_that_cell(tmp_path):
    before, after = two(tmp_path, second=arms(67.0, encoder="small_vit"))
    assert paired(before, after).pairs[0].refusal.startswith("encoders differ")


def test_nothing_shared_is_said(tmp_path):
    before, after = two(tmp_path, second={"simclr": SyntheticArm(flat(60.0), "simclr")})
    assert "no arm with the same values" in compare(before, after, tmp_path / "out").answer


def test_a_cell_whose_seeds_did_not_all_finish_has_no_interval(tmp_path):
    before, after = two(tmp_path, second=arms(67.0, ends={(0, 1): "diverged"}))
    report = compare(before, after, tmp_path / "out")
    assert report.strength == "undecided"
    assert "1 of 3 diverged" in report.markdown.read_text()


def test_a_copy_of_a_sweep_differs_in_nothing(tmp_path):
    before, after = two(tmp_path, second=arms())
    report = compare(before, after, tmp_path / "out")
    assert "same trials" in report.answer
    assert report.strength == "undecided"


def test_what_differs_in_code_and_sweep_file_is_listed(tmp_path):
    before, after = two(tmp_path, b={"code": "beef" * 16, "rope": 2.0})
    text = compare(before, after, tmp_path / "out").markdown.read_text()
    assert "| **trainer's code** | c0dec0de" in text
    assert "| **rope** | 1 | 2 |" in text


def test_every_shared_cell_is_compared_and_what_is_alone_is_named(tmp_path):
    first = {"lejepa": SyntheticArm(hill(), cells=lambda_cells((0.01, 0.05, 0.2)))}
    second = {"lejepa": SyntheticArm(hill(), cells=lambda_cells((0.05, 0.2, 0.5)))}
    before, after = two(tmp_path, first, second)
    found = paired(before, after)
    assert [pair.a.values["method.lamb"] for pair in found.pairs] == [0.05, 0.2]
    text = compare(before, after, tmp_path / "out").markdown.read_text()
    assert "Only in before: lejepa, λ = 0.01." in text
    assert "Only in after: lejepa, λ = 0.5." in text


def test_the_order_decides_the_sign_only(tmp_path):
    before, after = two(tmp_path)
    there, back = paired(before, after).pairs[0].estimate, paired(after, before).pairs[0].estimate
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_a_comparison_has_all_forms_and_every_number_names_its_sweep(tmp_path):
    before, after = two(tmp_path)
    report = compare(before, after, tmp_path / "out")
    assert report.latex.is_file()
    keys = (tmp_path / "out" / "tables" / "shared.csv").read_text()
    assert "a:" in keys
    assert "b:" in keys
    page = report.html.read_text()
    assert "--dir" in page
    assert f"{before.parent.name}/before" in page
    assert f"{after.parent.name}/after" in page


@pytest.mark.parametrize(("level", "noise", "settles"), [(65.0, 6.0, True), (65.5, 1.6, False)])
def test_what_is_open_between_two_sweeps_is_settled_by_seeds_of_its_cell_or_not_at_all(
    tmp_path, monkeypatch, level, noise, settles
):
    monkeypatch.setattr(compared_card, "_effect", lambda pairing, names: None)
    first = {"vicreg": SyntheticArm(flat(64.0), "vicreg"), "simclr": SyntheticArm(flat(50.0), "simclr")}
    before, after = two(tmp_path, first, {**first, "vicreg": SyntheticArm(flat(level), "vicreg", noise=noise)})
    pairing = paired(before, after)
    said = compared_card.card(pairing, ("before", "after"))
    needed = st.pairs_needed(pairing.primary.b.judged - pairing.primary.a.judged, 1.0)
    assert said.strength == "undecided"
    assert (needed is not None) == settles
    if settles:
        assert f"--set seeds={needed} --set arms.simclr=null" in said.command
        assert f": {needed - 3} trials, about" in said.command_note
    else:
        assert (said.command, said.command_note.split(":")[0]) == ("", "Nothing affordable settles it")
