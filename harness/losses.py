"""What a ledger lacks that it cannot lack, as rows are only added to it: damage that SQLite itself does not see."""

from __future__ import annotations

from collections.abc import Iterator

from harness.ledger import ENDED, Ledger

_SHOWN = 4  # keys of one kind of loss


def lost(ledger: Ledger) -> list[str]:
    """In words, what is missing; [] where nothing is. LedgerError where rows cannot be read at all."""
    with ledger.snapshot():
        return [*_gaps(ledger), *lost_within(ledger)]


def lost_within(ledger: Ledger) -> list[str]:
    """As `lost`, of the trials that are there: one from which whole trials were taken out can still be reported."""
    with ledger.snapshot():
        return [*_apart(ledger), *_epochs(ledger)]


def _gaps(ledger: Ledger) -> Iterator[str]:
    """Rows are counted from 1 as they are added, and none is ever deleted."""
    for table in ("trials", "assignments", "events"):
        [(there, last)] = ledger.select(f"SELECT count(*), coalesce(max(rowid), 0) FROM {table}")
        if there != last:
            yield f"table {table} has {there} of {last} rows"


def _apart(ledger: Ledger) -> Iterator[str]:
    for table in ("assignments", "epochs", "events"):
        rows = ledger.select(
            f"SELECT DISTINCT key FROM {table} WHERE key IS NOT NULL AND key NOT IN (SELECT key FROM trials)"
        )
        if keys := [key for (key,) in rows]:
            yield f"table {table} tells of {_named(keys)}, which table trials lacks"
    rows = ledger.select("SELECT key FROM trials WHERE key NOT IN (SELECT key FROM assignments) ORDER BY rowid")
    if keys := [key for (key,) in rows]:
        yield f"{_named(keys)} without a row in table assignments"


def _epochs(ledger: Ledger) -> Iterator[str]:
    """Of trials that have ended; what others lack is trained or entered again."""
    rows = ledger.select("SELECT key, count(*), max(epoch) FROM epochs GROUP BY key")
    there = {key: (count, last) for key, count, last in rows}
    lengths = dict(ledger.select("SELECT key, epochs FROM trials ORDER BY rowid"))
    short = []
    for key, state in ledger.states().items():
        count, last = there.get(key, (0, 0))
        if state in ENDED and count != (lengths[key] if state == "finished" else last):
            short.append(key)
    if short:
        yield f"table epochs lacks epochs of {_named(short)} that ended"


def _named(keys: list[str]) -> str:
    more = ", …" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {'trial' if len(keys) == 1 else 'trials'} ({', '.join(keys[:_SHOWN])}{more})"
