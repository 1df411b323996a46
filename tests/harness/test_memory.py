"""Memory is measured once per shape, trials are packed by it, and running out of it ends no trial that could go on."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from harness import memory
from harness.attempt import (
    Cramped,
    Ended,
    Noted,
    Order,
    Started,
    TrainerFactory,
    attempt,
    lejepa_trainer,
    order,
)
from harness.executors import LocalExecutor
from harness.memory import (
    MeasurementError,
    larger_part,
    out_of_memory,
    peak_bytes,
    shape,
    share,
    tensors_part,
)
from harness.search import Enumerated
from harness.spec import Pool
from harness.trials import TrialSpec
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport, Trainer
from tests.harness.fake import Diary, Fake, FakeTrainer, trial

VIT = {"name": "small_vit", "width": 64, "depth": 1, "patch": 4}


def config(**changes: Any) -> TrainConfig:
    small: dict[str, Any] = {
        "method": {"name": "lejepa", "slices": 16},
        "encoder": VIT,
        "projector": {"hidden": 16, "dim": 8},
        "data": {"name": "digits", "size": 8, "limit": 300},
        "optimizer": {"lr": 1e-3},
        "probe": {"draws": 2},
        "epochs": 3,
        "batch_size": 64,
        "device": "cpu",
    }
    return TrainConfig.model_validate(small | changes)


# -- measuring --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the peak of a process")
def test_larger_batches_and_more_views_take_more_memory_and_finer_parts_less(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    same: dict[str, Any] = {"data": {"name": "digits", "size": 16}, "encoder": VIT | {"depth": 2}, "threads": 1}
    sizes = [(16, 1, 1), (256, 4, 4), (256, 4, 1)]  # images, views, parts
    small, cut, whole = (
        peak_bytes(config(**same, batch_size=n, views={"global_views": v}, accumulate=parts)) for n, v, parts in sizes
    )
    # A block keeps at least ten times its width for each of 4 · 4 + 1 tokens: q, k, v and the MLP's 4 + 4, in float32.
    kept = 256 * 4 * 17 * 2 * 10 * 64 * 4
    noise = kept / 3  # 30 MB: what a process keeps of freed memory differs from run to run
    assert whole - small > kept * (1 - 1 / 64) - noise
    assert whole - cut > kept * (1 - 1 / 4) - noise


def test_no_data_are_read_and_the_trainers_own_number_comes_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    asked = config(data={"name": "nowhere", "root": "/does/not/exist", "size": 32}, probe={"on": "projection"})
    taken = peak_bytes(asked)
    assert 100e6 < taken < 10e9  # torch alone takes more than the former
    (file,) = (tmp_path / "memory").iterdir()
    assert json.loads(file.read_text())["bytes"] == taken
    assert json.loads(file.read_text())["asked"]["data"] == {"size": 32, "stored": None, "channels": 3}


class Process:
    """Stands in for subprocess.run, and counts."""

    def __init__(self, stdout: str = '{"bytes": 1000}', returncode: int = 0, stderr: str = "") -> None:
        self.answer, self.asked = (stdout, returncode, stderr), 0

    def __call__(self, command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        self.asked += 1
        stdout, returncode, stderr = self.answer
        return subprocess.CompletedProcess(command, returncode, stdout, stderr)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    return tmp_path / "memory"


def answering(monkeypatch: pytest.MonkeyPatch, *answer: Any) -> Process:
    process = Process(*answer)
    monkeypatch.setattr(memory.subprocess, "run", process)
    return process


def test_what_was_measured_once_starts_no_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = answering(monkeypatch)
    assert [peak_bytes(config()), peak_bytes(config(seed=1, epochs=9))] == [1000, 1000]
    assert process.asked == 1
    peak_bytes(config(batch_size=32))
    assert process.asked == 2


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"bytes": "many"}', '{"bytes": 0}', '{"bytes": true}'])
def test_a_broken_entry_is_measured_again(cache: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    process = answering(monkeypatch)
    peak_bytes(config())
    (file,) = cache.iterdir()
    file.write_text(broken)
    assert peak_bytes(config()) == 1000
    assert process.asked == 2
    assert json.loads(file.read_text())["bytes"] == 1000
    assert list(cache.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory").write_text("a file, where a folder should be")
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    process = answering(monkeypatch)
    assert [peak_bytes(config()), peak_bytes(config())] == [1000, 1000]
    assert process.asked == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 5},
        {"epochs": 7},
        {"optimizer": {"lr": 0.1, "weight_decay": 0.5}},
        {"method": {"name": "lejepa", "slices": 16, "lamb": 0.3}},
        {"probe": {"k": 3}},
        {"data": {"name": "digits", "size": 8, "val_fraction": 0.5}},
        {"threads": 3},
    ],
)
def test_what_takes_no_memory_does_not_ask_for_another_measurement(changes: dict[str, Any]) -> None:
    assert shape(config(**changes)) == shape(config())


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 32},
        {"accumulate": 2},
        {"precision": "bf16"},
        {"views": {"global_views": 3}},
        {"views": {"local_views": 1}},
        {"data": {"name": "digits", "size": 16}},
        {"data": {"name": "cifar10", "size": 8}, "views": {"recipe": "digits"}},
        {"encoder": VIT | {"width": 128}},
        {"projector": {"hidden": 32, "dim": 8}},
        {"method": {"name": "lejepa", "slices": 32}},
        {"method": {"name": "lejepa", "slices": 16, "lamb": 0.0}},
        {"method": {"name": "lejepa", "slices": 16, "teacher": 0.9}},
        {"method": {"name": "simclr"}, "views": {"recipe": "digits"}},
        {"optimizer": {"name": "sgd", "lr": 1e-3}},
        {"average": 0.9},
        {"probe": {"finetune": 3}},
        {"device": "cuda"},
    ],
)
def test_what_takes_memory_does(changes: dict[str, Any]) -> None:
    assert shape(config(**changes)) != shape(config())


def test_what_is_masked_counts_and_how_strongly_a_method_repels_does_not() -> None:
    views = {"recipe": "crop"}
    mae, more = (
        config(method={"name": "mae", "masked": share}, data={"name": "digits", "size": 32}, views=views)
        for share in (0.5, 0.75)
    )
    assert shape(mae) != shape(more)
    weak, strong = (config(method={"name": "simclr", "temperature": t}, views=views) for t in (0.1, 0.5))
    assert shape(weak) == shape(strong)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (('{"error": "CUDA out of memory."}', 0, ""), "does not fit, though nothing else ran.*CUDA out.*batch_size"),
        (("", -9, ""), "killed by signal 9.*no memory left.*lower batch_size"),
        (("", 1, "Traceback\nValueError: no such encoder\n"), "cannot be measured: ValueError: no such encoder"),
    ],
)
def test_what_cannot_be_measured_says_why(
    cache: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[Any, ...], says: str
) -> None:
    answering(monkeypatch, *answer)
    with pytest.raises(MeasurementError, match=f"lejepa on small_vit with batch_size 64.*{says}"):
        peak_bytes(config())
    assert not cache.exists()


def test_memory_that_runs_out_in_the_measurement_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_much(asked: TrainConfig) -> int:
        raise torch.OutOfMemoryError(f"CUDA out of memory with {asked.batch_size}.\nand more")

    monkeypatch.setattr(memory, "rehearse", too_much)
    monkeypatch.setattr("sys.stdin", io.StringIO(config().model_dump_json()))
    memory.main()
    assert json.loads(capsys.readouterr().out) == {"error": "CUDA out of memory with 64."}


def test_no_other_error_is_mistaken_for_memory_that_ran_out() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), allocator_error()):
        assert out_of_memory(error)
    for other in (RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("memory")):
        assert not out_of_memory(other)


def allocator_error() -> RuntimeError:
    """What torch says on the CPU; so many bytes are more than an address can tell."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    return caught.value


