"""The commands as a user meets them: what they print, what they refuse, and with which exit code."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness import cli, endings

MINI = """
name: mini
base: {data: {name: digits, size: 16}, epochs: 1}
scientific: {method.lamb: {grid: [0, 5e-2]}}
seeds: 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini.yaml").write_text(MINI)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def refused(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, harness.cli as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'optuna', 'scipy', 'sklearn', 'timm'} & sys.modules.keys()\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    commands = ["plan", "run", "resume", "stop", "retry", "sync", "gc", "status", "show", "report", "train", "ui"]
    assert all(command in done.stdout for command in commands)


def test_plan_prices_a_sweep_and_writes_nothing(here: Path) -> None:
    result = call("plan", "mini.yaml", "--set", "seeds=4", "--set", "pool.max_concurrent=2", "--step-time", "3")
    assert result.exit_code == 0
    assert "8 trials, 8 epochs" in result.stdout
    assert "24 CPU seconds at 3 s an epoch; 12 s on the clock with 2 at once" in result.stdout
    assert [path.name for path in here.iterdir()] == ["mini.yaml"]


def test_plan_needs_no_data(here: Path) -> None:
    assert call("plan", "mini.yaml", "--set", "base.data.name=absent").exit_code == 0


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_wrong_sweep_is_answered_in_one_line(here: Path, command: str) -> None:
    (here / "bad.yaml").write_text("name: a\nbase:\n  epoch: 3\n")
    assert refused(command, "bad.yaml") == "bad.yaml:3: base.epoch: unknown key; did you mean 'epochs'?\n"
    assert "there is no such file" in refused(command, "absent.yaml")
    assert "--set seeds=0: seeds" in refused(command, "mini.yaml", "--set", "seeds=0")
    assert "has none" in refused(command, "mini.yaml", "--profile", "gpu")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("base.data.name=absent", "mini.yaml: base.data: "),
        ("base.batch_size=5000", "mini.yaml: base.batch_size: 5000 is more than the"),
        ("base.encoder.name=vit_tiny_patch16_224", "mini.yaml: base.encoder: encoder vit_tiny_patch16_224 cannot take"),
    ],
)
def test_run_finds_out_what_cannot_train_before_anything_starts(here: Path, override: str, part: str) -> None:
    message = refused("run", "mini.yaml", "--set", override)
    assert message.startswith(part)
    assert not (here / "runs").exists()


def test_run_refuses_a_folder_that_is_there_and_says_what_to_do(here: Path) -> None:
    (here / "runs" / "mini").mkdir(parents=True)
    message = refused("run", "mini.yaml")
    assert "harness report" in message
    assert "--set name=OTHER" in message
    assert list((here / "runs" / "mini").iterdir()) == []


def test_a_bad_choice_of_executor_is_refused(here: Path) -> None:
    assert call("run", "mini.yaml", "--executor", "slurm").exit_code == 2


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_without_a_sweep_is_refused(here: Path, command: str) -> None:
    assert "sweep" in refused(command, ".")


def test_show_refuses_a_key_that_nobody_has(here: Path) -> None:
    assert "no trial in runs" in refused("show", "abc")


def test_ui_refuses_where_there_is_no_store(here: Path) -> None:
    assert "there is no MLflow store yet" in refused("ui")


def test_ui_opens_mlflow_on_this_machine_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "mlflow.db").touch()
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: called.append(arguments))
    assert call("ui", "--port", "5050").exit_code == 0
    assert called[0][1:] == [
        *("-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", "5050"),
        *("--backend-store-uri", f"sqlite:///{here}/runs/mlflow.db"),
    ]


def test_train_prints_every_epoch_and_goes_on_from_its_checkpoint(here: Path) -> None:
    small = ["--set", "data.size=8", "--set", "epochs=1", "--set", "encoder.width=8", "--set", "views.local_views=0"]
    first = call("train", *small, "--checkpoints", "kept")
    assert first.exit_code == 0, first.output
    assert "epoch 1/1  train/loss" in first.stdout
    assert "test/knn" in first.stdout
    again = call("train", *small, "--checkpoints", "kept")
    assert "going on after epoch 1" in again.stdout
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]


def test_train_refuses_what_cannot_be_trained(here: Path) -> None:
    assert refused("train", "--set", "method.lamb=2").startswith("--set method.lamb=2: method.lamb: input should be")
    assert "absent" in refused("train", "--set", "data.name=absent")


def test_a_small_sweep_runs_from_file_to_status(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import run as driver
    from harness.ledger import Ledger

    seen = []
    monkeypatch.setattr(endings, "show_report", lambda folder, code: seen.append(folder))
    monkeypatch.setattr(driver, "default_uri", lambda folder: f"sqlite:///{here}/mlflow.db")
    result = call("run", "mini.yaml", "--executor", "local", "--set", "base.encoder.width=8")
    assert result.exit_code == 0, result.output
    assert seen == [here / "runs" / "mini"]
    with Ledger.read(here / "runs" / "mini" / "ledger.db") as ledger:
        assert set(ledger.states().values()) == {"finished"}
        key = ledger.trials()[0].key
    assert "2 of 2 trials ended" in call("status", "runs/mini").stdout
    assert "evidence of arm lejepa" in call("show", key[:8]).stdout
    assert "harness resume" in refused("run", "mini.yaml")


@pytest.mark.parametrize(
    ("counts", "interrupted", "code"), [({"finished": 2}, False, 0), ({"failed": 1}, False, 1), ({}, True, 130)]
)
def test_the_exit_code_says_how_the_sweep_ended(
    here: Path, monkeypatch: pytest.MonkeyPatch, counts: dict[str, int], interrupted: bool, code: int
) -> None:
    from harness import drive, preflight, run

    monkeypatch.setattr(preflight, "preflight", lambda spec, source: None)
    monkeypatch.setattr(
        run, "run_sweep", lambda spec, folder, *rest, **more: drive.RunSummary(counts, interrupted, folder)
    )
    monkeypatch.setattr(endings, "show_report", lambda folder, code: None)
    assert call("run", "mini.yaml").exit_code == code


def test_help_answers_within_two_seconds_even_on_a_busy_machine() -> None:
    command = [sys.executable, "-c", "from harness.cli import main; main()", "--help"]
    took = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        took.append(time.perf_counter() - start)
    assert min(took) < 2.0  # 0.2 s on an idle one
