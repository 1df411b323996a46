"""One training from the command line: what it says, what it keeps, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lejepa import atomic, checkpoint
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


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("killed_after", [1, 2])
def test_no_line_of_the_metrics_is_lost_or_doubled_where_a_kill_came_before_it_was_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    with monkeypatch.context() as patch:
        write = atomic.write

        def kill(path: Path, *parts: bytes | memoryview, previous: Path | None = None) -> None:
            if path.name == "metrics.jsonl" and b"".join(parts).count(b"\n") == killed_after:
                raise KeyboardInterrupt  # between the checkpoint and the line
            write(path, *parts, previous=previous)

        patch.setattr(atomic, "write", kill)
        assert main(["train", "tiny.yaml", "--out", "mine"]) == 130
    kept = json.loads(checkpoint.read(here / "mine/last.pt")["reports"])
    assert len(kept) == killed_after
    assert main(["train", "tiny.yaml", "--out", "mine"]) == 0
    assert [epoch["epoch"] for epoch in lines_of(here / "mine")] == [1, 2]
    assert lines_of(here / "mine")[:killed_after] == kept


def test_scores_on_test_are_kept_also_where_fine_tuning_fails(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = ["train", "tiny.yaml", "--set", "epochs=1", "--set", "probe.transfer=[digits]"]
    assert main([*once, "--out", "without"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("lejepa.finetune.RATE", 1e30)
    assert main([*once, "--set", "probe.finetune=1", "--out", "with"]) == 1
    said = capsys.readouterr()
    assert said.err == "no test/finetune: fine-tuning: the loss is not finite in epoch 1\n"
    assert "test/digits/knn" in said.out
    assert "encoder: with/export" in said.out
    found, expected = (json.loads((here / name / "test.json").read_text()) for name in ("with", "without"))
    assert expected["failed"] == {}
    assert found["failed"] == {"test/finetune": "fine-tuning: the loss is not finite in epoch 1"}
    assert (found["metrics"], found["epoch"]) == (expected["metrics"], 1)
    about = json.loads((here / "with/export/encoder.json").read_text())
    assert about["metrics"].items() >= found["metrics"].items()
    assert about["protocol"] == found["protocol"]


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
    assert json.loads((here / "mine/test.json").read_text())["metrics"].keys() >= {"test/knn", "test/linear"}


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
        ("probe.lidar=1", "tiny.yaml: probe.lidar: LiDAR compares views"),
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


def test_an_out_that_cannot_be_written_to_is_refused_before_anything_is_computed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lejepa.command.Trainer", None)
    (here / "file").write_text("mine")
    for out, says in (("file", "File exists"), ("file/below", "Not a directory"), ("/proc/mine", "No such file")):
        said = refused(capsys, "train", "tiny.yaml", "--out", out)
        assert said.startswith(f"--out {out}: {says}")
        assert "name a folder" in said
    assert (here / "file").read_text() == "mine"


def test_what_only_shows_in_an_epoch_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(trainer: Trainer) -> None:
        raise ValueError("two of these\nand one of those")

    monkeypatch.setattr(Trainer, "_train", meet)
    assert refused(capsys, "train", "tiny.yaml") == "two of these and one of those\n"


def test_two_ranks_on_one_gpu_are_told_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun starts rank 0 of two, with every call that needs a GPU or another process answered for it."""
    answers = {
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.set_device": lambda device: None,
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.get_device_properties": lambda device: SimpleNamespace(uuid="the only one"),
        "lejepa.ranks.dist.init_process_group": lambda *args, **kwargs: None,
        "lejepa.ranks.dist.destroy_process_group": lambda: None,
        "lejepa.ranks.dist.all_gather_object": lambda found, mine: found.__setitem__(slice(None), [mine, mine]),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(name, answer)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert refused(capsys, "train", "tiny.yaml").startswith("2 ranks on 1 GPU: every rank needs one of its own")


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
    limited = read_config("tiny.yaml", ["data.limit=90", "data.name=cifar10"])
    assert (limited.data.name, limited.data.limit) == ("cifar10", 90)  # in whatever order they are given


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
