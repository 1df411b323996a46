"""The ledger: append-only, once, durable, and readable while it is written."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness.ledger
from harness.ledger import Ledger, LedgerError, canonical


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as open_ledger:
        open_ledger.add_trial("aa11", {"seed": 0}, 0, 3, "data", "code")
        yield open_ledger


def test_what_was_written_is_read_back(ledger: Ledger) -> None:
    ledger.assign("arm", {"method.lamb": 0.1}, 0, 2, "evidence", "aa11")
    assert ledger.add_epoch("aa11", 1, {"val/knn": 90.5}, {"seconds": 1.0}, at=5.0)
    (trial,), (place,), (epoch,) = ledger.trials(), ledger.assignments(), ledger.epochs("aa11")
    assert (trial.key, trial.config, trial.epochs, trial.code) == ("aa11", {"seed": 0}, 3, "code")
    assert (place.cell, place.ordinal, place.key) == ({"method.lamb": 0.1}, 2, "aa11")
    assert (epoch.epoch, epoch.time, epoch.metrics, epoch.timing) == (1, 5.0, {"val/knn": 90.5}, {"seconds": 1.0})


def test_the_same_trial_epoch_or_place_again_changes_nothing(ledger: Ledger) -> None:
    ledger.add_trial("aa11", {"other": 1}, 9, 9, "x", "y")
    assert ledger.trials()[0].config == {"seed": 0}
    assert [ledger.add_epoch("aa11", 1, {"m": value}, {}) for value in (1.0, 2.0)] == [True, False]
    assert ledger.epochs()[0].metrics == {"m": 1.0}
    for _ in range(2):
        ledger.assign("arm", {}, 0, 0, "evidence", "aa11")
    assert len(ledger.assignments()) == 1


def test_a_place_of_the_design_belongs_to_one_trial(ledger: Ledger) -> None:
    ledger.add_trial("bb22", {}, 1, 3, "data", "code")
    ledger.assign("arm", {}, 0, 0, "evidence", "aa11")
    with pytest.raises(LedgerError, match="belongs to trial aa11"):
        ledger.assign("arm", {}, 0, 0, "evidence", "bb22")
    with pytest.raises(ValueError, match="purpose"):
        ledger.assign("arm", {}, 0, 1, "fun", "bb22")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_that_is_not_finite_is_refused(ledger: Ledger, value: float) -> None:
    with pytest.raises(ValueError, match="end the trial as diverged"):
        ledger.add_epoch("aa11", 1, {"train/loss": value}, {})
    assert ledger.epochs() == []


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "waiting"),
        (["started"], "running"),
        (["started", "note"], "running"),
        (["started", "finished"], "finished"),
        (["started", "interrupted"], "waiting"),
        (["started", "interrupted", "started", "pruned"], "pruned"),
        (["started", "failed", "requeued"], "waiting"),
        (["started", "diverged"], "diverged"),
    ],
)
def test_the_state_of_a_trial_is_the_last_of_its_events(ledger: Ledger, events: list[str], state: str) -> None:
    for kind in events:
        ledger.add_event(kind, "aa11")
        ledger.add_event("sweep_note")  # the sweep's own events touch no trial
    assert ledger.states() == {"aa11": state}


def test_events_are_read_in_the_order_in_which_they_happened(ledger: Ledger) -> None:
    ledger.add_event("sweep_started", command=["harness"], pid=1)
    ledger.add_event("started", "aa11", attempt=1)
    assert [(e.kind, e.key, e.payload) for e in ledger.events()] == [
        ("sweep_started", None, {"command": ["harness"], "pid": 1}),
        ("started", "aa11", {"attempt": 1}),
    ]
    assert [e.kind for e in ledger.events("aa11")] == ["started"]


def test_a_transaction_is_written_whole_or_not_at_all(ledger: Ledger) -> None:
    def fail_midway() -> None:
        with ledger.transaction():
            ledger.add_trial("bb22", {}, 1, 3, "data", "code")
            with ledger.transaction():
                ledger.add_event("started", "bb22")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert [trial.key for trial in ledger.trials()] == ["aa11"]
    assert ledger.events() == []
    ledger.add_event("note")  # and the ledger goes on
    assert len(ledger.events()) == 1


def test_what_was_acknowledged_survives_a_kill_and_what_was_begun_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    code = (
        "import os, signal; from harness.ledger import Ledger\n"
        f"l = Ledger({str(path)!r}); l.add_trial('k', {{}}, 0, 9, 'd', 'c')\n"
        "[l.add_epoch('k', i, {'m': i}, {}) for i in range(1, 6)]\n"
        "with l.transaction(): l.add_epoch('k', 6, {'m': 6}, {}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    with Ledger(path) as again:
        assert [row.epoch for row in again.epochs()] == [1, 2, 3, 4, 5]
        assert again.add_epoch("k", 6, {"m": 6.0}, {})


def test_a_reader_sees_what_the_writer_commits_and_cannot_write(ledger: Ledger) -> None:
    with Ledger.read(ledger.path) as reader:
        assert reader.events() == []
        ledger.add_event("note")
        assert [event.kind for event in reader.events()] == ["note"]
        with pytest.raises(LedgerError, match="readonly"):
            reader.add_event("note")


def test_reading_leaves_no_ledger_behind_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger here"):
        Ledger.read(tmp_path / "ledger.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("not a database, but long enough to look at " * 50)
    for opened in (Ledger, Ledger.read):
        with pytest.raises(LedgerError, match=r"ledger\.db"):
            opened(tmp_path / "ledger.db")


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE trials SET config = '{\"a\":'", r"table trials, row aa11: config is not JSON"),
        ("UPDATE epochs SET metrics = '[1]'", r"table epochs, row aa11, 1: metrics is no JSON object"),
        ("UPDATE epochs SET timing = x'00'", r"table epochs, row aa11, 1: timing is not JSON"),
        ("UPDATE events SET payload = CAST(x'7bff' AS TEXT)", "Could not decode"),
        ("UPDATE assignments SET cell = ''", r"table assignments, row 1: cell is not JSON"),
        ("DELETE FROM trials", r"table assignments, row 1: is of trial aa11, which table trials lacks"),
    ],
)
def test_a_damaged_row_is_told_with_its_table_and_what_to_do(ledger: Ledger, sql: str, says: str) -> None:
    ledger.assign("arm", {}, 0, 0, "evidence", "aa11")
    ledger.add_epoch("aa11", 1, {"m": 1.0}, {})
    ledger.add_event("started", "aa11")
    ledger._execute("PRAGMA foreign_keys = OFF")
    ledger._execute(sql)
    with pytest.raises(LedgerError, match=says) as told:
        (ledger.trials(), ledger.assignments(), ledger.epochs(), ledger.events(), ledger.states())
    assert str(told.value).startswith(f"{ledger.path}: ")
    assert "put back a copy of ledger.db, or `harness run " in str(told.value)
    assert "\n" not in str(told.value)


def test_an_event_of_no_trial_is_told_also_where_only_states_are_asked_for(ledger: Ledger) -> None:
    ledger.add_event("started", "aa11")
    ledger._execute("PRAGMA foreign_keys = OFF")
    ledger._execute("DELETE FROM trials")
    with pytest.raises(LedgerError, match="table events, row 1: is of trial aa11, which table trials lacks"):
        ledger.states()


def test_pages_that_were_overwritten_are_told_wherever_they_are_met(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for i in range(40):
            ledger.add_trial(f"{i}", {"text": "x" * 500}, 0, 9, "d", "c")
    content = path.read_bytes()
    path.write_bytes(content[:16384] + b"\xff" * (len(content) - 16384))
    with Ledger.read(path) as ledger, pytest.raises(LedgerError, match="malformed; put back a copy"):
        ledger.trials()


def test_what_is_read_in_a_snapshot_is_of_one_moment(ledger: Ledger) -> None:
    with Ledger.read(ledger.path) as reader:
        with reader.snapshot():
            assert reader.events() == []
            ledger.add_event("note")
            assert reader.events() == []
            assert reader.states() == {"aa11": "waiting"}
        assert len(reader.events()) == 1


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").close()
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="schema version 99"):
        Ledger.read(tmp_path / "ledger.db")


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"proc / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    real = Path.read_text
    monkeypatch.setattr(
        harness.ledger.Path, "read_text", lambda self: real(mounts if str(self) == "/proc/mounts" else self)
    )
    with pytest.raises(LedgerError, match=r"lies on nfs4 .*local disk"):
        Ledger(tmp_path / "ledger.db")


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_trial("k", {}, 0, 9, "d", "c")
        (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to say that there is no room
        with pytest.raises(LedgerError, match="full"):
            ledger.add_event("note", "k", text="x" * 100_000)
        assert [trial.key for trial in ledger.trials()] == ["k"]


def test_a_trial_is_found_by_the_beginning_of_its_key(ledger: Ledger) -> None:
    ledger.add_trial("ab22", {}, 1, 3, "data", "code")
    assert ledger.trial("aa").key == "aa11"
    for prefix in ("a", "zz"):
        with pytest.raises(LedgerError, match="have a key that starts with"):
            ledger.trial(prefix)


def test_equal_values_have_equal_text() -> None:
    assert canonical({"b": 1, "a": [1.0, None]}) == canonical({"a": [1.0, None], "b": 1}) == '{"a":[1.0,null],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))
