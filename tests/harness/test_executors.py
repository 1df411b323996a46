"""What every executor does. Each runs the same small sweep once; the tests read its diary."""

from pathlib import Path
from typing import Any

import pytest

from harness.attempt import Ended, Noted, attempt, order
from harness.executors import Executor, LocalExecutor, RayExecutor
from harness.pool import PoolError, granted
from harness.search import Enumerated
from harness.spec import Pool
from harness.trials import TrialSpec
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport
from tests.harness.fake import Diary, Fake, FakeTrainer, trial

FINE, RAISES, DIVERGES, NAN, PRUNED, SEARCHES, GOES_ON, AFTER = range(8)  # seeds
FAKE = Fake(raises={RAISES: 2}, diverges={DIVERGES: 2}, reports_nan={NAN: 3})


class PruningSearch(Enumerated):
    def __init__(self, trials: list[TrialSpec]) -> None:
        super().__init__(trials)
        self.heard: list[tuple[int, str]] = []

    def observe(self, trial: TrialSpec, report: EpochReport) -> bool:
        # at its last epoch a trial is not pruned any more, whatever the search says
        return (trial.config.seed, report.epoch) in {(PRUNED, 2), (FINE, 3)}

    def ended(self, trial: TrialSpec, state: str) -> None:
        self.heard.append((trial.config.seed, state))


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "local":
        return LocalExecutor(Pool(max_concurrent=2), FAKE)
    request.getfixturevalue("ray_on_two_cpus")
    return RayExecutor(Pool(max_concurrent=2), FAKE)


@pytest.fixture(scope="module")
def ran(executor: Executor, tmp_path_factory: pytest.TempPathFactory) -> tuple[Diary, PruningSearch, Path]:
    folder, diary = tmp_path_factory.mktemp(executor.name), Diary()
    trials = [trial(seed, purpose="search" if seed == SEARCHES else "evidence") for seed in range(8)]
    goes_on = trials[GOES_ON]
    earlier = iter(FAKE(goes_on.config, Path(order(goes_on, goes_on.config, 1, folder).checkpoints)))
    for _ in range(2):
        next(earlier)
    search = PruningSearch(trials)
    with executor:
        executor.run(search, diary, folder)
    return diary, search, folder


Ran = tuple[Diary, PruningSearch, Path]


def test_every_trial_ends_once_and_the_search_hears_of_it(ran: Ran) -> None:
    diary, search, _ = ran
    states = {seed: [state for state, _ in ends] for seed, ends in diary.ends.items()}
    assert states == {
        FINE: ["finished"],
        RAISES: ["failed"],
        DIVERGES: ["diverged"],
        NAN: ["diverged"],
        PRUNED: ["pruned"],
        SEARCHES: ["finished"],
        GOES_ON: ["finished"],
        AFTER: ["finished"],
    }
    assert sorted(search.heard) == sorted((seed, ends[0]) for seed, ends in states.items())


def test_epochs_are_told_in_order_after_the_start_and_before_the_end(ran: Ran) -> None:
    diary = ran[0]
    assert [line for line in diary.lines if line[1] == FINE] == [
        ("started", FINE, 0),
        ("epoch", FINE, 1),
        ("epoch", FINE, 2),
        ("epoch", FINE, 3),
        ("finished", FINE),
    ]
    assert sorted(diary.reports[PRUNED]) == [1, 2]
    assert sorted(diary.reports[DIVERGES]) == [1]


def test_an_epoch_with_a_nan_is_not_reported_but_ends_the_trial_as_diverged(ran: Ran) -> None:
    diary = ran[0]
    assert sorted(diary.reports[NAN]) == [1, 2]
    assert diary.ends[NAN] == [("diverged", {"epoch": 3, "step": None, "reason": "train/loss is nan"})]


def test_a_trial_that_raises_leaves_its_traceback_and_its_output_in_its_log(ran: Ran) -> None:
    diary, _, folder = ran
    assert "seed 1 does not like epoch 2" in diary.ends[RAISES][0][1]["traceback"]
    log = (folder / "logs" / f"{trial(RAISES).key}.txt").read_text()
    assert "about to raise" in log
    assert "RuntimeError: seed 1 does not like epoch 2" in log


