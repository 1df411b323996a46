"""One training from the command line: what it says, what it keeps, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lejepa.__main__ import main
from lejepa.config_file import ConfigError, read_config
from lejepa.export import load
from lejepa.trainer import Trainer

TINY = """
method: {slices: 16}
encoder: {name: small_resnet, width: 8}
projector: {layers: 2, hidden: 16, dim: 8}
data: {size: 16, limit: 150}
views: {local_views: 0}
probe: {draws: 2, on: embedding}
optimizer: {lr: 1e-3}
batch_size: 32
epochs: 2
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command ends whose input is wrong."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


def test_a_training_says_every_epoch_and_where_its_files_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--out", "mine"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert "val/knn" in lines[1]
    assert lines[2].startswith("test/")
    assert lines[3:] == [f"checkpoint: {Path('mine/last.pt')}", f"encoder: {Path('mine/export')}"]
    assert said.err == ""  # no bar where nobody looks
    epochs = [json.loads(line) for line in (here / "mine/metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    about = json.loads((here / "mine/export/encoder.json").read_text())
    assert about["metrics"].items() >= epochs[-1]["metrics"].items()
    assert "test/knn" in about["metrics"]
    load(here / "mine/export")


def test_the_same_command_goes_on_where_it_was_interrupted(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", "tiny.yaml", "--out", "whole"]) == 0
    whole = capsys.readouterr().out.splitlines()
    with monkeypatch.context() as patch:
        save = Trainer.save

        def interrupt(trainer: Trainer) -> None:
            if trainer.epoch == 2:
                raise KeyboardInterrupt
            save(trainer)

        patch.setattr(Trainer, "save", interrupt)
        assert main(["train", "tiny.yaml", "--out", "part"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command with --out part goes on\n"
    assert main(["train", "tiny.yaml", "--out", "part"]) == 0
    part = capsys.readouterr().out.splitlines()
    assert part[0] == "going on after epoch 1"
    assert part[1].rpartition("  ")[0] == whole[1].rpartition("  ")[0]  # but for the speed
    assert part[2] == whole[2]


def test_a_terminal_gets_a_bar_of_epochs_and_steps(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["train", "tiny.yaml"]) == 0
    said = capsys.readouterr()
    assert "epoch 2/2" in said.err
    assert "8/8" in said.err  # 135 of 150 images train: 4 steps of 32 an epoch
    assert said.out.endswith("nothing was kept; --out DIR keeps checkpoints and the encoder\n")


def test_a_checkpoint_is_exported_by_a_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--set", "epochs=1", "--out", "mine"]) == 0
    assert main(["export", "mine", "again"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "encoder: again"
    first, again = ((here / name / "encoder.safetensors").read_bytes() for name in ("mine/export", "again"))
    assert first == again
    assert "holds no checkpoint" in refused(capsys, "export", "absent", "again")


def test_pixels_train_nothing_and_have_no_encoder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "pixels.yaml").write_text("method: {name: pixels}\ndata: {size: 8, limit: 150}\nprobe: {draws: 2}\n")
    assert main(["train", "pixels.yaml", "--out", "mine"]) == 0
    assert "encoder:" not in capsys.readouterr().out
    assert not (here / "mine/export").exists()


def test_a_training_that_diverges_ends_with_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--set", "optimizer.lr=1e30"]) == 1
    assert "diverged in epoch 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("encoder.nme=resnet18", "tiny.yaml: encoder.nme: unknown key; did you mean 'name'?"),
        ("epoch=3", "tiny.yaml: epoch: unknown key; did you mean 'epochs'?"),
        ("method.lamb=2", "tiny.yaml: method.lamb: input should be less than or equal to 1"),
        ("encoder.drop_path=0.1", "tiny.yaml: encoder: small_resnet has no drop path"),
        ("method={name: vicreg, lamb: 1}", "tiny.yaml: method.lamb: unknown key of vicreg"),
        ("epochs.a=3", "tiny.yaml: epochs: input should be a valid integer"),
        ("epochs", "--set epochs: write a.b=c"),
        ("epochs=[", "--set epochs=[:1: not valid YAML: "),
        ("method={lamb: 0.1, lamb: 0.2}", "--set method={lamb: 0.1, lamb: 0.2}:1: lamb: given twice"),
    ],
)
def test_what_is_wrong_in_a_config_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], override: str, says: str
) -> None:
    assert refused(capsys, "train", "tiny.yaml", "--set", override).startswith(says)


def test_what_only_shows_when_it_is_built_is_one_line_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "absent" in refused(capsys, "train", "tiny.yaml", "--set", "data.name=absent")
    assert "batch_size 999" in refused(capsys, "train", "tiny.yaml", "--set", "batch_size=999")
    assert "no drop path" in refused(capsys, "train", "--set", "encoder={name: vgg11, drop_path: 0.1}")


def test_files_that_are_no_training_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "sweep.yaml").write_text("name: a\nbase: {epochs: 3}\nseeds: 3\n")
    assert "is a sweep file (it has `base`); `harness run sweep.yaml`" in refused(capsys, "train", "sweep.yaml")
    (here / "list.yaml").write_text("- 1\n")
    assert "must be a mapping" in refused(capsys, "train", "list.yaml")
    (here / "broken.yaml").write_text("a: [1\n")
    assert "broken.yaml:2: not valid YAML" in refused(capsys, "train", "broken.yaml")
    (here / "twice.yaml").write_text(TINY + "data: {name: digits}\nepochs: 3\n")
    assert "twice.yaml:11: data: given twice, first at twice.yaml:5; keep one" in refused(capsys, "train", "twice.yaml")
    assert "absent.yaml: cannot be read: No such file" in refused(capsys, "train", "absent.yaml")


def test_a_config_file_is_read_as_yaml_1_2_and_makes_no_objects(here: Path) -> None:
    config = read_config("tiny.yaml", ["probe.on=projection", "views.recipe=crop", "compile=true"])
    assert config.probe.on == "projection"  # which YAML 1.1 takes for a truth value
    assert config.optimizer.lr == 1e-3
    assert config.compile
    assert config.views.recipe == "crop"
    (here / "evil.yaml").write_text("epochs: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match=r"evil\.yaml:1: epochs: is tagged .*; write a plain value"):
        read_config("evil.yaml")


def test_a_part_whose_name_changes_starts_afresh(here: Path) -> None:
    config = read_config("tiny.yaml", ["method.name=vicreg", "encoder.name=small_vit", "data.name=digits"])
    assert config.method.name == "vicreg"  # which has no `slices`
    assert config.encoder.width is None
    assert config.data.limit == 150  # digits it was, by default


@pytest.mark.slow
def test_under_torchrun_one_rank_speaks_and_the_training_is_that_of_one_process(here: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = ["-m", "lejepa", "train", "tiny.yaml"]
    alone, two = (
        subprocess.run([sys.executable, *launch, *command], env=environment, capture_output=True, text=True, check=True)
        for launch in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])
    )
    losses = [
        [line.split("  ")[1] for line in done.stdout.splitlines() if line.startswith("epoch")] for done in (alone, two)
    ]
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]
