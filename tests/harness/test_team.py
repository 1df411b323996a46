"""A trial on several ranks: the same result on either executor, and nobody stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.attempt import lejepa_trainer
from harness.executors import Executor, LocalExecutor, RayExecutor
from harness.pool import PoolError, granted
from harness.search import Enumerated
from harness.spec import Pool
from harness.trials import TrialSpec
from lejepa.config import TrainConfig
from tests.harness.fake import Diary

TWO = Pool(cpus=2, ranks=2, max_concurrent=1)


def trial(**changes: Any) -> TrialSpec:
    config: dict[str, Any] = {
        "method": {"name": "lejepa", "slices": 16},
        "encoder": {"name": "small_resnet", "width": 8},
        "projector": {"hidden": 16, "dim": 8},
        "data": {"name": "digits", "size": 8, "limit": 300},
        "optimizer": {"lr": 1e-3},
        "probe": {"draws": 2},
        "epochs": 2,
        "batch_size": 64,
    }
    return TrialSpec("lejepa", {}, 0, 0, "evidence", TrainConfig.model_validate(config | changes), "digits")


def ran(executor: Executor, folder: Path, asked: TrialSpec) -> Diary:
    diary = Diary()
    with executor:
        executor.run(Enumerated([asked]), diary, folder)
    return diary


@pytest.mark.parametrize("executor", [LocalExecutor, RayExecutor])
def test_a_trial_on_two_ranks_equals_the_trial_on_one(
    executor: type[LocalExecutor | RayExecutor], ray_on_two_cpus: None, tmp_path: Path
) -> None:
    two = ran(executor(TWO, lejepa_trainer), tmp_path / "two", trial())
    one = ran(LocalExecutor(Pool(cpus=1), lejepa_trainer), tmp_path / "one", trial())
    ((state, ours),), ((_, theirs),) = two.ends[0], one.ends[0]
    assert state == "finished", ours
    assert ours["info"]["ranks"] == 2
    assert ours["test"].keys() == theirs["test"].keys()
    losses = [[metrics["train/loss"] for metrics in diary.reports[0].values()] for diary in (two, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) == 2
    assert not followers()


@pytest.mark.slow
def test_ranks_die_with_the_driver(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path], cwd=Path(__file__).parents[2])
    while not (tmp_path / "checkpoints").exists():
        assert driver.poll() is None
        time.sleep(0.2)
    assert len(followers()) == 1
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    patience = time.monotonic() + 20
    while followers() and time.monotonic() < patience:
        time.sleep(0.2)
    assert not followers()


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.harness.test_team import TWO, LocalExecutor, lejepa_trainer, ran, trial
ran(LocalExecutor(TWO, lejepa_trainer), Path(sys.argv[1]), trial(epochs=10_000))
"""


def followers() -> list[int]:
    processes = psutil.process_iter(["pid", "cmdline"])
    return [p.info["pid"] for p in processes if (p.info["cmdline"] or [])[-2:] == ["-m", "harness.team"]]


def test_ranks_that_cannot_share_a_batch_are_refused() -> None:
    with pytest.raises(PoolError, match="batch_size 63 cannot be shared equally by 2 ranks"):
        granted(trial(batch_size=63).config, TWO)
    assert granted(trial().config, TWO).threads == 1


def test_every_rank_needs_a_core_and_a_gpu_of_its_own() -> None:
    with pytest.raises(ValueError, match="3 ranks need a core each"):
        Pool(cpus=2, ranks=3)
    with pytest.raises(ValueError, match="2 ranks on 1 GPUs"):
        Pool(cpus=2, ranks=2, gpus=1)
    assert Pool(cpus=4, gpus=4).ranks == 4
    assert Pool(gpus=0.5).ranks == 1