def test_search_trials_do_not_read_test(ran: Ran) -> None:
    diary = ran[0]
    assert diary.ends[SEARCHES][0][1]["test"] == {}
    assert diary.ends[FINE][0][1]["test"].keys() == {"test/linear"}


def test_a_trial_after_others_equals_the_same_trial_alone(ran: Ran, tmp_path: Path) -> None:
    alone = Diary()
    LocalExecutor(Pool(), FAKE).run(Enumerated([trial(AFTER)]), alone, tmp_path)
    assert alone.reports[AFTER] == ran[0].reports[AFTER]


def test_threads_and_device_are_what_the_pool_grants(ran: Ran) -> None:
    info = ran[0].info[FINE][0]
    assert info["threads"] == 1
    assert info["device"] == "cpu"


def test_a_trial_goes_on_from_its_checkpoint_and_tells_what_was_missed(ran: Ran) -> None:
    assert [line for line in ran[0].lines if line[1] == GOES_ON] == [
        ("started", GOES_ON, 2), ("epoch", GOES_ON, 1), ("epoch", GOES_ON, 2), ("epoch", GOES_ON, 3),
        ("finished", GOES_ON),
    ]  # fmt: skip


def test_a_stop_leaves_the_running_trial_open_and_starts_no_more(tmp_path: Path) -> None:
    diary = Diary()  # on Ray: test_run.py stops a whole driver
    trials = Enumerated([trial(FINE), trial(AFTER)])
    LocalExecutor(Pool(), FAKE).run(trials, diary, tmp_path, lambda: "enough" if diary.reports else None)
    assert sorted(diary.reports) == [FINE]
    assert sorted(diary.reports[FINE]) == [1]
    assert diary.ends == {}


class FullDisk(Diary):
    def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
        raise OSError("no space left on device")


def test_an_error_of_the_listener_stops_the_sweep_and_is_raised(executor: Executor, tmp_path: Path) -> None:
    diary = FullDisk()
    with executor, pytest.raises(OSError, match="no space left"):
        executor.run(Enumerated([trial(seed) for seed in range(4)]), diary, tmp_path)
    assert diary.ends == {}
    assert len(diary.lines) <= 2


def test_a_pool_that_cannot_be_had_is_refused_before_anything_runs(ray_on_two_cpus: None) -> None:
    with pytest.raises(PoolError, match=r"asks for 3 CPUs.*there are 2 CPUs"), RayExecutor(Pool(cpus=3), FAKE):
        pass
    with pytest.raises(PoolError, match=r"3 GPUs.*2 GPUs"), RayExecutor(Pool(cpus=3, gpus=3), FAKE):
        pass


@pytest.mark.parametrize(
    ("pool", "says"),
    [({"cpus": 4096}, "asks for 4096 CPUs"), ({"gpus": 1}, "and 1 GPUs"), ({"memory": "900 TiB"}, "lower pool")],
)
def test_one_process_refuses_a_pool_that_this_machine_has_not(
    pool: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(PoolError, match=says), LocalExecutor(Pool.model_validate(pool), FAKE):
        raise AssertionError("it was opened")


def test_cuda_without_a_gpu_in_the_pool_is_refused() -> None:
    with pytest.raises(PoolError, match=r"set pool\.gpus"):
        granted(TrainConfig(device="cuda"), Pool())
    assert granted(TrainConfig(device="auto", threads=3), Pool(cpus=2, gpus=0.5)).model_dump(
        include={"device", "threads"}
    ) == {"device": "cuda", "threads": 3}


def test_a_score_that_could_not_be_had_is_noted_and_the_trial_finishes(tmp_path: Path) -> None:
    class Diverges(FakeTrainer):
        def test(self) -> dict[str, float]:
            self.info["test_failed"] = {"test/finetune": "the loss is not finite in epoch 1"}
            return super().test()

    one = trial(0)
    *_, noted, ended = attempt(order(one, one.config, 1, tmp_path), lambda config, place: Diverges(FAKE, config, place))
    assert noted == Noted("no test/finetune: the loss is not finite in epoch 1")
    assert isinstance(ended, Ended)
    assert (ended.state, list(ended.payload["test"])) == ("finished", ["test/linear"])
