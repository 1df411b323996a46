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
