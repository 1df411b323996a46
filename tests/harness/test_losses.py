"""Rows that were lost from a ledger are missed, though SQLite finds the file in order."""

import sqlite3
from pathlib import Path

import pytest

from harness.ledger import Ledger
from harness.losses import lost, lost_within


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Trials a and b finished after two epochs, c was pruned after one, d waits with none."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_event("sweep_started")
        for ordinal, (key, epochs, end) in enumerate(
            (("a", 2, "finished"), ("b", 2, "finished"), ("c", 1, "pruned"), ("d", 0, ""))
        ):
            ledger.add_trial(key, {}, 0, 2, "data", "code")
            ledger.assign("arm", {}, 0, ordinal, "evidence", key)
            for epoch in range(epochs):
                ledger.add_epoch(key, epoch + 1, {}, {})
            if end:
                ledger.add_event(end, key)
    return tmp_path / "ledger.db"


def missed(path: Path, *statements: str) -> tuple[list[str], list[str]]:
    with sqlite3.connect(path) as db:
        for sql in statements:
            assert db.execute(sql).rowcount > 0
    db.close()
    with Ledger.read(path) as ledger:
        return lost(ledger), lost_within(ledger)


def test_a_ledger_from_which_nothing_is_lost_is_whole(path: Path) -> None:
    assert missed(path) == ([], [])


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DELETE FROM epochs WHERE key = 'a' AND epoch = 1", "table epochs lacks epochs of 1 trial (a) that ended"),
        ("DELETE FROM epochs WHERE key = 'b'", "table epochs lacks epochs of 1 trial (b) that ended"),
        ("UPDATE epochs SET epoch = 2 WHERE key = 'c'", "table epochs lacks epochs of 1 trial (c) that ended"),
        ("DELETE FROM assignments WHERE key = 'd'", "1 trial (d) without a row in table assignments"),
    ],
)
def test_what_a_trial_lacks_is_named(path: Path, sql: str, says: str) -> None:
    assert says in missed(path, sql)[1]


def test_rows_that_went_with_all_that_names_them_are_missed_by_their_number(path: Path) -> None:
    gone = [f"DELETE FROM {table} WHERE key = 'b'" for table in ("events", "epochs", "assignments", "trials")]
    assert missed(path, *gone) == (
        ["table trials has 3 of 4 rows", "table assignments has 3 of 4 rows", "table events has 3 of 4 rows"],
        [],
    )
