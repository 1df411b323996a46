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
from harness.team import _raise_of_others
from harness.trials import TrialSpec
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport
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


@pytest.mark.parametrize(
    ("executor", "pool"),
    [(LocalExecutor, TWO), (RayExecutor, Pool(cpus=2, gpus=2, max_concurrent=1))],
    ids=["processes", "actors with a GPU each"],
)
def test_a_trial_on_two_ranks_equals_the_trial_on_one(
    executor: type[LocalExecutor | RayExecutor], pool: Pool, ray_on_two_cpus: None, tmp_path: Path
) -> None:
    asked = trial(device="cpu")  # the GPUs are made up
    two = ran(executor(pool, lejepa_trainer), tmp_path / "two", asked)
    one = ran(LocalExecutor(Pool(cpus=1), lejepa_trainer), tmp_path / "one", asked)
    ((state, ours),), ((_, theirs),) = two.ends[0], one.ends[0]
    assert state == "finished", ours
    assert ours["info"]["ranks"] == 2
    assert ours["test"].keys() == theirs["test"].keys()
    losses = [[metrics["train/loss"] for metrics in diary.reports[0].values()] for diary in (two, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) == 2
    nobody_stays()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_trial_goes_on_where_another_rank_has_died(ray_on_two_cpus: None, tmp_path: Path) -> None:
    class Killer(Diary):
        def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
            if not any(line[0] == "epoch" for line in self.lines):
                for victim in followers():
                    os.kill(victim, signal.SIGKILL)
            return super().epoch(trial, report)

    diary = Killer()
    with RayExecutor(TWO, lejepa_trainer) as executor:
        executor.run(Enumerated([trial(epochs=4)]), diary, tmp_path)
    told = [line for line in diary.lines if line[0] != "epoch"]
    assert [line[0] for line in told] == ["started", "interrupted", "started", "finished"]
    assert told[2][2] >= 1, "from its checkpoint"
    assert sorted(diary.reports[0]) == [1, 2, 3, 4]
    nobody_stays()


def test_of_ranks_that_fail_the_one_with_the_reason_is_heard(ray_on_two_cpus: None) -> None:
    import ray

    def out_of_memory() -> None:
        raise MemoryError("rank 1 has no room")

    other = ray.remote(out_of_memory).remote()
    ray.wait([other])
    with pytest.raises(MemoryError, match="rank 1 has no room"):
        _raise_of_others([other], RuntimeError("connection closed by peer"))


@pytest.mark.slow
def test_ranks_die_with_the_driver(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path], cwd=Path(__file__).parents[2])
    while not (tmp_path / "checkpoints").exists():
        assert driver.poll() is None
        time.sleep(0.2)
    (orphan,) = followers()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    patience = time.monotonic() + 20
    while psutil.pid_exists(orphan) and time.monotonic() < patience:
        time.sleep(0.2)
    assert not psutil.pid_exists(orphan)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, ".")
from tests.harness.test_team import TWO, LocalExecutor, lejepa_trainer, ran, trial
ran(LocalExecutor(TWO, lejepa_trainer), Path(sys.argv[1]), trial(epochs=10_000))
"""


def nobody_stays() -> None:
    patience = time.monotonic() + 20
    while followers() and time.monotonic() < patience:
        time.sleep(0.2)
    assert not followers()


def followers() -> list[int]:
    """Below this process: others may be at work on this machine."""
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    all_ = [p.info for p in psutil.process_iter(["pid", "name", "cmdline"]) if p.pid in mine]
    return [
        one["pid"]
        for one in all_
        if "_Follower" in one["name"] or (one["cmdline"] or [])[-2:] == ["-m", "harness.team"]
    ]


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
