"""Pools: which trial goes where, how many places there are, and what Ray makes of it, on GPUs that nobody has."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle

from harness import executors
from harness.executors import LocalExecutor, RayExecutor
from harness.place import encoder_params, parse
from harness.pool import Node, Placement, PoolError, Shape, placement, places, places_of, shape_in
from harness.queues import Queues
from harness.search import Enumerated
from harness.spec import Pool, SpecError, SweepSpec, load_sweep
from harness.trials import TrialSpec
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport
from tests.harness.fake import Diary, Fake, FakeTrainer, trial

GIB = 2**30
SMALL, BIG = {"size": 8}, {"size": 16}  # images, by which the trials of these tests are told apart


def sweep(**keys: Any) -> SweepSpec:
    return SweepSpec.model_validate({"name": "pools", "base": {"epochs": 1}, "seeds": 2, **keys})


def two(small: Mapping[str, Any], big: Mapping[str, Any], **keys: Any) -> Placement:
    rules = [{"when": "data.size >= 16", "pool": "big"}]
    return placement(sweep(pools={"small": small, "big": big}, place=rules, **keys))


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("data.size >= 32", True), ("data.size > 32", False), ("data.size != 32", False),
        ("method.name == lejepa", True), ("method.name != lejepa", False), ("arm == a", True), ("arm == b", False),
        ("encoder.params > 100k", True), ("encoder.params > 80M", False), ("batch_size < 1k", True),
        ("method.center_momentum >= 0", False),  # LeJEPA has none
        ("encoder.dim == null", True), ("encoder.dim > 0", False), ("compile == false", True),
    ],
)  # fmt: skip
def test_a_rule_compares_what_a_trial_is_with_a_number_or_a_word(rule: str, holds: bool) -> None:
    assert parse(rule).holds(trial(data={"size": 32}).config, "a") == holds


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("encoder.parms > 80M", "did you mean 'encoder.params'"),
        ("data.size", "is no rule: a path, one of"),
        ("data.size >= large", "'large' is no number"),
        ("arm == __import__('os').system('true')", "neither a number nor one word"),
        ("data.size == 16 or True", "neither a number nor one word"),
    ],
)
def test_what_is_no_rule_is_refused_where_it_is_written(rule: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(f"name: pools\npools:\n  one: {{cpus: 1}}\nplace:\n  - when: {rule}\n    pool: one\n")
    with pytest.raises(SpecError) as refused:
        load_sweep(file)
    assert said in str(refused.value)
    assert f"{file}:5: place.0.when: " in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("place: [{when: data.size > 8, pool: a}]", r":2: place: there are no `pools`"),
        ("pools: {a: {}}\nplace: [{when: data.size > 8, pool: b}]", r":3: place.0.pool: there is no pool 'b'"),
        ("pools: {a: {}}\npool: {cpus: 2}", r":3: pool: beside `pools` it takes max_concurrent alone"),
        ("pools: {a: {gpus: 0.5, memory: 20 GiB}}", r":2: pools.a: memory decides"),
        ("pools: {a: {memory: much}}", r":2: pools.a.memory: 'much' is no size; write `20 GiB`"),
        ("cluster: {address: 'ray://somewhere:10001'}", r":2: cluster.address: "),
    ],
)
def test_pools_that_contradict_themselves_are_refused_at_their_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(f"name: pools\n{text}\n")
    with pytest.raises(SpecError, match=said):
        load_sweep(file)


def test_the_first_rule_that_holds_decides_and_else_the_first_pool() -> None:
    rules = [{"when": "data.size >= 64", "pool": "huge"}, {"when": "data.size >= 16", "pool": "big"}]
    where = placement(sweep(pools={"small": {}, "big": {}, "huge": {}}, place=rules))
    names = [where.name_of(trial(data={"size": size}).config, "lejepa") for size in (8, 16, 64)]
    assert names == ["pools.small", "pools.big", "pools.huge"]


def test_readers_of_one_pool_see_how_many_trials_run_at_once_in_all() -> None:
    pools = {"small": {"max_concurrent": 3}, "big": {"max_concurrent": 2}}
    spec = sweep(pools=pools)
    assert spec.pool.max_concurrent == placement(spec).most == 5
    assert sweep(pools=pools, pool={"max_concurrent": 4}).pool.max_concurrent == 4
    again = SweepSpec.model_validate(spec.model_dump(mode="json"))
    assert again == spec
    assert "pools" not in sweep().model_dump()


def test_an_encoder_is_counted_as_it_is_built() -> None:
    from lejepa.encoders import build_encoder

    config = trial(encoder={"name": "vit_tiny_patch16_224"}, data={"size": 32}).config
    built, _ = build_encoder(config, channels=3)
    assert encoder_params(config) == sum(parameter.numel() for parameter in built.parameters())


# -- places -----------------------------------------------------------------------------------------------------------


def test_fractions_of_a_gpu_do_not_span_two_and_trials_do_not_span_nodes() -> None:
    assert places(Shape(1, 0.4, 1), [Node(64, 2)]) == 4
    assert places(Shape(4, 2, 2), [Node(64, 5)]) == 2
    assert places(Shape(2, 0, 1), [Node(7)]) == 3
    assert places(Shape(2, 0, 1), [Node(3), Node(3)]) == 2
    assert places(Shape(1, 1 / 3, 1), [Node(64, 1)]) == 3


def test_ranks_of_a_trial_may_lie_on_several_nodes() -> None:
    assert places(Shape(2, 2, 2), [Node(8, 1), Node(8, 1)]) == 1
    assert places(Shape(4, 4, 4), [Node(8, 1), Node(8, 2)]) == 0


def test_declared_memory_limits_how_many_trials_a_node_takes() -> None:
    shape = shape_in(Pool.model_validate({"memory": "10 GiB"}), 10 * GIB)
    assert places(shape, [Node(64, 0, 35 * GIB), Node(64, 0, 8 * GIB)]) == 3
    with pytest.raises(PoolError, match=r"asks for 1 CPUs and 0 GPUs and 10,737,418,240 bytes.*lower pool.cpus"):
        places_of(Placement({"pool": Pool()}), {"pool": shape}, [Node(64, 0, 8 * GIB)])


def test_memory_decides_what_part_of_a_gpu_a_trial_gets() -> None:
    pool = Pool.model_validate({"gpus": 1, "memory": "20 GiB"})
    shape = shape_in(pool, 20 * GIB, 80 * GIB)
    assert places(shape, [Node(64, 2)]) == 2 * 3  # a fourth would leave no room to spare


def test_labels_choose_nodes() -> None:
    nodes = [Node(4, labels={"disk": "fast"}), Node(4, labels={"disk": "slow"}), Node(4)]
    found = [
        places(Shape(1, 0, 1, labels={"disk": wanted}), nodes) for wanted in ("fast", "!fast", "in(fast,slow)", "none")
    ]
    assert found == [4, 8, 8, 0]


# -- which trial is next ----------------------------------------------------------------------------------------------


def queues(where: Placement, trials: list[TrialSpec], places: dict[str, int], cpus: float = 64) -> Queues:
    def shape_of(one: TrialSpec) -> Shape:
        return shape_in(where.pool_of(one.config, one.arm))

    return Queues(Enumerated(trials), where, places, {"CPU": cpus, "GPU": 0}, shape_of, lambda one, reason: None)


def small(seed: int) -> TrialSpec:
    return trial(seed, data=SMALL)


def big(seed: int) -> TrialSpec:
    return trial(seed, data=BIG)


def test_both_pools_are_filled_from_a_list_that_has_one_after_the_other() -> None:
    where = two({"max_concurrent": 2}, {"cpus": 2, "max_concurrent": 1})
    waiting = queues(where, [*map(small, range(10)), *map(big, range(10, 14))], {"pools.small": 2, "pools.big": 1})
    started = [one for _ in range(3) if (one := waiting.next()) is not None]
    assert [shape.cpus for _, shape in started] == [1, 1, 2]
    assert waiting.next() is None
    waiting.ended(started[2][0])
    following = waiting.next()
    assert following is not None
    assert following[1].cpus == 2, "a place goes to a trial of the pool that left it"


def test_every_trial_starts_once_and_then_the_queues_are_exhausted() -> None:
    where = two({"max_concurrent": 2}, {"cpus": 2, "max_concurrent": 1})
    listed = [*map(small, range(5)), *map(big, range(5, 9))]
    waiting = queues(where, listed, {"pools.small": 2, "pools.big": 1})
    started = []
    while not waiting.exhausted:
        one = waiting.next()
        assert one is not None
        started.append(one[0].key)
        waiting.ended(one[0])
    assert sorted(started) == sorted(one.key for one in listed)


def test_small_trials_do_not_keep_a_large_one_out_for_ever() -> None:
    where = two({"max_concurrent": 4}, {"cpus": 4, "max_concurrent": 1})
    listed = [*map(small, range(90)), *map(big, range(90, 92))]
    waiting = queues(where, listed, {"pools.small": 4, "pools.big": 1}, cpus=4)
    running: list[TrialSpec] = []
    before = 0
    while True:
        while one := waiting.next():
            running.append(one[0])
            if one[1].cpus == 4:
                assert len(running) == 1
                assert 4 <= before <= 30
                return
            before += 1
        waiting.ended(running.pop(0))


def test_a_search_that_learns_is_asked_no_more_than_a_wave_ahead() -> None:
    where = two({"max_concurrent": 2}, {"max_concurrent": 1}, search={"sampler": "tpe", "trials": 4},
                nuisance={"optimizer.lr": {"uniform": [0.1, 0.2]}})  # fmt: skip
    asked = [small(seed) for seed in range(30)]
    search = Enumerated(asked)
    waiting = Queues(search, where, {"pools.small": 2, "pools.big": 1}, {"CPU": 64}, lambda one: Shape(1, 0, 1),
                     lambda one, reason: None)  # fmt: skip
    for _ in range(10):
        waiting.next()
    assert len(search._waiting) == 30 - 2 - 3


def test_measured_trials_follow_those_of_their_own_shape() -> None:
    where = placement(sweep(pool={"max_concurrent": 1}))

    def shape_of(one: TrialSpec) -> Shape:
        return Shape(1, 0, 1, memory=one.config.data.size)

    listed = [small(0), big(1), small(2), big(3)]
    waiting = Queues(Enumerated(listed), where, {"pool": 1}, {"CPU": 1, "memory": 64}, shape_of, lambda a, b: None)
    sizes = []
    for _ in listed:
        one = waiting.next()
        assert one is not None
        sizes.append(one[1].memory)
        waiting.ended(one[0])
    assert sizes == [8, 8, 16, 16]


def test_a_trial_that_is_to_start_again_does_so_first_and_nothing_is_over_before() -> None:
    where = placement(sweep(pool={"gpus": 0.5, "max_concurrent": 2}))
    waiting = Queues(Enumerated([small(0)]), where, {"pool": 1}, {"CPU": 4, "GPU": 1}, lambda one: Shape(1, 0.5, 1),
                     lambda one, reason: None)  # fmt: skip
    first = waiting.next()
    assert first is not None
    assert not waiting.exhausted, "it may turn out that half a GPU is too small"
    waiting.again(first[0], Shape(1, 1, 1))
    assert waiting.next() is None, "it still runs"
    waiting.ended(first[0])
    assert waiting.next() == (first[0], Shape(1, 1, 1))
    assert not waiting.exhausted, "its worker may die"
    waiting.again(first[0])
    waiting.ended(first[0])
    assert waiting.next() == (first[0], Shape(1, 1, 1)), "in the shape that it had"
    waiting.ended(first[0])
    assert waiting.exhausted


# -- on Ray -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seeing(Fake):
    """Tells which GPUs a trial sees, too."""

    def __call__(self, config: TrainConfig, checkpoints: Path) -> FakeTrainer:
        trainer = super().__call__(config, checkpoints)
        trainer.info["sees"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return trainer


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have the tests on their path


def ran(where: Pool | Placement, trials: list[TrialSpec], folder: Path, **fake: Any) -> Diary:
    diary = Diary()
    with RayExecutor(where, Seeing(**fake)) as executor:
        executor.run(Enumerated(trials), diary, folder)
    assert {one.config.seed: diary.state(one.config.seed) for one in trials} == {
        one.config.seed: "finished" for one in trials
    }
    return diary


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_two_pools_run_beside_each_other_and_each_has_its_own_workers(tmp_path: Path) -> None:
    where = two({"max_concurrent": 1}, {"gpus": 0.5, "max_concurrent": 1})
    trials = [*map(small, range(2)), *map(big, range(6, 8))]
    diary = ran(where, trials, tmp_path, waits_for={0: 6, 6: 0})
    assert diary.most_at_once == 2
    told = {seed: infos[0] for seed, infos in diary.info.items()}
    assert {told[seed]["device"] for seed in range(2)} == {"cpu"}
    assert {told[seed]["device"] for seed in range(6, 8)} == {"cuda"}
    assert {told[seed]["sees"] for seed in range(2)} == {""}
    assert {told[seed]["sees"] for seed in range(6, 8)} <= {"0", "1"}
    pids = [{told[seed]["pid"] for seed in seeds} for seeds in (range(2), range(6, 8))]
    assert not pids[0] & pids[1]


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_trials_share_a_gpu_by_halves_on_the_nodes_that_a_pool_names(tmp_path: Path) -> None:
    pool = Pool(gpus=0.5, max_concurrent=2, labels={"made-for": "tests"})
    diary = ran(pool, [trial(seed) for seed in range(2)], tmp_path, waits_for={0: 1, 1: 0})
    assert diary.most_at_once == 2
    assert {infos[0]["sees"] for infos in diary.info.values()} == {"0"}


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_labels_that_no_node_has_are_told_with_those_that_there_are() -> None:
    with pytest.raises(PoolError, match=r"no node has the labels \{'made-for': 'work'\}; there are made-for: tests"):
        RayExecutor(Pool(labels={"made-for": "work"})).__enter__()


@pytest.mark.usefixtures("ray_on_two_cpus")
@pytest.mark.parametrize(
    ("pool", "at_once"), [(Pool(gpus=0.25, max_concurrent=9), 2), (Pool(gpus=1, max_concurrent=9), 2),
                          (Pool(cpus=2, gpus=2, max_concurrent=9), 1), (Pool(cpus=2, ranks=2, max_concurrent=9), 1)]
)  # fmt: skip
def test_no_more_trials_run_than_cpus_and_gpus_hold(pool: Pool, at_once: int) -> None:
    with RayExecutor(pool) as executor:
        assert executor.places == {"pool": at_once}


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_declared_memory_that_no_gpu_has_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "gpu_bytes", lambda pool: 80 * GIB)
    with pytest.raises(PoolError, match=r"pool: a trial takes 107.37 GB.* the GPU has 85.90 GB"):
        RayExecutor(Pool(gpus=1, memory=100 * GIB)).__enter__()


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_memory_is_measured_and_trials_are_packed_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "gpu_bytes", lambda pool: 80 * GIB)
    monkeypatch.setattr("harness.memory.peak_bytes", lambda config: config.data.size * GIB)
    with RayExecutor(Pool(gpus=1, memory="measured", max_concurrent=2), Seeing(waits_for={0: 1, 1: 0})) as executor:
        assert executor.places == {"pool": 2}
        assert executor._shape_of(small(0)).gpus == pytest.approx(1 / 8)  # 80 / 8.8 and CUDA's own half GiB
        diary = Diary()
        executor.run(Enumerated([small(0), small(1), trial(2, data={"size": 100})]), diary, tmp_path)
    assert diary.most_at_once == 2
    assert {diary.info[seed][0]["sees"] for seed in (0, 1)} == {"0"}
    assert diary.state(2) == "failed", "it fits on no GPU, and the others go on"
    assert "a trial takes 107.37 GB" in diary.ends[2][0][1]["traceback"]


class SqueezedTrainer(FakeTrainer):
    """Takes a quarter of a GPU, whatever was measured: with less it runs out of memory after its next epoch."""

    def __iter__(self) -> Iterator[EpochReport]:
        for report in super().__iter__():
            yield report
            if self.info["gpus"] < 0.25:
                raise torch.OutOfMemoryError("CUDA out of memory.")


@dataclass(frozen=True)
class Squeezed(Fake):
    def __call__(self, config: TrainConfig, checkpoints: Path) -> FakeTrainer:
        import ray

        trainer = SqueezedTrainer(self, config, checkpoints)
        trainer.info["gpus"] = ray.get_runtime_context().get_assigned_resources()["GPU"]
        trainer.info["parts"] = config.accumulate
        return trainer


@pytest.mark.usefixtures("ray_on_two_cpus")
def test_trials_that_were_packed_too_tightly_go_on_in_a_larger_part_and_others_start_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "gpu_bytes", lambda pool: 80 * GIB)
    monkeypatch.setattr("harness.memory.peak_bytes", lambda config: config.data.size * GIB)
    diary, trials = Diary(), [small(seed) for seed in range(4)]  # of 8 GiB, they say
    with RayExecutor(Pool(gpus=1, memory="measured", max_concurrent=1), Squeezed()) as executor:
        executor.run(Enumerated(trials), diary, tmp_path)
    told = [line for line in diary.lines if line[0] != "epoch"]
    assert told[:4] == [("started", 0, 0), ("interrupted", 0), ("started", 0, 1), ("finished", 0)]
    assert [info["gpus"] for info in diary.info[0]] == [0.125, 0.25]
    assert "out of memory (CUDA out of memory.)" in diary.ends[0][0][1]["reason"]
    for seed in (1, 2, 3):
        assert [info["gpus"] for info in diary.info[seed]] == [0.25], "what takes as much memory starts there"
    assert {info["parts"] for infos in diary.info.values() for info in infos} == {1}, "no batch was cut"
    assert all(sorted(reports) == [1, 2, 3] for reports in diary.reports.values())


def test_a_trial_that_its_pool_cannot_take_fails_and_the_others_go_on(tmp_path: Path) -> None:
    odd = trial(1, batch_size=63)
    diary = Diary()
    LocalExecutor(Pool(cpus=2, ranks=2), Fake()).run(Enumerated([odd]), diary, tmp_path)
    assert diary.state(1) == "failed"
    assert "batch_size 63 cannot be shared equally by 2 ranks" in diary.ends[1][0][1]["traceback"]


def test_no_sweep_joins_a_cluster_that_it_does_not_name() -> None:
    assert placement(sweep()).address == "local"
    assert placement(sweep(cluster={"address": "10.0.0.1:6379"})).address == "10.0.0.1:6379"
