"""When a trial whose workers die begins anew, and when it is given up. Tune's calls are made here, without Ray."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.attempt import Ended, Started, order
from harness.pool import Shape, alone
from harness.queues import Queues
from harness.search import Enumerated
from harness.spec import Pool
from harness.trainable import MESSAGE
from harness.tuning import Asker, Hearer, Sweep, Undertaker
from lejepa.trainer import EpochReport
from tests.harness.fake import Diary, trial


class Tuned:
    """A sweep of one trial of nine epochs, in one place."""

    def __init__(self, folder: Path) -> None:
        shape = Shape(1, 0, 1)
        search = Enumerated([trial(7, epochs=9)])
        queues = Queues(search, alone(Pool()), {"pool": 1}, {"CPU": 1}, lambda one: shape, lambda one, reason: None)
        self.diary, self.name, self.error_file = Diary(), "", folder / "error.txt"
        sweep = Sweep(search, queues, self.diary, lambda one, shape: order(one, one.config, 1, folder),
                      lambda one, gpus: shape, lambda: None)  # fmt: skip
        self.sweep, self.asker, self.hearer, self.undertaker = sweep, Asker(sweep), Hearer(sweep), Undertaker(sweep)
        self.epochs = 0

    def begin(self) -> None:
        self.name += "again"
        assert isinstance(self.asker.suggest(self.name), dict), "it can begin"
        known = [EpochReport(epoch, {}, {}) for epoch in range(1, self.epochs + 1)]
        self.hearer(self.name, {MESSAGE: Started(tuple(known), {})})

    def train(self) -> None:
        self.epochs += 1
        self.hearer(self.name, {MESSAGE: EpochReport(self.epochs, {}, {})})

    def die(self) -> None:
        self.asker.on_trial_complete(self.name, error=True)
        tunes = SimpleNamespace(trial_id=self.name, error_file=str(self.error_file))
        self.undertaker.on_trial_error(1, [tunes], tunes)

    @property
    def ends(self) -> list[str]:
        return [state for state, _ in self.diary.ends[7]]


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    return Tuned(tmp_path)


def test_a_trial_that_comes_further_each_time_may_die_as_often_as_it_likes(tuned: Tuned) -> None:
    for _ in range(8):
        tuned.begin()
        tuned.train()
        tuned.die()
    tuned.begin()
    tuned.train()
    tuned.hearer(tuned.name, {MESSAGE: Ended("finished", {})})
    tuned.asker.on_trial_complete(tuned.name)
    assert tuned.ends == ["interrupted"] * 8 + ["finished"]
    assert tuned.asker.suggest("more") == "FINISHED"


def test_a_trial_that_dies_three_times_without_a_new_epoch_between_is_given_up(tuned: Tuned) -> None:
    tuned.begin()
    tuned.train()
    tuned.train()
    tuned.die()
    tuned.epochs = 0  # its checkpoints were on the node that is gone: what it trains again is not new
    tuned.begin()
    tuned.train()
    tuned.die()
    tuned.begin()
    tuned.die()
    assert tuned.ends == ["interrupted", "interrupted", "failed"]
    assert tuned.sweep.error is None
    assert tuned.asker.suggest("more") == "FINISHED"


def test_the_record_of_a_death_says_what_ray_says_of_it(tuned: Tuned) -> None:
    tuned.begin()
    tuned.error_file.write_text("Failure # 1 (occurred at noon)\nThe actor died unexpectedly.\n")
    tuned.die()
    assert tuned.diary.ends[7][0][1] == {"reason": "the worker died: The actor died unexpectedly."}
