"""The report on encoders, on ledgers whose truth is planted."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import build, figures, load
from reports import statistics as st
from reports.content import Prose, Section, Table, Value
from reports.evidence import Study, study
from reports.sections import architectures, encoder_costs, lineup, methods, tuning

sys.path.insert(0, str(Path(__file__).parent))
from encoders import IMAGES, Encoder, write_encoders
from planted import undrawn
from synthetic import SyntheticArm, flat, write_sweep

Write = Callable[..., Study]

SIZES = [Encoder(50, 40, width=16), Encoder(58, 160, width=32), Encoder(62, 640, width=64)]


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures stay undrawn."""
    for name in ("front", "spending"):
        monkeypatch.setattr(figures, name, undrawn)


@pytest.fixture
def write(tmp_path: Path, words: None) -> Write:
    def written(encoders: Sequence[Encoder], **options: Any) -> Study:
        return study(load(write_encoders(tmp_path / "sweep", encoders, **options)))

    return written


def only(found: Study) -> Section:
    (section,) = architectures.sections(found)
    return section


def prose(section: Section) -> list[str]:
    return [text for block in section.blocks if isinstance(block, Prose) for text in block.paragraphs]


def table(section: Section, name: str) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table) and block.name.endswith(name))


def row(table: Table, label: str) -> dict[str, Value]:
    (values,) = (values for values in table.rows if values[0].text == label)
    return dict(zip(table.columns, values, strict=True))


def starting(row: dict[str, Value], column: str) -> Value:
    (value,) = (value for name, value in row.items() if name.startswith(column))
    return value


# -- the answer -------------------------------------------------------------------------------------------------------


def test_each_budget_gets_the_encoder_that_was_planted_as_its_best(write: Write) -> None:
    found = write([*SIZES, Encoder(44, 60, "vit", "small_vit"), Encoder(51, 500, "vit", "small_vit", 64)])
    answer = architectures.answer(found)
    assert answer is not None
    first, second, third = answer.rstrip(".").split("; ")
    assert first.startswith("Up to 60 MFLOPs a training image take resnet 16 (test linear-probe accuracy ")
    assert second.startswith("up to 160 take resnet 32 (")
    assert third.startswith("up to 640 take resnet 64 (")
    assert "told apart" not in answer
    assert "equivalent" not in answer
    assert prose(only(found))[0] == answer


def test_equals_are_named_as_one_group_with_the_cheapest(write: Write) -> None:
    equal = [Encoder(60, 100, width=16), Encoder(60.4, 120, width=24), Encoder(60.2, 150, width=32)]
    answer = str(architectures.answer(write([replace(encoder, noise=0.05) for encoder in equal])))
    assert answer.startswith("Up to 150 MFLOPs a training image take resnet 24")  # within a factor of two: one tier
    assert answer.endswith(", equivalent to resnet 16 and resnet 32, the cheapest of them resnet 16.")


def test_three_noisy_seeds_tell_nothing_apart(write: Write) -> None:
    noisy = [Encoder(60 + i, 100 + 10 * i, width=16 + i, noise=6.0) for i in range(3)]
    found = write(noisy)
    assert "not told apart from" in str(architectures.answer(found))
    accuracy = table(only(found), "accuracy")
    for values in accuracy.rows:
        rank = dict(zip(accuracy.columns, values, strict=True))["rank [95 % interval]"]
        assert "[1, 3]" in rank.text


def test_a_dear_tier_in_which_nothing_is_better_says_so(write: Write) -> None:
    found = write([Encoder(60, 40, width=16), Encoder(52, 160, width=32), Encoder(53, 640, width=64)])
    answer = str(architectures.answer(found))
    assert answer.startswith("Up to 40 MFLOPs a training image take resnet 16")
    assert answer.endswith("up to 160 nothing measured better; up to 640 nothing measured better.")


