"""`harness export`: a trial's encoder by its key, with the scores that its ledger has."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness import cli
from harness.ledger import Ledger
from lejepa.config import TrainConfig
from lejepa.export import load
from lejepa.trainer import Trainer

CONFIG = TrainConfig.model_validate(
    {
        "method": {"name": "random"},
        "encoder": {"name": "small_resnet", "width": 8},
        "data": {"name": "digits", "size": 8, "limit": 150},
        "probe": {"draws": 2},
    }
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A sweep with a trial that has finished, aa00, and one that waits, bb11."""
    sweep = tmp_path / "runs" / "mine"
    list(Trainer(CONFIG, sweep / "checkpoints" / "aa00"))
    with Ledger(sweep / "ledger.db") as ledger:
        for key in ("aa00", "bb11"):
            ledger.add_trial(key, CONFIG.model_dump(mode="json"), 0, 1, "data", "code")
        ledger.add_event("finished", "aa00", test={"test/knn": 41.5}, info={})
    return tmp_path / "runs"


def export(key: str, out: Path, runs: Path) -> Result:
    return CliRunner().invoke(cli.app, ["export", key, str(out), "--dir", str(runs)])


def test_a_trial_is_exported_by_the_beginning_of_its_key(runs: Path, tmp_path: Path) -> None:
    result = export("aa", tmp_path / "out", runs)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"encoder: {tmp_path / 'out'}\n"
    about = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert about["metrics"]["test/knn"] == 41.5
    assert "val/knn" in about["metrics"]
    assert load(tmp_path / "out").num_features == 32


def test_a_trial_without_a_checkpoint_and_one_that_is_unknown_are_told(runs: Path, tmp_path: Path) -> None:
    for key, says in (("bb", "holds no checkpoint"), ("cc", "no trial")):
        result = export(key, tmp_path / "out", runs)
        assert result.exit_code == 2
        assert says in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def taken(runs: Path, name: str, source: str, test: float = 41.5) -> Path:
    """A later sweep that has aa00 from another one, and no weights of it."""
    (runs / name).mkdir()
    with Ledger(runs / name / "ledger.db") as ledger:
        ledger.add_trial("aa00", CONFIG.model_dump(mode="json"), 0, 1, "data", "code")
        ledger.add_event("finished", "aa00", test={"test/knn": test}, info={}, reused=source)
    return runs / name


@pytest.mark.parametrize("source", ["../mine", "runs/mine"], ids=["from its folder", "as it was given"])
def test_the_weights_of_a_reused_trial_are_found_where_it_was_trained(
    runs: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again = taken(runs, "later", source)
    for folder in (runs, again, taken(runs, "last", "../later")):
        result = export("aa", tmp_path / "out", folder)
        assert result.exit_code == 0, result.output
    assert load(tmp_path / "out").num_features == 32


def test_of_sweeps_that_share_a_trial_one_that_has_its_weights_is_exported(runs: Path, tmp_path: Path) -> None:
    taken(runs, "later", "../gone", test=1.0)
    assert export("aa", tmp_path / "out", runs).exit_code == 0
    assert json.loads((tmp_path / "out" / "encoder.json").read_text())["metrics"]["test/knn"] == 41.5


def test_a_trial_that_was_taken_in_a_circle_has_no_weights(runs: Path, tmp_path: Path) -> None:
    taken(runs, "one", "../two")
    result = export("aa", tmp_path / "out", taken(runs, "two", "../one"))
    assert result.exit_code == 2
    assert "holds no checkpoint" in result.stderr


def test_a_neighbour_whose_ledger_is_damaged_hides_no_trial_and_is_named_where_none_is_found(
    runs: Path, tmp_path: Path
) -> None:
    (runs / "bad").mkdir()
    (runs / "bad" / "ledger.db").write_text("no database, but long enough to look at " * 50)
    assert export("aa", tmp_path / "out", runs).exit_code == 0
    assert CliRunner().invoke(cli.app, ["show", "aa", "--dir", str(runs)]).exit_code == 0
    result = export("zz", tmp_path / "out", runs)
    assert result.exit_code == 2
    assert "bad/ledger.db: file is not a database" in result.stderr
    assert result.stderr.count("\n") == 1