# -- packing ----------------------------------------------------------------------------------------------------------


def test_as_many_trials_as_fit_are_what_the_share_comes_to() -> None:
    gpu = 80 * 10**9
    for needed in range(10**8, gpu // 2, 997 * 10**6):
        asked = share(needed, gpu)
        places = int(1 / asked)
        assert places * asked <= 1
        assert places * needed < gpu  # with some room to spare
        assert tensors_part(asked, gpu) * gpu >= needed
        assert places >= min(100, int(gpu / (needed + 2e9) * 0.8))
    assert share(60 * 10**9, gpu) == 1


def test_what_does_not_fit_on_the_gpu_at_all_is_refused() -> None:
    with pytest.raises(MeasurementError, match=r"a trial takes 79\.90 GB.*has 80\.00 GB; lower batch_size"):
        share(79_900_000_000, 80 * 10**9)


def test_a_trial_on_a_part_of_a_gpu_leaves_the_rest_to_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    monkeypatch.setattr("harness.attempt.limit", limits.append)
    asked = trial(0, device="cuda")
    list(attempt(order(asked, asked.config, 1, tmp_path, gpus=0.25), Fake()))
    list(attempt(order(asked, trial(0, device="cpu").config, 1, tmp_path), Fake()))
    assert limits == [0.25]


def test_a_larger_part_is_that_of_half_as_many_trials() -> None:
    assert [larger_part(1 / n) for n in (8, 7, 4, 3, 2)] == [0.25, 0.3333, 0.5, 1, 1]
    assert larger_part(0.1428) == 0.3333  # as Ray counts a seventh
    part, times = 0.01, 0
    while part < 1:
        part, times = larger_part(part), times + 1
    assert (part, times) == (1, 6)


def test_the_part_for_tensors_is_the_granted_one_without_what_cuda_takes_itself() -> None:
    assert tensors_part(1, 80 * 10**9) == tensors_part(2, 80 * 10**9) == 1
    assert 0.24 < tensors_part(0.25, 80 * 10**9) < 0.25
    assert tensors_part(0.25, 10**9) == 0.125  # a small GPU: something is left


# -- running out ------------------------------------------------------------------------------------------------------


class Tight(FakeTrainer):
    """Runs out of memory in epoch 2, as long as its batches go through the encoder in fewer parts than it needs."""

    built: ClassVar[list[int]]
    needs, refuses = 2, False

    def __init__(self, asked: TrainConfig, checkpoints: Path) -> None:
        super().__init__(Fake(), asked, checkpoints)
        if self.refuses and asked.accumulate > 1:
            raise ValueError("its encoder normalises by the batch")
        self.parts = asked.accumulate
        self.built.append(self.parts)

    def __iter__(self) -> Iterator[EpochReport]:
        for report in super().__iter__():
            yield report
            if self.parts < self.needs:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")


def tight(needs: int, refuses: bool = False) -> type[Tight]:
    return type("Tighter", (Tight,), {"needs": needs, "refuses": refuses, "built": []})


def told(asked: TrialSpec, trainer: TrainerFactory, folder: Path) -> list[Any]:
    return list(attempt(order(asked, asked.config, 1, folder), trainer))


@pytest.mark.parametrize("before", [1, 3])
def test_a_trial_that_runs_out_of_memory_goes_on_with_each_batch_in_twice_as_many_parts(
    tmp_path: Path, before: int
) -> None:
    asked, trainer = trial(4, accumulate=before), tight(needs=2 * before)
    messages = told(asked, trainer, tmp_path)
    kinds = [type(message) for message in messages]
    assert kinds == [Started, EpochReport, Noted, Started, EpochReport, EpochReport, Ended]
    note, again, end = messages[2], messages[3], messages[-1]
    assert "CUDA out of memory. Tried to allocate 2.00 GiB.)" in note.text
    assert f"each batch in {2 * before} parts" in note.text
    assert [report.epoch for report in again.restored] == [1]
    assert trainer.built == [before, 2 * before]
    assert (end.state, end.payload["info"]["accumulate"]) == ("finished", 2 * before)


def test_memory_that_is_enough_changes_nothing(tmp_path: Path) -> None:
    messages = told(trial(4), tight(needs=1), tmp_path)
    assert not any(isinstance(message, Noted) for message in messages)
    assert "accumulate" not in messages[-1].payload["info"]


def test_a_trial_that_runs_out_of_memory_twice_fails_and_says_what_to_change(tmp_path: Path) -> None:
    trainer = tight(needs=4)
    end = told(trial(4), trainer, tmp_path)[-1]
    assert trainer.built == [1, 2]
    assert end.state == "failed"
    assert "in 2 parts" in end.payload["reason"]
    assert "GB taken at the most" in end.payload["reason"]
    assert "lower batch_size" in end.payload["reason"]
    assert "OutOfMemoryError" in end.payload["traceback"]


def test_a_trial_whose_batches_cannot_be_cut_fails_at_once_with_the_reason(tmp_path: Path) -> None:
    trainer = tight(needs=2, refuses=True)
    messages = told(trial(4), trainer, tmp_path)
    assert [type(message) for message in messages] == [Started, EpochReport, Ended]
    assert "not tried in finer parts, as its encoder normalises by the batch" in messages[-1].payload["reason"]
    assert trainer.built == [1]


def test_a_floor_trains_nothing_that_could_be_cut(tmp_path: Path) -> None:
    def never_enough(asked: TrainConfig, checkpoints: Path) -> Tight:
        raise MemoryError

    (end,) = told(trial(4, method={"name": "random"}), never_enough, tmp_path)
    assert (end.state, "random trains nothing" in end.payload["reason"]) == ("failed", True)


def test_the_listener_hears_of_it_and_of_every_epoch_once(tmp_path: Path) -> None:
    diary, asked = Diary(), trial(4)
    with LocalExecutor(Pool(cpus=1), tight(needs=2)) as executor:
        executor.run(Enumerated([asked]), diary, tmp_path)
    lines = [line if line[0] != "note" else line[:2] for line in diary.lines]
    assert lines == [
        ("started", 4, 0), ("epoch", 4, 1), ("note", 4), ("started", 4, 1), ("epoch", 4, 2), ("epoch", 4, 3),
        ("finished", 4),
    ]  # fmt: skip


def test_a_part_of_a_gpu_that_is_too_small_is_asked_to_be_larger_and_no_batch_is_cut(tmp_path: Path) -> None:
    asked, trainer = trial(4, device="cuda"), tight(needs=2)
    *told, last = attempt(order(asked, asked.config, 1, tmp_path, gpus=0.25), trainer)
    assert [type(message) for message in told] == [Started, EpochReport]
    assert isinstance(last, Cramped)
    assert last.gpus == 0.5
    assert "CUDA out of memory. Tried to allocate 2.00 GiB." in last.reason
    assert trainer.built == [1]


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 1.0), ("cpu", 0.5)])
def test_on_a_whole_gpu_or_on_the_cpu_batches_are_cut(tmp_path: Path, device: str, gpus: float) -> None:
    asked, trainer = trial(4, device=device), tight(needs=2)
    messages = list(attempt(order(asked, asked.config, 1, tmp_path, gpus=gpus), trainer))
    assert trainer.built == [1, 2]
    assert messages[-1].state == "finished"


