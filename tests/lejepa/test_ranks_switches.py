"""data2vec, MAE and every heuristic of `predictive` on 2 gloo processes equal one process with the global batch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).with_name("switches_worker.py")
spec = importlib.util.spec_from_file_location("switches_worker", PATH)
assert spec is not None
assert spec.loader is not None
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, torch.Tensor]]:
    torch.set_num_threads(1)
    return worker.steps(rank=0, world=1)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen([sys.executable, PATH, str(rank), folder], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(worker.WORLD)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0] * worker.WORLD, errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(worker.WORLD)]


@pytest.mark.parametrize("name", [*worker.MASKED, *worker.SWITCHES])
def test_a_step_on_two_ranks_is_that_of_one_process(name: str, alone: dict, together: list[dict]) -> None:
    expected = alone[name]
    for loss in ("loss", "next"):
        mean = sum(rank[name][loss].item() for rank in together) / worker.WORLD
        assert mean == pytest.approx(expected[loss].item(), rel=1e-4)
    assert expected["gradient"].norm() > 1e-4
    for rank in together:
        assert (rank[name]["gradient"] - expected["gradient"]).norm() < 1e-3 * expected["gradient"].norm()
