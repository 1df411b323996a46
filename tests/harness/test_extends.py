"""One sweep file laid over another."""

from pathlib import Path

import pytest

from harness.spec import SpecError, load_sweep

BASE = """\
name: base
question: Which?
base: {epochs: 4, optimizer: {lr: 1.0e-3}}
scientific: {method.lamb: {grid: [0.01, 0.1]}}
arms: {lejepa: {}, vicreg: {base: {method: {name: vicreg}}, scientific: {}}}
seeds: 3
profiles:
  gpu: {base: {epochs: 40}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_what_is_not_said_again_stays_and_what_is_takes_its_place(folder: Path) -> None:
    mine = load_sweep(write(folder, "extends: base.yaml\nname: mine\nbase: {optimizer: {lr: 2.0e-3}}\nseeds: 5\n"))
    other = load_sweep(folder / "base.yaml")
    assert mine.name == "mine"
    assert mine.base == {"epochs": 4, "optimizer": {"lr": 2e-3}}
    assert (mine.question, mine.arms.keys(), mine.seeds) == (other.question, other.arms.keys(), (0, 1, 2, 3, 4))
    assert "extends" not in mine.to_yaml()


def test_an_arm_is_taken_back_and_profiles_are_inherited_and_extended(folder: Path) -> None:
    path = write(folder, "extends: base.yaml\nname: mine\narms: {vicreg: null}\nprofiles: {gpu: {seeds: 7}}\n")
    mine = load_sweep(path, "gpu")
    assert list(mine.arms) == ["lejepa"]
    assert mine.base["epochs"] == 40
    assert len(mine.seeds) == 7


def test_a_file_may_extend_one_that_extends_another_and_one_that_is_shipped(folder: Path) -> None:
    write(folder, "extends: base.yaml\nname: middle\nseeds: [4]\n", "middle.yaml")
    top = load_sweep(write(folder, "extends: middle.yaml\nname: top\nbase: {epochs: 9}\n"))
    assert (top.seeds, top.base["epochs"], top.question) == ((4,), 9, "Which?")
    longer = load_sweep(write(folder, "extends: quickstart\nname: longer\nbase: {epochs: 30}\n", "longer.yaml"))
    assert longer.base["epochs"] == 30
    assert longer.arms.keys() == load_sweep("quickstart").arms.keys()


def test_an_error_names_the_file_in_which_it_stands(folder: Path) -> None:
    write(folder, BASE.replace("lr: 1.0e-3", "rl: 1.0e-3"), "base.yaml")
    with pytest.raises(SpecError, match=r"base\.yaml:3: base\.optimizer\.rl: unknown key"):
        load_sweep(write(folder, "extends: base.yaml\nname: mine\n"))
    write(folder, BASE, "base.yaml")
    with pytest.raises(SpecError, match=r"mine\.yaml:3: base\.epoch: unknown key"):
        load_sweep(write(folder, "extends: base.yaml\nname: mine\nbase: {epoch: 3}\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: base.yaml\n", "needs a `name` of its own"),
        ("extends: [base.yaml]\nname: mine\n", "names one sweep file"),
        ("extends: bse.yaml\nname: mine\n", r"mine\.yaml:1: extends: bse\.yaml: there is no such file"),
        ("extends: mine.yaml\nname: mine\n", "goes round in a circle"),
        ("extends: round.yaml\nname: mine\n", "goes round in a circle"),
    ],
)
def test_what_cannot_be_extended_is_refused(folder: Path, text: str, said: str) -> None:
    write(folder, "extends: mine.yaml\nname: round\n", "round.yaml")
    with pytest.raises(SpecError, match=said):
        load_sweep(write(folder, text))