def test_where_less_is_better_the_smallest_wins(tmp_path: Path) -> None:
    folder = write_encoders(tmp_path / "sweep", SIZES)
    spec = (folder / "sweep.yaml").read_text()
    (folder / "sweep.yaml").write_text(spec.replace("mode: max", "mode: min"))
    answer = str(architectures.answer(study(load(folder))))
    assert "take resnet 16" in answer
    assert answer.endswith("up to 160 nothing measured better; up to 640 nothing measured better.")


def test_a_best_that_collapsed_or_learned_nothing_is_said_to(tmp_path: Path) -> None:
    idle = [Encoder(30.0, 40, width=16, noise=3.0), Encoder(58, 160, width=32, collapsed=(0, 2))]
    found = study(load(write_encoders(tmp_path / "sweep", idle, floors=True)))
    first, second = str(architectures.answer(found)).split("; up to ")
    assert first.endswith("n = 3; no better than at its initialisation)")
    assert second.endswith("%; 2 of 3 seeds collapsed).")


def test_an_encoder_that_collapsed_is_never_the_cheap_advice(write: Write) -> None:
    cheap = Encoder(58.0, 100, width=16, noise=0.05, collapsed=(0,))
    answer = str(architectures.answer(write([cheap, Encoder(58.4, 150, width=32, noise=0.05)])))
    assert answer.endswith(", equivalent to resnet 16.")


# -- what is compared, and what is not --------------------------------------------------------------------------------


def test_nothing_is_shown_where_encoders_do_not_differ(tmp_path: Path) -> None:
    assert architectures.sections(study(load(write_sweep(tmp_path / "one")))) == []
    assert architectures.answer(study(load(tmp_path / "one"))) is None


def test_other_methods_and_other_budgets_are_no_comparison_of_encoders(tmp_path: Path, write: Write) -> None:
    arms = {"a": SyntheticArm(flat(60)), "b": SyntheticArm(flat(60), "vicreg", encoder="small_vit")}
    assert architectures.sections(study(load(write_sweep(tmp_path / "methods", arms)))) == []
    assert architectures.sections(write([Encoder(60, 40, width=16), Encoder(60, 90, width=32, batch=256)])) == []


def test_arms_of_one_method_on_two_encoders_are_compared_without_any_cost_in_the_ledger(
    tmp_path: Path, words: None
) -> None:
    arms = {
        "lejepa": SyntheticArm(flat(66)), "lejepa-vit": SyntheticArm(flat(55), encoder="small_vit"),
        "vicreg": SyntheticArm(flat(60), "vicreg"),
    }  # fmt: skip
    found = study(load(write_sweep(tmp_path / "methods", arms)))
    answer = str(architectures.answer(found))
    assert answer.startswith("Up to 0.4 s of training an epoch take small_resnet (1-shot test accuracy 6")
    assert not any(lineup.covers(found, encoder) for encoder in found.encoders[:1])  # vicreg is there, too
    assert [values[0].text for values in table(only(found), "costs").rows] == ["small_resnet", "small_vit"]


def test_what_differs_beside_the_encoder_is_said(write: Write) -> None:
    found = write([Encoder(60, 40, width=16), Encoder(50, 50, "vit", "small_vit", 64, decay=0.05)])
    said = prose(only(found))[-2]
    assert said == "Beside the encoder they differ in optimizer.weight_decay (0.0005 for resnet 16; 0.05 for vit 64)."


def test_nothing_else_differs_where_only_widths_do(write: Write) -> None:
    assert not any("Beside the encoder" in text for text in prose(only(write(SIZES))))


def test_an_encoder_that_lost_a_seed_is_shown_and_compared_with_nothing(write: Write) -> None:
    lost = Encoder(90, 170, width=48, state={1: "diverged"})
    found = write([*SIZES, lost])
    section = only(found)
    assert "resnet 48" not in prose(section)[0]
    values = row(table(section, "accuracy"), "resnet 48")
    assert values["verdict"].text == "1 of 3 diverged"
    assert values["collapsed, diverged"].text == "0, 1 of 3"
    assert starting(values, "difference").raw is None
    assert starting(values, "rank").raw is None
    assert starting(values, "test").raw is None


