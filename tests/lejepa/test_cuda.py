"""What a GPU must not change: the loss, its gradient, a training's course, and what a kill and a resume leave of it."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lejepa import logistic
from lejepa.config import TrainConfig
from lejepa.seeding import sample_keys
from lejepa.sigreg import SIGReg
from lejepa.trainer import Trainer
from lejepa.view_config import ViewsConfig
from lejepa.views import Multicrop

pytestmark = pytest.mark.cuda


def config(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "method": {"name": "lejepa", "slices": 64},
        "encoder": {"name": "small_resnet", "width": 8},
        "projector": {"hidden": 32, "dim": 16},
        "data": {"name": "digits", "size": 16, "limit": 600},
        "optimizer": {"lr": 2e-3},
        "probe": {"draws": 2, "every": 100},
        "epochs": 2,
        "batch_size": 64,
        "device": "cuda",
    }
    return TrainConfig.model_validate(base | changes)


def losses(trainer: Trainer) -> list[float]:
    return [report.metrics["train/loss"] for report in trainer.reports]


# -- SIGReg -----------------------------------------------------------------------------------------------------------


class OnTheseDirections(SIGReg):
    """SIGReg with directions from the CPU, as random numbers of a GPU are others."""

    def directions(self, dim: int, *, step: int, device: torch.device | str = "cpu") -> Tensor:
        return super().directions(dim, step=step).to(device)


def value_and_gradient(loss: SIGReg, z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.clone().requires_grad_()
    value = loss(z, step=3)
    value.backward()
    assert z.grad is not None
    return value.detach().double().cpu(), z.grad.double().cpu()


@pytest.mark.parametrize("slices", [1, 64, 1000, "exact"])
@pytest.mark.parametrize("shape", [(2, 2, 2), (8, 128, 128), (1, 1025, 33)])
def test_float32_on_a_gpu_is_float64_on_the_cpu(slices: Any, shape: tuple[int, ...]) -> None:
    z = 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = OnTheseDirections(slices)
    value, gradient = value_and_gradient(loss, z.float().cuda())
    expected, slope = value_and_gradient(loss, z.float().double())
    assert value == pytest.approx(expected, rel=1e-4)
    assert (gradient - slope).norm() < 1e-4 * slope.norm()


def test_embeddings_that_are_not_finite_give_nan_and_no_wait() -> None:
    z = torch.randn(2, 16, 4, device="cuda")
    z[0, 0, 0] = torch.inf
    assert SIGReg(16)(z, step=0).isnan()


# -- views ------------------------------------------------------------------------------------------------------------


def test_views_that_are_replayed_are_those_that_are_made_and_stay_as_they_are() -> None:
    """From the third call on nothing but the batch is new; every batch is held against an eager one."""
    multicrop = Multicrop(ViewsConfig(local_size=16), 32, torch.full((3,), 0.5).cuda(), torch.full((3,), 0.25).cuda())
    batches = torch.randint(0, 256, (4, 8, 3, 40, 40), dtype=torch.uint8, device="cuda")
    keys = [sample_keys(0, epoch, torch.arange(8, device="cuda")) for epoch in range(4)]
    found = [multicrop(*batch) for batch in zip(batches, keys, strict=True)]
    for views, batch in zip(found, zip(batches, keys, strict=True), strict=True):
        globals_, locals_ = multicrop._make(*batch)
        assert torch.equal(views.globals, globals_)
        assert torch.equal(views.locals, locals_)


# -- trainings --------------------------------------------------------------------------------------------------------


def test_a_training_on_a_gpu_follows_the_one_on_the_cpu() -> None:
    """With exact slices, as the directions are drawn where they are used; rounding parts the two slowly."""
    changes: dict[str, Any] = {"method": {"name": "lejepa", "slices": "exact"}, "epochs": 1, "optimizer": {"lr": 1e-3}}
    seen = []
    for device in ("cpu", "cuda"):
        trainer = Trainer(config(**changes, device=device))
        list(trainer)
        seen.append(losses(trainer))
    assert seen[0] == pytest.approx(seen[1], rel=2e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["lejepa", "simclr", "vicreg", "barlow_twins"])
def test_methods_learn_on_a_gpu(method: str, precision: str) -> None:
    trainer = Trainer(config(method={"name": method}, precision=precision, epochs=8, optimizer={"lr": 1e-2}))
    reports = list(trainer)
    assert losses(trainer)[-1] < losses(trainer)[0]
    assert reports[-1].metrics["val/linear"] > 0.5
    assert reports[-1].timing["peak_memory_mb"] > 1
    assert trainer.info["device"] == torch.cuda.get_device_name()
    assert trainer.test()["test/linear"] > 0.5


def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole = Trainer(config())
    list(whole)
    next(iter(Trainer(config(), tmp_path)))
    second = Trainer(config(), tmp_path)
    assert second.load()
    list(second)
    assert losses(second) == pytest.approx(losses(whole), rel=1e-3)


def test_what_a_gpu_has_trained_is_judged_on_the_cpu_alike(tmp_path: Path) -> None:
    there = Trainer(config(), tmp_path)
    list(there)
    here = Trainer(config(device="cpu"), tmp_path)
    assert here.load()
    assert here.test()["test/knn"] == pytest.approx(there.test()["test/knn"], abs=0.02)


def test_compiled_it_learns_the_same() -> None:
    """On maps of two pixels and more: of one pixel torch's compiler expects another memory layout than cuDNN gives."""
    changes: dict[str, Any] = {"method": {"name": "lejepa", "slices": "exact"}, "epochs": 1, "optimizer": {"lr": 1e-3}}
    changes["data"] = {"name": "digits", "size": 32, "limit": 600}
    seen = []
    for compiled in (False, True):
        trainer = Trainer(config(**changes, compile=compiled))
        list(trainer)
        seen.append(losses(trainer))
    assert seen[0] == pytest.approx(seen[1], rel=5e-3)


