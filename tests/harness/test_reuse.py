"""Trials of earlier sweeps stand in for the same trials of a later one, and only for the same."""

import shutil
import sqlite3
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.folder import made
from harness.ledger import Ledger
from harness.plan import data_name
from harness.pool import PoolError, alone
from harness.reuse import Library, Reusing, conditions
from harness.run import Refused, run_sweep
from harness.search import Enumerated
from harness.spec import Pool, SweepSpec
from harness.trials import enumerate_trials
from lejepa.config import TrainConfig
from tests.harness.fake import Diary, Fake, FakeTrainer, NoMirror, trial

SPEC: dict[str, Any] = {
    "name": "first",
    "base": {"epochs": 4, "data": {"name": "digits", "size": 16}},
    "scientific": {"method.lamb": {"grid": [0.02, 0.05]}},
    "seeds": [0, 1],
    "pool": {"cpus": 1, "max_concurrent": 1},
}
SEARCH: dict[str, Any] = {
    **SPEC,
    "scientific": {},
    "nuisance": {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}},
    "search": {"sampler": "random", "trials": 6},
    "confirm": {"top": 1, "seeds": [5, 6]},
}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for sweeps that nobody mirrors."""
    monkeypatch.setattr("harness.drive.MirrorThread", lambda *_: NoMirror())
    return tmp_path


class Counting(Fake):
    """Remembers the seeds of what it trained."""

    def __call__(self, config: TrainConfig, checkpoints: Path) -> FakeTrainer:
        TRAINED.append((config.seed, getattr(config.method, "lamb", None)))
        return super().__call__(config, checkpoints)


TRAINED: list[tuple[int, float | None]] = []


def run(runs: Path, name: str, spec: Mapping[str, Any] = SPEC, *reuse: Path, **changes: Any) -> list[Any]:
    """What was trained."""
    TRAINED.clear()
    sweep = SweepSpec.model_validate({**spec, **changes, "name": name})
    run_sweep(sweep, runs / name, "local", trainer=Counting(), reuse=reuse)
    return list(TRAINED)


def content(folder: Path) -> tuple[list[Any], list[Any], dict[str, str]]:
    with Ledger.read(folder / "ledger.db") as ledger:
        rows = sorted((row.key, row.epoch, sorted(row.metrics.items())) for row in ledger.epochs())
        tests = sorted((str(e.key), sorted(e.payload["test"].items())) for e in ledger.events() if e.kind == "finished")
        return rows, tests, ledger.states()


def reused(folder: Path) -> int:
    with Ledger.read(folder / "ledger.db") as ledger:
        return sum("reused" in event.payload for event in ledger.events())


def test_what_has_finished_is_not_trained_again_and_the_ledger_says_where_it_is_from(runs: Path) -> None:
    assert len(run(runs, "first")) == 4
    assert run(runs, "second", SPEC, runs / "first") == []
    assert content(runs / "second") == content(runs / "first")
    assert reused(runs / "second") == 4


def test_a_folder_of_sweeps_gives_what_each_of_them_has(runs: Path) -> None:
    run(runs, "one", seeds=[0])
    run(runs, "two", seeds=[1])
    trained = run(runs, "both", SPEC, runs, seeds=[0, 1, 2])
    assert trained == [(2, 0.02), (2, 0.05)]


def test_a_search_with_confirmation_comes_out_the_same(runs: Path) -> None:
    assert len(run(runs, "first", SEARCH)) == 8
    assert run(runs, "second", SEARCH, runs / "first") == []
    assert content(runs / "second") == content(runs / "first")


def test_early_stopping_sees_reused_trials_as_it_sees_others(runs: Path) -> None:
    stopping = {"name": "asha", "grace": 1, "reduction": 2}
    run(runs, "first", SEARCH)
    run(runs, "stopped", SEARCH, stopping=stopping)
    assert "pruned" in content(runs / "stopped")[2].values()
    assert run(runs, "again", SEARCH, runs / "first", stopping=stopping) == []
    assert content(runs / "again") == content(runs / "stopped")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE trials SET code = 'other'",
        "UPDATE events SET payload = replace(payload, '\"threads\":1', '\"threads\":2')",
        'UPDATE events SET payload = replace(payload, \'"device":"cpu"\', \'"device":"A GPU"\')',
        'UPDATE events SET payload = replace(payload, \'"torch":"\', \'"torch":"0\')',
        'UPDATE events SET payload = replace(payload, \'"threads":1\', \'"threads":1,"accumulate":2\')',
        "DELETE FROM epochs WHERE epoch = 2",
        "DELETE FROM events WHERE kind = 'finished'",
        "UPDATE events SET payload = json_set(payload, '$.test', json('{}')) WHERE kind = 'finished'",
        "INSERT INTO events (time, kind, payload) VALUES (0, 'code_changed', '{}')",
    ],
)
def test_what_was_trained_under_other_conditions_is_trained_again(runs: Path, sql: str) -> None:
    run(runs, "first")
    with sqlite3.connect(runs / "first" / "ledger.db") as db:
        assert db.execute(sql).rowcount > 0
    db.close()
    assert len(run(runs, "second", SPEC, runs / "first")) == 4


def test_a_trial_that_its_pool_cannot_take_is_left_to_be_refused_and_ends_no_sweep(tmp_path: Path) -> None:
    where = alone(Pool(cpus=2, ranks=2))
    odd, even, diary = trial(0, batch_size=63), trial(1, batch_size=64), Diary()
    with pytest.raises(PoolError):
        conditions(odd, where)
    search = Reusing(Enumerated([odd, even]), Library({}), diary, partial(conditions, where=where))
    assert search.suggest() == odd
    assert search.suggest() == even


def test_a_folder_goes_with_a_pool_that_cannot_be_had_only_while_nothing_is_trained(tmp_path: Path) -> None:
    spec = SweepSpec.model_validate({**SPEC, "name": "a"})
    trials = enumerate_trials(spec, data_name)

    def driven(folder: Path, epochs: int) -> None:
        with made(folder, spec, {"command": []}, trials) as ledger:
            for epoch in range(epochs):
                ledger.add_epoch(trials[0].key, epoch + 1, {}, {})
            raise PoolError

    for epochs in (0, 1):
        with pytest.raises(PoolError):
            driven(tmp_path / str(epochs), epochs)
        assert (tmp_path / str(epochs)).exists() == bool(epochs)


def test_a_folder_without_a_sweep_is_refused_before_anything_is_made(runs: Path) -> None:
    (runs / "empty").mkdir(parents=True)
    with pytest.raises(Refused, match="empty: no sweep lies here"):
        run(runs, "second", SPEC, runs / "empty")
    assert not (runs / "second").exists()


def test_a_sweep_without_its_checkpoints_is_as_good(runs: Path) -> None:
    run(runs, "first")
    shutil.rmtree(runs / "first" / "checkpoints")
    assert run(runs, "second", SPEC, runs / "first") == []