@pytest.mark.parametrize(("fits_in", "parts", "end"), [(0.5, [1, 1], "finished"), (1.0, [1, 1, 1], "finished"),
                                                       (9.0, [1, 1, 1, 2], "failed")])  # fmt: skip
def test_one_trial_after_the_other_grows_until_it_has_a_whole_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits_in: float, parts: list[int], end: str
) -> None:
    granted: list[float] = []
    monkeypatch.setattr("harness.attempt.limit", granted.append)

    class Packed(Tight):
        built: ClassVar[list[int]] = []

        def __iter__(self) -> Iterator[EpochReport]:
            for report in FakeTrainer.__iter__(self):
                yield report
                if granted[-1] < fits_in:
                    raise torch.OutOfMemoryError("CUDA out of memory.")

    diary = Diary()
    LocalExecutor(Pool(gpus=0.25), Packed).run(Enumerated([trial(4, epochs=9)]), diary, tmp_path)
    assert granted == [0.25, 0.5, 1.0][: min(3, len(parts))]
    assert Packed.built == parts
    ends = diary.ends[4]
    assert [state for state, _ in ends] == ["interrupted"] * (len(granted) - 1) + [end]
    assert ends[0][1]["reason"].endswith("goes on with 0.5 of a GPU")
    assert "in 2 parts" in ends[-1][1].get("reason", "in 2 parts")
    if end == "finished":
        assert sorted(diary.reports[4]) == list(range(1, 10))
        assert "accumulate" not in ends[-1][1]["info"]


