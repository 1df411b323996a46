"""What a sweep may cost: charged to the last epoch, shared fairly between arms, and never silently over."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.budget import Budgeted, Purse, driven
from harness.budget_config import Budget
from harness.drive import Recorder
from harness.folder import DRIVER_DIED
from harness.ledger import Ledger
from harness.progress import Progress
from harness.record import recorded
from harness.resume import resume_sweep
from harness.run import run_sweep
from harness.spec import SweepSpec
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport
from tests.harness.fake import Fake, FakeTrainer, NoMirror, trial
from tests.harness.searched import begin, go_on, places, spec

ARMS: dict[str, Any] = {"slow": {"base": {"method": {"name": "vicreg"}}}, "quick": {"base": {"method": {"lamb": 0.05}}}}


class Timed(Fake):
    """Epochs of VICReg are said to take 4 seconds, others 1."""

    def __call__(self, config: TrainConfig, checkpoints: Path) -> FakeTrainer:
        class Trainer(FakeTrainer):
            def __iter__(self) -> Iterator[EpochReport]:
                for report in super().__iter__():
                    seconds = 4.0 if self.config.method.name == "vicreg" else 1.0
                    self.reports[-1] = EpochReport(report.epoch, report.metrics, {"seconds": seconds})
                    yield self.reports[-1]

        return Trainer(self, config, checkpoints)


def plain(**keys: Any) -> SweepSpec:
    """Two arms without a search, of 8 trials of 4 epochs each."""
    return SweepSpec.model_validate({"name": "swept", "base": {"epochs": 4}, "arms": ARMS, "seeds": 8, **keys})


def purse(folder: Path, clock: Any = lambda: 0.0, **budget: Any) -> Purse:
    sweep = SweepSpec.model_validate({"name": "a", "budget": budget})
    return Purse(sweep, begin(sweep, folder), lambda config: 10, clock)


def ended(ledger: Ledger) -> Counter[str]:
    """Arm → trials that have finished."""
    states = ledger.states()
    return Counter(row.arm for row in ledger.assignments() if states[row.key] == "finished")


def paid(folder: Path, trainer: Any = None, **keys: Any) -> Ledger:
    sweep = plain(**keys)
    ledger = begin(sweep, folder)
    go_on(sweep, ledger, trainer or Timed())
    return ledger


def test_a_budget_of_trials_ends_the_search(tmp_path: Path) -> None:
    search = Budgeted([trial(seed=i) for i in range(5)], None, purse(tmp_path, trials=2))
    first, second = search.suggest(), search.suggest()
    assert first
    assert second
    assert search.suggest() is None
    assert not search.exhausted
    search.ended(first, "finished")
    search.ended(second, "finished")
    assert search.suggest() is None
    assert search.exhausted


@pytest.mark.parametrize(("name", "limit"), [("epochs", 9), ("images", 90)])
def test_a_budget_is_never_exceeded_and_gets_back_what_was_not_trained(tmp_path: Path, name: str, limit: int) -> None:
    search = Budgeted([trial(seed=i, epochs=4) for i in range(5)], None, purse(tmp_path, **{name: limit}))
    first, second = search.suggest(), search.suggest()
    assert first
    assert second
    assert search.suggest() is None, "one epoch is left, and a trial needs four"
    assert not search.exhausted, "a trial that runs may end early"
    search.observe(first, EpochReport(1, {}, {}))
    search.ended(first, "pruned")
    third = search.suggest()
    assert third
    assert third.config.seed == 2
    for running in (second, third):
        for epoch in range(1, 5):
            search.observe(running, EpochReport(epoch, {}, {}))
        search.ended(running, "finished")
    assert search.suggest() is None
    assert search.exhausted


def test_nothing_starts_after_the_wall_clock_and_what_runs_is_trained_to_its_end(tmp_path: Path) -> None:
    now = [0.0]
    search = Budgeted([trial(seed=i) for i in range(3)], None, purse(tmp_path, lambda: now[0], wall_clock="1min"))
    first = search.suggest()
    assert first
    now[0] = 61.0
    assert search.suggest() is None
    assert not search.observe(first, EpochReport(1, {}, {}))
    search.ended(first, "finished")
    assert search.suggest() is None
    assert search.exhausted


@pytest.mark.parametrize("budget", [{"trials": 7}, {"epochs": 30}])
def test_what_does_not_suffice_is_shared_equally_by_the_arms(tmp_path: Path, budget: dict[str, int]) -> None:
    assert ended(paid(tmp_path, budget=budget)) == {"slow": 4, "quick": 3}


def test_equal_seconds_are_more_trials_of_the_quicker_arm(tmp_path: Path) -> None:
    ledger = paid(tmp_path, budget={"device_seconds": 64}, pool={"cpus": 1, "max_concurrent": 1})
    assert ended(ledger) == {"slow": 2, "quick": 8}, "2 · 4 epochs · 4 s = 8 · 4 epochs · 1 s"


def test_what_an_arm_does_not_need_is_there_for_the_others(tmp_path: Path) -> None:
    arms = {**ARMS, "slow": {**ARMS["slow"], "base": {"method": {"name": "vicreg"}, "epochs": 1}}}
    assert ended(paid(tmp_path, arms=arms, budget={"epochs": 24})) == {"slow": 8, "quick": 4}


def test_seconds_are_counted_on_every_device_of_a_trial(tmp_path: Path) -> None:
    ledger = paid(tmp_path, budget={"device_seconds": 64}, pool={"cpus": 2, "max_concurrent": 1})
    assert ended(ledger) == {"slow": 1, "quick": 4}


def test_failed_and_diverged_trials_and_epochs_trained_twice_are_charged(tmp_path: Path) -> None:
    sweep = plain(arms={"quick": {}}, seeds=4, budget={"epochs": 1000})
    ledger = begin(sweep, tmp_path)
    go_on(sweep, ledger, Timed(raises={0: 3}, diverges={1: 2}))
    (third, *_) = [row.key for row in ledger.assignments() if ledger.trial(row.key).seed == 2]
    ledger.add_event("started", third, attempt=2, epoch=1, info={})  # three of its four epochs are trained again
    used = Purse(sweep, ledger).arms["quick"]
    assert used["trials"] == 4
    assert used["epochs"] == 2 + 1 + 4 + 3 + 4
    assert used["device_seconds"] == pytest.approx(14, abs=1), "and what failed trials did after their last epoch"


def test_what_an_interrupted_attempt_had_begun_is_charged_and_so_it_is_after_a_resume(tmp_path: Path) -> None:
    now = [0.0]
    sweep = plain(arms={"quick": {}}, seeds=1, budget={"device_seconds": 1000})
    ledger = begin(sweep, tmp_path)
    held = Purse(sweep, ledger, clock=lambda: now[0])
    (asked,) = recorded(ledger)
    assert held.start(asked)
    now[0] = 50.0  # it waited for its place
    held.began(asked)
    now[0] = 57.0
    held.interrupted(asked)
    now[0] = 90.0  # and for another
    held.interrupted(asked)
    held.began(asked)
    now[0] = 93.0
    held.began(asked)  # again, in the same place
    now[0] = 95.0
    held.ended(asked, "failed")
    assert held.arms["quick"]["device_seconds"] == 12


@pytest.mark.parametrize(("reason", "seconds"), [("out of memory", 12.0), (DRIVER_DIED, 5.0)])
def test_a_resume_charges_the_same_but_for_what_a_dead_driver_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, seconds: float
) -> None:
    sweep = plain(arms={"quick": {}}, seeds=1, budget={"device_seconds": 1000})
    ledger = begin(sweep, tmp_path)
    (key,) = ledger.states()
    at = [0.0]
    monkeypatch.setattr("harness.ledger.time.time", lambda: at[0])
    for at[0], kind in (
        (50.0, "started"),
        (57.0, "interrupted"),
        (90.0, "started"),
        (93.0, "started"),
        (95.0, "failed"),
    ):
        payload = {"reason": reason} if kind == "interrupted" else {"epoch": 0}
        ledger.add_event(kind, key, **payload)
    assert Purse(sweep, ledger).arms["quick"]["device_seconds"] == seconds


def test_a_trial_that_memory_packs_is_charged_the_part_of_a_gpu_that_each_attempt_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = {"gpus": 1, "memory": "measured", "max_concurrent": 8}
    sweep = plain(arms={"quick": {}}, seeds=1, budget={"device_seconds": 1000}, pool=pool)
    ledger = begin(sweep, tmp_path)
    now = [10.0]
    monkeypatch.setattr("harness.ledger.time.time", lambda: now[0])
    purse = Purse(sweep, ledger, clock=lambda: now[0])
    (asked,) = recorded(ledger)
    recorder = Recorder(ledger, Progress(1, 4), purse)
    assert purse.start(asked)
    for epoch, gpus in ((1, 0.25), (2, 0.5)):  # what it got first was too small
        recorder.started(asked, epoch - 1, {"gpus": gpus})
        now[0] += 8.0
        report = EpochReport(epoch, {}, {"seconds": 8.0})
        assert recorder.epoch(asked, report)
        purse.observe(asked, report)
        now[0] += 2.0
        recorder.ended(asked, "interrupted", {"reason": "out of memory", "gpus": 0.5})
    charged = 0.25 * (8 + 2) + 0.5 * (8 + 2)
    assert purse.arms["quick"]["device_seconds"] == charged
    assert Purse(sweep, ledger).arms["quick"]["device_seconds"] == charged, "after a resume"


def test_the_confirmation_is_paid_out_of_seconds_that_the_search_leaves(tmp_path: Path) -> None:
    sweep = spec(search={"sampler": "random", "trials": 40}, confirm={"seeds": 2}, budget={"device_seconds": 100})
    ledger = begin(sweep, tmp_path)
    search = go_on(sweep, ledger, Timed())
    states = ledger.states()
    assert search.exhausted
    assert {states[row.key] for row in places(ledger, "confirm")} == {"finished"}
    assert 90 < len(ledger.epochs()) <= 100


def test_tpe_takes_turns_too(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"arms": ARMS, "scientific": {}, "confirm": None, "search": {"sampler": "tpe", "trials": 9}}
    sweep = spec(**keys, budget={"trials": 6})
    ledger = begin(sweep, tmp_path)
    go_on(sweep, ledger, Timed())
    assert ended(ledger) == {"slow": 3, "quick": 3}


def test_a_sweep_that_its_budget_ends_says_which_and_a_resume_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.drive.MirrorThread", lambda *_: NoMirror())
    sweep = plain(budget={"epochs": 30})
    run_sweep(sweep, tmp_path / "swept", "local", trainer=Timed())
    with Ledger.read(tmp_path / "swept" / "ledger.db") as ledger:
        [event] = [event for event in ledger.events() if event.kind == "budget_spent"]
        before = len(ledger.events())
        assert ledger.events()[-1].kind == "sweep_finished"
        assert {key: event.payload[key] for key in ("budget", "limit", "used", "repeats")} == {
            "budget": "epochs", "limit": 30.0, "used": 28.0, "repeats": True,
        }  # fmt: skip
        assert {arm: used["epochs"] for arm, used in event.payload["arms"].items()} == {"slow": 16, "quick": 12}
        assert 0 < driven(ledger) < 60
    assert resume_sweep(tmp_path / "swept", trainer=Timed()) is None
    with Ledger.read(tmp_path / "swept" / "ledger.db") as ledger:
        assert len(ledger.events()) == before


@pytest.mark.parametrize(
    ("written", "seconds"), [("12h", 43200), ("90min", 5400), ("1.5 h", 5400), ("30s", 30), (7, 7), ("2d", 172800)]
)
def test_times_are_written_with_their_unit_or_in_seconds(written: str | int, seconds: float) -> None:
    assert Budget.model_validate({"wall_clock": written}).wall_clock == seconds


@pytest.mark.parametrize("written", ["12 parsecs", "h", "-3h", "0s", 0, -1, "nan"])
def test_what_is_no_time_is_refused(written: str | int) -> None:
    with pytest.raises(ValidationError, match=r"no time|greater than 0"):
        Budget.model_validate({"device_seconds": written})
