"""What only a real GPU can show: memory that is measured, shared and run out of, and trials side by side on one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.attempt import Cramped, Ended, Noted, attempt, lejepa_trainer, order
from harness.doctor import examine
from harness.executors import RayExecutor
from harness.memory import peak_bytes
from harness.pool_config import Pool
from harness.search import Enumerated
from lejepa.allocator import give_back
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport
from tests.harness.fake import Diary, trial

pytestmark = pytest.mark.cuda

WIDE: dict[str, Any] = {"encoder": {"name": "small_resnet", "width": 64}, "data": {"name": "digits", "size": 32}}


def config(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "method": {"name": "lejepa", "slices": 64},
        "encoder": {"name": "small_resnet", "width": 8},
        "projector": {"hidden": 32, "dim": 16},
        "data": {"name": "digits", "size": 16, "limit": 600},
        "probe": {"draws": 2, "every": 100},
        "epochs": 2,
        "batch_size": 64,
        "device": "cuda",
    }
    return TrainConfig.model_validate(base | changes)


def test_the_measured_peak_is_what_a_training_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path))
    asked = config(**WIDE, batch_size=512)
    measured = peak_bytes(asked)
    give_back()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    training = lejepa_trainer(asked, tmp_path / "checkpoints")
    list(training)
    taken = torch.cuda.max_memory_reserved() - before
    assert measured == pytest.approx(taken, rel=0.15)


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainConfig, float]]:
    """A training, and the part of the GPU that its batch does not fit into, though its halves do."""
    vit = {"name": "small_vit", "width": 192, "depth": 6, "patch": 4}
    asked = config(encoder=vit, data={"name": "digits", "size": 64}, batch_size=512, epochs=1)
    with pytest.MonkeyPatch.context() as surroundings:
        surroundings.setenv("LEJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        needed = peak_bytes(asked)
        yield asked, 0.75 * needed / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.0)


def messages(asked: TrainConfig, folder: Path, gpus: float) -> list[Any]:
    give_back()
    one = trial(**asked.model_dump(exclude={"seed", "epochs"}), epochs=1)
    return list(attempt(order(one, asked, 1, folder, gpus=gpus), lejepa_trainer))


def test_what_runs_out_of_memory_goes_on_in_finer_parts_and_says_so(
    tmp_path: Path, greedy: tuple[TrainConfig, float]
) -> None:
    asked, part = greedy
    torch.cuda.set_per_process_memory_fraction(part)
    heard = messages(asked, tmp_path, gpus=0)
    (noted,) = [message for message in heard if isinstance(message, Noted)]
    assert "out of memory" in noted.text
    assert "in 2 parts" in noted.text
    assert sum(isinstance(message, EpochReport) for message in heard) == 1
    assert isinstance(heard[-1], Ended)
    assert heard[-1].state == "finished"
    assert heard[-1].payload["info"]["accumulate"] == 2


def test_what_runs_out_of_its_part_of_a_gpu_asks_for_a_larger_one_and_leaves_the_rest_alone(
    tmp_path: Path, greedy: tuple[TrainConfig, float]
) -> None:
    asked, part = greedy
    granted = part + 2**29 / torch.cuda.get_device_properties(0).total_memory  # CUDA's own comes on top
    heard = messages(asked, tmp_path, gpus=granted)
    assert isinstance(heard[-1], Cramped)
    assert heard[-1].gpus > granted
    assert torch.cuda.max_memory_reserved() < granted * torch.cuda.get_device_properties(0).total_memory
    assert isinstance(messages(asked, tmp_path, gpus=1)[-1], Ended)


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_trials_that_share_a_gpu_train_beside_each_other(tmp_path: Path) -> None:
    trials = [trial(**config(seed=seed).model_dump(exclude={"epochs"}), epochs=2) for seed in (0, 1)]
    diary = Diary()
    with RayExecutor(Pool(gpus=0.5, max_concurrent=2)) as executor:
        executor.run(Enumerated(trials), diary, tmp_path)
    assert {diary.state(seed) for seed in (0, 1)} == {"finished"}
    assert {info["device"] for infos in diary.info.values() for info in infos} == {torch.cuda.get_device_name()}


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_trials_are_packed_by_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asks for a GPU, and two that take a hundredth of one train beside each other."""
    monkeypatch.setenv("LEJEPA_CACHE", str(tmp_path / "cache"))
    trials = [trial(**config(seed=seed).model_dump(exclude={"epochs"}), epochs=20) for seed in (0, 1)]
    diary = Diary()
    with RayExecutor(Pool(gpus=1, memory="measured", max_concurrent=2)) as executor:
        executor.run(Enumerated(trials), diary, tmp_path)
    assert {diary.state(seed) for seed in (0, 1)} == {"finished"}
    assert diary.most_at_once == 2
    assert len(list((tmp_path / "cache" / "memory").iterdir())) == 1


def test_the_doctor_names_the_gpu(tmp_path: Path) -> None:
    (finding,) = [found for found in examine(tmp_path, with_ray=False) if found.what == "GPU 0"]
    assert torch.cuda.get_device_name() in finding.found