def test_methods_and_tuning_do_not_repeat_encoder_by_encoder_what_is_told_here(write: Write) -> None:
    found = write(SIZES, floors=True, studies=2)
    assert all(lineup.covers(found, encoder) for encoder in found.encoders)
    assert methods.sections(found) == []
    assert tuning.sections(found) == []


def test_an_encoder_stands_beside_itself_at_its_initialisation(write: Write) -> None:
    values = row(table(only(write(SIZES, floors=True)), "accuracy"), "resnet 32")
    assert starting(values, "at initialisation").raw == 30.0


# -- costs ------------------------------------------------------------------------------------------------------------


def test_costs_come_from_the_ledger(write: Write) -> None:
    costs = row(table(only(write(SIZES)), "costs"), "resnet 32")
    assert costs["parameters (M)"].raw == pytest.approx(1.6)
    assert costs["training FLOPs an image (M)"].raw == pytest.approx(160)
    assert costs["images/s"].raw == pytest.approx(1e11 / 160e6)
    assert costs["peak memory (MB)"].raw == pytest.approx(660)
    assert costs["training (s an epoch)"].raw == pytest.approx(160e6 * IMAGES / 1e11)
    assert costs["device time (s a trial)"].raw == pytest.approx(12 * 160e6 * IMAGES / 1e11)
    assert costs["in full"].text == "small_resnet (width 32)"
    assert len(costs["images/s"].keys) == 3


def test_what_the_ledger_does_not_say_stays_open_and_time_takes_the_place_of_flops(write: Write) -> None:
    section = only(write(SIZES, costs=False))
    assert prose(section)[0].startswith("Up to 0.512 s of training an epoch take resnet 16")
    costs = row(table(section, "costs"), "resnet 32")
    assert costs["images/s"].raw is None
    assert costs["peak memory (MB)"].raw is None
    assert not any("equal FLOPs" in column for column in table(section, "budgets").columns)


# -- equal budgets ----------------------------------------------------------------------------------------------------


def test_at_equal_flops_an_encoder_is_read_at_the_last_epoch_that_the_smallest_training_pays_for(write: Write) -> None:
    found = write(SIZES, epochs=20)  # the whole smallest training is 5 epochs of the middle one, 1.25 of the largest
    budgets = table(only(found), "budgets")
    flops = f"epoch at {20 * 40e6 * IMAGES / 1e12:.3g} TFLOPs"
    epochs = {values[0].text: dict(zip(budgets.columns, values, strict=True)) for values in budgets.rows}
    assert {label: values[flops].raw for label, values in epochs.items()} == {
        "resnet 16": 20, "resnet 32": 5, "resnet 64": 1,
    }  # fmt: skip
    assert {label: values["epoch at 20 epochs"].raw for label, values in epochs.items()} == dict.fromkeys(epochs, 20)
    (entry,) = (entry for entry in lineup.lineups(found)[0].entries if entry.label == "resnet 32")
    at_five = found.sweep.epochs_of(entry.keys).query("epoch == 5")["val/linear"].mean()
    assert epochs["resnet 32"]["at equal FLOPs (%)"].raw == pytest.approx(at_five)


def test_an_encoder_of_which_the_budget_pays_no_epoch_has_no_reading(write: Write) -> None:
    budgets = table(only(write([Encoder(50, 10, width=16), Encoder(60, 640, width=64)])), "budgets")
    values = row(budgets, "resnet 64")
    assert values["at equal FLOPs (%)"].raw is None
    assert values["at equal seconds (%)"].raw is None
    assert values["at equal epochs (%)"].raw is not None