class RunsOutOnce:
    """The real trainer, whose memory ends in its second epoch, the first time."""

    def __init__(self) -> None:
        self.full = True

    def __call__(self, asked: TrainConfig, checkpoints: Path) -> Trainer:
        training = Trainer(asked, checkpoints)

        def on_step(step: int, steps: int) -> None:
            if self.full and training.epoch == 1:
                self.full = False
                raise torch.OutOfMemoryError("CUDA out of memory.")

        training.on_step = on_step  # type: ignore[method-assign]
        return training


def real(asked: TrainConfig, trainer: TrainerFactory, folder: Path) -> list[Any]:
    return told(TrialSpec("lejepa", {}, 0, 0, "search", asked, "digits"), trainer, folder)


def test_a_real_training_goes_on_from_its_checkpoint_and_comes_to_the_same(tmp_path: Path) -> None:
    cut = real(config(), RunsOutOnce(), tmp_path / "cut")
    whole = real(config(), lejepa_trainer, tmp_path / "whole")
    assert [type(message) for message in cut[:4]] == [Started, EpochReport, Noted, Started]
    assert [report.epoch for report in cut[3].restored] == [1]
    losses = [[m.metrics["train/loss"] for m in told if isinstance(m, EpochReport)] for told in (cut, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) == 3
    assert cut[-1].payload["info"]["accumulate"] == 2
    (checkpoints,) = (tmp_path / "cut" / "checkpoints").iterdir()
    anew = Trainer(config(), checkpoints)
    assert anew.load()  # the checkpoints are those of the trial's own config
    assert anew.epoch == 3


def test_a_real_encoder_that_normalises_by_the_batch_is_not_cut(tmp_path: Path) -> None:
    resnet = config(encoder={"name": "small_resnet", "width": 8})
    end = real(resnet, RunsOutOnce(), tmp_path)[-1]
    assert end.state == "failed"
    assert "small_resnet normalises by the batch" in end.payload["reason"]


@pytest.mark.slow
def test_a_trial_on_two_ranks_that_runs_out_of_memory_goes_on_on_two(tmp_path: Path) -> None:
    asked = TrialSpec("lejepa", {}, 0, 0, "search", config(threads=1), "digits")
    messages = list(attempt(order(asked, asked.config, 2, tmp_path), RunsOutOnce()))
    (note,) = [message.text for message in messages if isinstance(message, Noted)]
    assert "each batch in 2 parts" in note
    assert messages[-1].state == "finished", messages[-1].payload
    assert (messages[-1].payload["info"]["ranks"], messages[-1].payload["info"]["accumulate"]) == (2, 2)
    assert [report.epoch for report in messages if isinstance(report, EpochReport)] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/sys/vm/overcommit_memory").exists()
    or Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1",
    reason="this system promises more memory than it has",
)
def test_a_config_that_no_memory_would_hold_is_refused_after_a_real_try(cache: Path) -> None:
    huge = config(batch_size=2**20, data={"name": "digits", "size": 1024})  # 10^12 bytes of pixels a step
    with pytest.raises(MeasurementError, match=r"does not fit.*DefaultCPUAllocator.*lower batch_size"):
        peak_bytes(huge)


def test_an_order_travels_as_json(tmp_path: Path) -> None:
    from dataclasses import asdict

    asked = order(trial(), trial().config, 1, tmp_path, gpus=0.5)
    assert Order(**json.loads(json.dumps(asdict(asked)))) == asked
