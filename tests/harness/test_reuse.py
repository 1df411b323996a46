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
from harness.reuse import Library, Reusing, conditions, source_of
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


def altered(folder: Path, sql: str) -> None:
    with sqlite3.connect(folder / "ledger.db") as db:
        assert db.execute(sql).rowcount > 0
    db.close()


def notes(folder: Path) -> list[str]:
    with Ledger.read(folder / "ledger.db") as ledger:
        return [event.payload["text"] for event in ledger.events() if event.kind == "note"]


OTHER_THREADS = "UPDATE events SET payload = replace(payload, '\"threads\":1', '\"threads\":2')"


def test_of_several_ledgers_the_first_that_was_trained_so_is_taken(runs: Path) -> None:
    run(runs, "m")
    for name in ("a", "z"):
        shutil.copytree(runs / "m", runs / name)
        altered(runs / name, OTHER_THREADS)
    assert run(runs, "second", SPEC, runs) == []
    with Ledger.read(runs / "second" / "ledger.db") as ledger:
        assert {event.payload.get("reused") for event in ledger.events() if event.kind == "finished"} == {"../m"}


def test_the_source_is_found_from_anywhere_and_where_all_runs_were_moved(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(runs, "first")
    monkeypatch.chdir(runs)
    run(runs, "second", SPEC, Path("first"))
    (runs.parent / "moved").mkdir()
    for name in ("first", "second"):
        (runs / name).rename(runs.parent / "moved" / name)
    monkeypatch.chdir("/")
    with Ledger.read(runs.parent / "moved" / "second" / "ledger.db") as ledger:
        [source] = {event.payload["reused"] for event in ledger.events() if event.kind == "finished"}
    assert source_of(source, runs.parent / "moved" / "second") == (runs.parent / "moved" / "first").resolve()


def test_it_is_said_how_many_are_taken_and_why_the_others_are_not(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(runs, "first", seeds=[0])
    altered(runs / "first", f"{OTHER_THREADS} WHERE kind = 'finished' AND id = (SELECT max(id) FROM events "
                            "WHERE kind = 'finished')")  # fmt: skip
    run(runs, "second", SPEC, runs / "first")
    said = "--reuse: of 4 trials that wait, 1 are taken from earlier sweeps, and not 2: no earlier sweep has it; "
    assert notes(runs / "second") == [said + "1: other threads"]
    assert said in capsys.readouterr().err
    altered(runs / "first", "UPDATE trials SET code = 'other'")
    run(runs, "third", SPEC, runs / "first")
    [text] = notes(runs / "third")
    assert "0 are taken" in text
    assert "2: other trainer code" in text


def test_what_a_search_asks_for_later_is_counted_at_its_end(runs: Path) -> None:
    run(runs, "first", SEARCH)
    run(runs, "second", SEARCH, runs / "first")
    assert notes(runs / "second") == [
        "--reuse: of 6 trials that wait, 6 are taken from earlier sweeps",
        "--reuse: of 2 trials that were asked for later, 2 are taken from earlier sweeps",
    ]


def test_a_ledger_that_cannot_be_read_is_named_and_passed_over_where_there_are_others(runs: Path) -> None:
    run(runs, "first")
    (runs / "broken").mkdir()
    (runs / "broken" / "ledger.db").write_text("no database, but long enough to look at " * 50)
    assert run(runs, "second", SPEC, runs) == []
    assert "broken/ledger.db: file is not a database" in notes(runs / "second")[0]
    with pytest.raises(Refused, match=r"--reuse: .*broken/ledger\.db: file is not a database"):
        run(runs, "third", SPEC, runs / "broken")


def test_a_trial_whose_record_is_damaged_is_trained_again_and_the_others_are_taken(runs: Path) -> None:
    run(runs, "first")
    altered(runs / "first", "UPDATE epochs SET metrics = '{\"val' WHERE (key, epoch) IN (SELECT key, 2 FROM trials "
                            "LIMIT 1)")  # fmt: skip
    assert len(run(runs, "second", SPEC, runs / "first")) == 1
    assert notes(runs / "second")[0].endswith("not 1: its record is damaged")


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
    altered(runs / "first", sql)
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
