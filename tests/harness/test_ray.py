"""What only Ray does: workers that are reused, that die, and that run beside each other."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.executors import RayExecutor
from harness.search import Enumerated
from harness.spec import Pool
from tests.harness.fake import Diary, Fake, trial

pytestmark = pytest.mark.usefixtures("ray_on_two_cpus")


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    diary, fake = Diary(), Fake(dies={1: 2}, deaths=1)
    with RayExecutor(Pool(max_concurrent=1), fake) as executor:
        executor.run(Enumerated([trial(1), trial(2)]), diary, tmp_path)
    told = [line for line in diary.lines if line[1] == 1]
    assert told == [
        ("started", 1, 0),
        ("epoch", 1, 1),
        ("interrupted", 1),
        ("started", 1, 1),
        ("epoch", 1, 2),
        ("epoch", 1, 3),
        ("finished", 1),
    ]
    assert "the worker died" in diary.ends[1][0][1]["reason"]
    assert diary.info[1][0]["pid"] != diary.info[1][1]["pid"]
    assert diary.state(2) == "finished"


def test_a_trial_whose_worker_dies_three_times_ends_as_failed(tmp_path: Path) -> None:
    diary, fake = Diary(), Fake(dies={1: 2}, deaths=99)
    with RayExecutor(Pool(max_concurrent=1), fake) as executor:
        executor.run(Enumerated([trial(1), trial(2)]), diary, tmp_path)
    assert [state for state, _ in diary.ends[1]] == ["interrupted", "interrupted", "failed"]
    assert "the worker died" in diary.ends[1][-1][1]["traceback"]
    assert diary.state(2) == "finished"


def test_trials_run_side_by_side_as_far_as_the_pool_says_and_share_workers(tmp_path: Path) -> None:
    diary = Diary()
    with RayExecutor(Pool(max_concurrent=2), Fake(seconds=0.3)) as executor:
        executor.run(Enumerated([trial(seed) for seed in range(8)]), diary, tmp_path)
    assert diary.most_at_once == 2
    assert all(diary.state(seed) == "finished" for seed in range(8))
    pids = {infos[0]["pid"] for infos in diary.info.values()}
    assert len(pids) < 5, "workers are reused"
    assert os.getpid() not in pids


def test_one_place_means_one_trial_at_a_time(tmp_path: Path) -> None:
    diary = Diary()
    with RayExecutor(Pool(max_concurrent=1), Fake(seconds=0.05)) as executor:
        executor.run(Enumerated([trial(seed) for seed in range(4)]), diary, tmp_path)
    assert diary.most_at_once == 1
    assert [line[1] for line in diary.lines if line[0] == "finished"] == [0, 1, 2, 3]


def test_a_real_training_after_another_on_the_same_worker_equals_itself_alone_bit_for_bit(tmp_path: Path) -> None:
    small: dict[str, Any] = {"data": {"name": "digits", "size": 8, "limit": 256}, "batch_size": 64}
    first = trial(1, epochs=1, method={"name": "vicreg"}, precision="bf16", **small)
    second = trial(2, epochs=2, **small)
    after, alone = Diary(), Diary()
    with RayExecutor(Pool(max_concurrent=1)) as executor:
        executor.run(Enumerated([first, second]), after, tmp_path / "after")
        executor.run(Enumerated([second]), alone, tmp_path / "alone")
    assert after.state(1) == after.state(2) == alone.state(2) == "finished"
    assert after.reports[2] == alone.reports[2]
    assert after.ends[2][0][1]["test"] == alone.ends[2][0][1]["test"]


def test_a_stray_ray_address_is_not_followed_and_ray_is_gone_afterwards(tmp_path: Path) -> None:
    script = """
import ray
from pathlib import Path
from typing import Any
from harness.executors import RayExecutor
from harness.spec import Pool
with RayExecutor(Pool()) as executor:
    print("nodes", len(ray.nodes()))
print("left", ray.is_initialized())
"""
    environment = {**os.environ, "RAY_ADDRESS": "192.0.2.77:6379"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.split() == ["nodes", "1", "left", "False"], ended.stderr
