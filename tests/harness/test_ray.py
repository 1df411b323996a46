"""What only Ray does: workers that are reused, that die, and that run beside each other."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.executors import LocalExecutor, RayExecutor
from harness.search import Enumerated
from harness.spec import Pool
from harness.trials import TrialSpec
from tests.harness.fake import Diary, Fake, trial

pytestmark = pytest.mark.usefixtures("ray_on_two_cpus")


DIES_ONCE, DIES_ALWAYS, FINE = 1, 2, 3  # seeds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deaths")


@pytest.fixture(scope="module")
def with_deaths(ray_on_two_cpus: None, folder: Path) -> Diary:
    """A sweep in one place, in which workers die."""
    diary, fake = Diary(), Fake(dies={DIES_ONCE: 2, DIES_ALWAYS: 2}, deaths={DIES_ALWAYS: 99})
    with RayExecutor(Pool(max_concurrent=1), fake) as executor:
        trials = [trial(seed) for seed in (DIES_ONCE, DIES_ALWAYS, FINE)]
        executor.run(Enumerated(trials), diary, folder)
    return diary


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(with_deaths: Diary) -> None:
    assert [line for line in with_deaths.lines if line[1] == DIES_ONCE] == [
        ("started", DIES_ONCE, 0),
        ("epoch", DIES_ONCE, 1),
        ("interrupted", DIES_ONCE),
        ("started", DIES_ONCE, 1),
        ("epoch", DIES_ONCE, 2),
        ("epoch", DIES_ONCE, 3),
        ("finished", DIES_ONCE),
    ]
    assert "the worker died" in with_deaths.ends[DIES_ONCE][0][1]["reason"]
    first, second = with_deaths.info[DIES_ONCE]
    assert first["pid"] != second["pid"]


def test_a_trial_whose_worker_dies_three_times_ends_as_failed_and_keeps_its_log(
    with_deaths: Diary, folder: Path
) -> None:
    assert [state for state, _ in with_deaths.ends[DIES_ALWAYS]] == ["interrupted", "interrupted", "failed"]
    assert "the worker died" in with_deaths.ends[DIES_ALWAYS][-1][1]["traceback"]
    assert (folder / "logs" / f"{trial(DIES_ALWAYS).key}.txt").read_text().count("about to die") == 3


def test_the_death_of_a_worker_leaves_the_other_trials_alone(with_deaths: Diary) -> None:
    assert with_deaths.state(FINE) == "finished"
    assert [state for state, _ in with_deaths.ends[FINE]] == ["finished"]


class Assassin(Diary):
    """Kills the worker of a trial in the moment in which it has finished there."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def ended(self, trial: TrialSpec, state: str, payload: dict[str, Any]) -> None:
        super().ended(trial, state, payload)
        if trial.config.seed == self.seed:
            os.kill(self.info[self.seed][0]["pid"], signal.SIGKILL)


def test_a_trial_whose_worker_dies_before_it_has_begun_there_begins_on_another(tmp_path: Path) -> None:
    diary = Assassin(seed=1)
    with RayExecutor(Pool(max_concurrent=1), Fake()) as executor:
        executor.run(Enumerated([trial(seed) for seed in (1, 2, 3)]), diary, tmp_path)
    assert [state for state, _ in diary.ends[2]] == ["interrupted", "finished"]
    assert [diary.state(seed) for seed in (1, 3)] == ["finished", "finished"]
    assert [line for line in diary.lines if line[:2] == ("started", 2)] == [("started", 2, 0)]


def test_one_place_means_one_trial_at_a_time(with_deaths: Diary) -> None:
    assert with_deaths.most_at_once == 1


def test_trials_run_side_by_side_as_far_as_the_pool_says_and_share_workers(tmp_path: Path) -> None:
    diary = Diary()
    with RayExecutor(Pool(max_concurrent=2), Fake(waits_for={0: 1, 1: 0}, seconds=0.1)) as executor:
        executor.run(Enumerated([trial(seed) for seed in range(6)]), diary, tmp_path)
    assert diary.most_at_once == 2
    assert all(diary.state(seed) == "finished" for seed in range(6))
    pids = {infos[0]["pid"] for infos in diary.info.values()}
    assert len(pids) < 5, "workers are reused"
    assert os.getpid() not in pids


def test_a_real_training_after_another_on_the_same_worker_equals_itself_alone_bit_for_bit(tmp_path: Path) -> None:
    small: dict[str, Any] = {"data": {"name": "digits", "size": 8, "limit": 256}, "batch_size": 64}
    first = trial(1, epochs=1, method={"name": "vicreg"}, precision="bf16", **small)
    second = trial(2, epochs=2, **small)
    after, alone = Diary(), Diary()
    with RayExecutor(Pool(max_concurrent=1)) as executor:
        executor.run(Enumerated([first, second]), after, tmp_path / "after")
    LocalExecutor(Pool()).run(Enumerated([second]), alone, tmp_path / "alone")
    assert after.state(1) == after.state(2) == alone.state(2) == "finished"
    assert after.reports[2] == alone.reports[2]
    assert after.ends[2][0][1]["test"] == alone.ends[2][0][1]["test"]