def test_the_lead_passes_from_the_small_to_the_large_encoder_as_the_budget_grows(write: Write) -> None:
    quick, strong = Encoder(50, 40, width=16, noise=0), Encoder(60, 160, width=32, noise=0)
    found = write([quick, strong], epochs=20)
    assert any("at equal FLOPs resnet 16 leads first, then resnet 32 from " in text for text in prose(only(found)))


def test_a_curve_charges_training_and_not_evaluation(write: Write) -> None:
    found = write(SIZES)
    (entry, *_) = lineup.lineups(found)[0].entries
    seconds = encoder_costs.mean_curve(encoder_costs.curves(found, entry.cell, encoder_costs.SECONDS))
    assert seconds[-1][0] == pytest.approx(10 * 40e6 * IMAGES / 1e11)
    flops = encoder_costs.mean_curve(encoder_costs.curves(found, entry.cell, encoder_costs.FLOPS))
    assert flops[-1][0] == pytest.approx(10 * 40e6 * IMAGES)


# -- carried over against tuned ---------------------------------------------------------------------------------------


def test_what_tuning_gained_and_whether_it_changes_the_order_is_said(write: Write) -> None:
    turned = [
        Encoder(60, 40, width=16, carried=59.8, noise=0.05), Encoder(64, 80, width=32, carried=57.0, noise=0.05),
        Encoder(55, 160, width=64, carried=54.0, noise=0.05),
    ]  # fmt: skip
    section = only(write(turned, studies=3))
    (said,) = (text for text in prose(section) if "Tuning each encoder" in text)
    assert "with the settings carried over resnet 16 is best, with its own resnet 32" in said
    assert "correlate" not in said  # three encoders are too few
    values = row(table(section, "tuning"), "resnet 32")
    assert values["carried over (%)"].raw == pytest.approx(57.0)
    assert starting(values, "gain within the search").raw == pytest.approx(7.0)
    assert starting(values, "gain on fresh seeds").raw == pytest.approx(7.0, abs=0.6)
    assert len(values["encoder"].keys) == 3 + 3


def test_without_a_search_nothing_is_said_of_tuning(write: Write) -> None:
    assert not any("Tuning" in text for text in prose(only(write(SIZES))))


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_has_both_figures_with_their_words_and_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = [Encoder(50, 40, "<script>x</script>", width=16), Encoder(60, 160, "<script>x</script>", width=32)]
    report = build(write_encoders(tmp_path / "sweep", hostile))
    page = report.html.read_text(encoding="utf-8")
    assert "<script>x" not in page
    section = next(section for section in report.document.sections if section.id == "architectures-0")
    figures = [block for block in section.blocks if hasattr(block, "svg")]
    assert [figure.name for figure in figures] == ["architectures-0-front", "architectures-0-budgets"]
    for figure in figures:
        assert "n = 3 seeds" in figure.caption
        assert len(figure.data)
    assert "40: 50" in figures[0].alt or "40: 49" in figures[0].alt


def test_a_figure_of_equal_costs_incomplete_cells_and_long_names_is_drawn_without_complaint(
    recwarn: pytest.WarningsRecorder,
) -> None:
    whole = st.mean_interval([1.0, 2.0, 3.0])
    spots = [
        figures.Spot("a" * 60, "a", 0, 5.0, [1.0, 2.0, 3.0], whole), figures.Spot("b", "b", 1, 5.0, [2.0], None),
        figures.Spot("c", "b", 1, 5.0, [1.0], st.mean_interval([1.0]), collapsed=True),
    ]  # fmt: skip
    front = figures.front(figures.Text("f", "", ""), spots, [0], [], "cost", "worth")
    panel = figures.Panel("spent", [figures.Spending("a", 0, 0, [(1.0, 2.0)])], [(1.0, 2.0)], None)
    spent = figures.spending(figures.Text("s", "", ""), [panel], "worth")
    assert "a" * 23 + "…" in front.svg
    assert "incomplete" in front.svg
    assert "best at equal budget" in spent.svg
    assert not [str(warning.message) for warning in recwarn]
