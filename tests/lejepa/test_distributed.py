"""SIGReg on 2 and 4 gloo processes equals one process with the global batch: value, and gradient after averaging."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

WORKER = Path(__file__).with_name("distributed_worker.py")
WORLDS = [2, 4]


@pytest.fixture(scope="module")
def worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distributed_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def alone(worker: ModuleType) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return worker.readings(*worker.inputs())


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict]]:
    """World size → what each of its ranks read."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), folder], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(4)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    return {world: [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)] for world in WORLDS}


@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_reads_the_value_of_the_global_batch(world: int, alone: dict, together: dict) -> None:
    for rank in together[world]:
        for name, (value, _) in alone.items():
            assert rank[name][0].item() == pytest.approx(value.item(), rel=1e-5), name


@pytest.mark.parametrize("world", WORLDS)
def test_the_averaged_gradient_is_the_gradient_of_the_global_batch(world: int, alone: dict, together: dict) -> None:
    for rank in together[world]:
        for name, (_, gradient) in alone.items():
            assert gradient.norm() > 0.01, name
            assert (rank[name][1] - gradient).norm() < 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("world", WORLDS)
def test_unequal_batches_are_refused_on_every_rank_and_by_every_statistic(
    world: int, worker: ModuleType, together: dict
) -> None:
    for rank in together[world]:
        assert len(rank["refused"]) == len(worker.LOSSES)
        expected = str([10] + [8] * (world - 1))
        assert [message for message in rank["refused"] if expected not in message and "[30" not in message] == []


def test_directions_are_the_same_on_all_ranks(worker: ModuleType, together: dict) -> None:
    from lejepa.sigreg import SIGReg

    expected = SIGReg(20, seed=3).directions(worker.DIM, step=worker.STEP)
    for ranks in together.values():
        assert all(torch.equal(rank["directions"], expected) for rank in ranks)
