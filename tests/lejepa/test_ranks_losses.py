"""Losses and methods on 2 gloo processes equal one process with the global batch: value, and averaged gradient."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

PATH = Path(__file__).with_name("methods_worker.py")


def load_worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("methods_worker", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = load_worker()


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return worker.readings(*worker.inputs())


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, torch.Tensor]]:
    """What one process reads of each method's step."""
    return worker.steps(rank=0, world=1)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each rank read."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen([sys.executable, PATH, str(rank), folder], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(worker.WORLD)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0] * worker.WORLD, errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(worker.WORLD)]


@pytest.mark.parametrize("name", worker.LOSSES)
def test_the_ranks_values_are_that_of_the_global_batch(name: str, alone: dict, together: list[dict]) -> None:
    values = [rank[name][0].item() for rank in together]
    expected = alone[name][0].item()
    if name in worker.OVER_THE_GLOBAL_BATCH:
        assert values == pytest.approx([expected] * worker.WORLD, rel=1e-5)
    else:
        assert sum(values) / worker.WORLD == pytest.approx(expected, rel=1e-5)
        assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("name", worker.LOSSES)
def test_the_averaged_gradient_is_that_of_the_global_batch(name: str, alone: dict, together: list[dict]) -> None:
    expected = alone[name][1]
    assert expected.norm() > 0.01
    for rank in together:
        assert (rank[name][1] - expected).norm() < 1e-5 * expected.norm()


def test_unequal_batches_are_refused_on_every_rank(together: list[dict]) -> None:
    for rank in together:
        assert len(rank["refused"]) == len(worker.TOGETHER)
        assert all("[4, 5]" in message for message in rank["refused"])


@pytest.mark.parametrize("name", worker.METHODS)
def test_a_methods_step_on_two_ranks_is_that_of_one_process(name: str, together: list[dict], whole: dict) -> None:
    expected = whole[name]
    for key in ("loss", "next"):
        mean = sum(rank["methods"][name][key].item() for rank in together) / worker.WORLD
        assert mean == pytest.approx(expected[key].item(), rel=1e-5), key
    for rank in together:
        gradient = rank["methods"][name]["gradient"]
        assert (gradient - expected["gradient"]).norm() < 1e-4 * expected["gradient"].norm()


def test_dinos_center_is_of_all_ranks(together: list[dict], whole: dict) -> None:
    expected = whole["dino"]["center"]
    assert expected.norm() > 0.01
    for rank in together:
        torch.testing.assert_close(rank["methods"]["dino"]["center"], expected)