def test_images_that_other_processes_read_are_the_same() -> None:
    seen = []
    for workers in (0, 2):
        data = {"name": "digits", "size": 16, "limit": 600, "workers": workers}
        trainer = Trainer(config(data=data, epochs=1))
        list(trainer)
        seen.append(losses(trainer))
    assert seen[0] == pytest.approx(seen[1], rel=1e-4)


# -- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [200, 400_000])  # on either side of what is solved on the CPU
def test_a_fit_on_a_gpu_is_that_of_the_cpu_and_stays_there(n: int) -> None:
    x = torch.randn(1, n, 64, generator=torch.Generator().manual_seed(0))
    y = (x[..., :10] + torch.randn(1, n, 10, generator=torch.Generator().manual_seed(1))).argmax(2)
    penalty = torch.full((64,), 1e-2)
    there = logistic.fit(x.cuda(), y.cuda(), penalty.cuda(), 10)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), logistic.fit(x, y, penalty, 10), atol=1e-3, rtol=1e-3)


# -- nccl -------------------------------------------------------------------------------------------------------------

NCCL = """
import sys, torch
from lejepa import ranks
with ranks.joined(f"file://{sys.argv[1]}/meeting", int(sys.argv[2]), int(sys.argv[3])):
    print(torch.distributed.get_backend(), ranks.add(torch.ones(2, device="cuda")).tolist())
"""


def nccl(folder: Path, world: int) -> list[subprocess.CompletedProcess[str]]:
    commands = [[sys.executable, "-c", NCCL, str(folder), str(rank), str(world)] for rank in range(world)]
    started = [
        subprocess.Popen(command, env=os.environ | {"LOCAL_RANK": str(rank)}, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank, command in enumerate(commands)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in started]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *texts)
        for process, texts in zip(started, said, strict=True)
    ]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_add_up_over_nccl(tmp_path: Path) -> None:
    assert [done.stdout.strip() for done in nccl(tmp_path, 2)] == ["nccl [2.0, 2.0]"] * 2


def test_more_ranks_than_gpus_are_refused_with_what_to_do(tmp_path: Path) -> None:
    gpus = torch.cuda.device_count()
    for done in nccl(tmp_path, gpus + 1):
        assert done.returncode
        assert f"{gpus + 1} ranks on {gpus} GPU" in done.stderr


def test_no_step_waits_for_the_gpu() -> None:
    """Between two looks at the losses nothing is read back, so that the GPU always has work queued."""
    trainer = Trainer(config(data={"name": "digits", "size": 16, "limit": 1000}, batch_size=32, epochs=2))
    list(itertools.islice(trainer, 1))
    trainer.steps_per_epoch = 12  # it looks after every 16
    waits = 0

    def on_step(done: int, _: int) -> None:
        nonlocal waits
        if done in (3, 11):
            torch.cuda.set_sync_debug_mode("error" if done == 3 else "default")
            waits += 1

    trainer.on_step = on_step
    try:
        trainer._train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert waits == 2
