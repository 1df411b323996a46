"""What a sweep asks decides what its card says, and on which pair of cells its strength rests."""

import sys
from pathlib import Path

import pytest

from reports import load
from reports.evidence import study
from reports.sections import card, gate, heuristics, question, recipes, scaling

sys.path.insert(0, str(Path(__file__).parent))
from encoders import Encoder, write_encoders
from planted import all_heuristics, write_heuristics
from synthetic import flat
from test_slices import rising, slices_sweep


class Card:
    """A card without its figure."""

    def __init__(self, folder: Path) -> None:
        self.study = question.focused(study(load(folder)))
        self.checks = gate.gate(self.study)
        said = card.card(self.study, self.checks)
        self.strength, self.note, self.answer, self.facts = said.strength, said.strength_note, said.answer, said.facts


@pytest.fixture(autouse=True)
def _without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_figure", lambda study: None)


def test_a_sweep_of_slices_is_answered_by_the_smallest_number_that_is_as_good(tmp_path: Path) -> None:
    found = Card(slices_sweep(tmp_path / "s", rising(64), seeds=range(6)))
    assert found.answer.startswith("M = 64 is equivalent to exact slices (")
    assert found.strength == "equivalent"
    assert found.study.primary is not None
    assert {found.study.primary.a_text, found.study.primary.b_text} == {"M = 64", "exact slices"}


def test_noisy_slices_are_undecided_on_the_smallest_number_that_may_do(tmp_path: Path) -> None:
    found = Card(slices_sweep(tmp_path / "s", rising(16), noise=3.0, seeds=range(3)))
    assert found.answer.startswith("Not decided: M = 16 differs from exact slices by ")
    assert found.strength == "undecided"


def test_slices_that_all_lose_are_decided_against_the_nearest(tmp_path: Path) -> None:
    found = Card(slices_sweep(tmp_path / "s", rising(4096), seeds=range(6)))
    assert found.answer.startswith("Take exact slices: every smaller M is worse, M = 1024 by ")
    assert found.strength == "decided"


def test_a_sweep_of_encoders_is_answered_by_one_per_budget(tmp_path: Path) -> None:
    sizes = [Encoder(50, 40, width=16), Encoder(58, 160, width=32), Encoder(66, 640, width=64)]
    found = Card(write_encoders(tmp_path / "s", sizes))
    assert found.answer.startswith("Up to 40 MFLOPs a training image take resnet 16 (")
    assert found.strength == "decided"
    assert found.study.primary is not None
    assert (found.study.primary.a_text, found.study.primary.b_text) == ("resnet 64", "resnet 32")


def test_a_sweep_of_switches_is_answered_by_what_prevents_collapse(tmp_path: Path) -> None:
    found = Card(write_heuristics(tmp_path / "s", all_heuristics(), contrast=("lejepa", "byol")))
    assert found.study.leads is not None
    group = recipes.recipes(found.study, found.study.leads.encoder)
    assert found.answer == " ".join(heuristics.answer(found.study, group)[:2])
    assert found.answer.startswith("Superfluous with lejepa")
    assert found.strength == "leaning", "to collapse is what bare predictions are there for"
    assert found.note == "the intervals settle 3 of 4 additions to lejepa, and not the other"
    (effect,) = [text for label, text, _ in found.facts if label == "Effect"]
    assert effect.startswith("lejepa − byol: +")
    assert "points, decided, for lejepa (" in effect


def test_a_declared_contrast_of_arms_stays_the_question(tmp_path: Path) -> None:
    from synthetic import quickstart_arms, write_sweep

    folder = write_sweep(tmp_path / "s", quickstart_arms(), contrast=("lejepa", "vicreg"))
    plain = study(load(folder))
    assert question.focused(plain) is plain
    assert question.answer(plain) is None


def test_slices_with_one_value_are_no_question(tmp_path: Path) -> None:
    folder = slices_sweep(tmp_path / "s", lambda cell: flat(60.0)(cell), seeds=range(3))
    found = question.focused(study(load(folder)))
    assert found.focus is not None
    assert found.leads is not None
    assert found.leads.name == "lejepa"


def test_of_several_lines_of_slices_the_least_certain_gives_the_strength(tmp_path: Path) -> None:
    rest = ({"projector.dim": 64}, {"projector.dim": 256})
    folder = slices_sweep(tmp_path / "s", rising(64), rest=rest, seeds=range(3))
    found = Card(folder)
    verdicts = [one.verdict for one in question._of_slices(found.study)]
    doubt = ("decided", "equivalent", "leaning", "undecided")
    assert found.strength == max(verdicts, key=doubt.index)
    assert "exact slices (projector dim = " in found.note
    assert all(text[0].isupper() for text in found.answer.split(". ") if text)


def test_a_strength_that_is_of_one_contrast_names_it(tmp_path: Path) -> None:
    from synthetic import quickstart_arms, write_sweep

    found = Card(write_sweep(tmp_path / "s", quickstart_arms(), contrast=("lejepa", "vicreg")))
    assert found.note.startswith("lejepa − vicreg: the interval of the difference ")


def test_what_scale_brings_is_followed_by_the_contrast_that_the_strength_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "answer", lambda study: "Error falls.")
    found = Card(Path(__file__).parents[2] / "docs" / "results" / "scaling")
    contrast = "lejepa at the largest scale − simclr at the largest scale: "
    assert found.answer.startswith(f"Error falls. {contrast}+1.1 [")
    assert found.answer.endswith(f" points, {found.strength}.")
    assert found.note.startswith(contrast)
