"""The ledger: the one record of a sweep that is trusted. Standard library only, so that reports can read it anywhere.

An append-only SQLite file in WAL mode. Rows are inserted and never changed; a trial's state is the last of its events.
The driver is the only writer; every insert is on disk (fsync) before the call returns. Readers open `mode=ro`.

    trials(key, config, seed, epochs, data, code)          what was trained: same key, same trial
    assignments(arm, cell, study, ordinal, purpose, key)   why: which place of the sweep's design the trial fills
    epochs(key, epoch, metrics, timing)                    what came out: metrics repeat bit for bit, timing does not
    events(key?, kind, payload)                            what happened, in order
"""

import json
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SCHEMA_VERSION = 1

# The state a trial is in after an event. Other kinds of events (`note`, sweep-level ones) leave the state alone.
STATE_AFTER = {
    "started": "running",
    "finished": "finished",
    "pruned": "pruned",
    "diverged": "diverged",
    "failed": "failed",
    "interrupted": "waiting",  # stopped on purpose, or its worker or driver died: it will go on
    "requeued": "waiting",  # `harness retry`
}
ENDED = frozenset({"finished", "pruned", "diverged", "failed"})
PURPOSES = ("evidence", "floor", "search", "confirm")

_SCHEMA = """
CREATE TABLE trials (
    key TEXT PRIMARY KEY, time REAL NOT NULL, config TEXT NOT NULL, seed INTEGER NOT NULL, epochs INTEGER NOT NULL,
    data TEXT NOT NULL, code TEXT NOT NULL);
CREATE TABLE assignments (
    id INTEGER PRIMARY KEY, arm TEXT NOT NULL, cell TEXT NOT NULL, study INTEGER NOT NULL, ordinal INTEGER NOT NULL,
    purpose TEXT NOT NULL, key TEXT NOT NULL REFERENCES trials(key), UNIQUE (arm, cell, study, ordinal, purpose));
CREATE TABLE epochs (
    key TEXT NOT NULL REFERENCES trials(key), epoch INTEGER NOT NULL, time REAL NOT NULL, metrics TEXT NOT NULL,
    timing TEXT NOT NULL, PRIMARY KEY (key, epoch)) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, key TEXT REFERENCES trials(key), kind TEXT NOT NULL,
    payload TEXT NOT NULL);
CREATE INDEX assignments_by_key ON assignments(key);
CREATE INDEX events_by_key ON events(key);
"""

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "glusterfs", "ceph", "9p", "fuse.sshfs")


class LedgerError(Exception):
    """The ledger cannot be opened, read or written; the message says which file and what to do."""


@dataclass(frozen=True)
class TrialRow:
    key: str
    time: float  # unix seconds
    config: dict[str, Any]  # the resolved TrainConfig
    seed: int
    epochs: int
    data: str  # fingerprint of the images and splits
    code: str  # sha256 over lejepa/**/*.py


@dataclass(frozen=True)
class AssignmentRow:
    arm: str
    cell: dict[str, Any]  # scientific parameter (dotted path) → value
    study: int
    ordinal: int
    purpose: str  # one of PURPOSES
    key: str


@dataclass(frozen=True)
class EpochRow:
    key: str
    epoch: int  # 1 after the first
    time: float
    metrics: dict[str, float]
    timing: dict[str, float]


@dataclass(frozen=True)
class EventRow:
    id: int
    time: float
    key: str | None  # None: the event is the sweep's
    kind: str
    payload: dict[str, Any]


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. Raises ValueError on NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def remedy(folder: Path) -> str:
    """What to do with a sweep whose ledger is not whole."""
    again = f"harness run {folder / 'sweep.yaml'} --set name=OTHER --reuse {folder}"
    return f"put back a copy of ledger.db, or `{again}` takes what is whole and trains the rest"


class Ledger:
    """An open ledger. `Ledger(path)` writes (and creates), `Ledger.read(path)` only reads.

    Raises LedgerError where the file is missing (reading), foreign, of a newer schema, or on a network file system.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path).absolute()
        self._depth = 0
        if read_only:
            self._db = _open_read_only(self.path)
        else:
            _refuse_network_file_system(self.path.parent)
            self._db = _open_for_writing(self.path)
        version = _schema_version(self._db, self.path)
        if version != SCHEMA_VERSION:
            raise LedgerError(f"{self.path}: schema version {version}, this program reads {SCHEMA_VERSION}")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        return cls(path, read_only=True)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several inserts, all or none, with one fsync. Nests; the outermost one commits."""
        if self._depth == 0:
            self._execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0 and self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._commit()

    def add_trial(self, key: str, config: Mapping[str, Any], seed: int, epochs: int, data: str, code: str) -> None:
        """Record a trial; the same key again is the same trial and changes nothing."""
        row = (key, time.time(), canonical(config), seed, epochs, data, code)
        self._insert("INSERT OR IGNORE INTO trials VALUES (?,?,?,?,?,?,?)", row)

    def assign(self, arm: str, cell: Mapping[str, Any], study: int, ordinal: int, purpose: str, key: str) -> None:
        """Record that a trial fills a place of the design. A place taken by another trial raises LedgerError."""
        if purpose not in PURPOSES:
            raise ValueError(f"purpose {purpose!r} is none of {PURPOSES}")
        place = (arm, canonical(cell), study, ordinal, purpose)
        with self.transaction():
            taken = self._execute(
                "SELECT key FROM assignments WHERE (arm, cell, study, ordinal, purpose) = (?,?,?,?,?)", place
            ).fetchone()
            if taken is None:
                columns = "arm, cell, study, ordinal, purpose, key"
                self._insert(f"INSERT INTO assignments ({columns}) VALUES (?,?,?,?,?,?)", (*place, key))
            elif taken[0] != key:
                raise LedgerError(f"{self.path}: {place} belongs to trial {taken[0]}, not to {key}")

    def add_epoch(
        self, key: str, epoch: int, metrics: Mapping[str, float], timing: Mapping[str, float], at: float | None = None
    ) -> bool:
        """Record an epoch once; False where (key, epoch) was there. ValueError on a metric that is not finite."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"trial {key}, epoch {epoch}: {name} is {value}; end the trial as diverged instead")
        row = (key, epoch, time.time() if at is None else at, canonical(metrics), canonical(timing))
        return self._insert("INSERT OR IGNORE INTO epochs VALUES (?,?,?,?,?)", row) == 1

    def add_event(self, kind: str, key: str | None = None, **payload: Any) -> None:
        row = (time.time(), key, kind, canonical(payload))
        self._insert("INSERT INTO events (time, key, kind, payload) VALUES (?,?,?,?)", row)

    # -- reading ------------------------------------------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read in it is of one moment, also while a driver writes."""
        if self._db.in_transaction:
            yield
            return
        self._execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def select(self, sql: str, bound: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, one after the other. LedgerError also where the damage shows only on the way."""
        rows = self._execute(sql, bound)
        try:
            for row in rows:  # noqa: UP028 - `yield from` would close the cursor, perhaps after its ledger
                yield row
        except sqlite3.Error as error:
            raise self._error(error) from error

    def trials(self) -> list[TrialRow]:
        """All trials, oldest first."""
        rows = self.select("SELECT key, time, config, seed, epochs, data, code FROM trials ORDER BY rowid")
        return [TrialRow(r[0], r[1], self._object(r[2], "trials", "config", r[0]), *r[3:]) for r in rows]

    def trial(self, key_prefix: str) -> TrialRow:
        """The one trial whose key starts with the prefix; LedgerError where there is none or more than one."""
        found = [t for t in self.trials() if t.key.startswith(key_prefix)]
        if len(found) != 1:
            raise LedgerError(f"{self.path}: {len(found)} trials have a key that starts with {key_prefix!r}")
        return found[0]

    def assignments(self) -> list[AssignmentRow]:
        columns = "id, cell, trials.key, assignments.key, arm, study, ordinal, purpose"
        found = []
        for number, cell, known, key, arm, study, ordinal, purpose in self.select(
            f"SELECT {columns} FROM assignments LEFT JOIN trials USING (key) ORDER BY id"
        ):
            if known is None:
                raise self._damaged("assignments", f"is of trial {key}, which table trials lacks", number)
            values = self._object(cell, "assignments", "cell", number)
            found.append(AssignmentRow(arm, values, study, ordinal, purpose, key))
        return found

    def epochs(self, key: str | None = None) -> list[EpochRow]:
        """Epochs of one trial or of all, by key and epoch."""
        where, bound = ("", ()) if key is None else ("WHERE key = ?", (key,))
        rows = self.select(f"SELECT key, epoch, time, metrics, timing FROM epochs {where} ORDER BY key, epoch", bound)
        return [
            EpochRow(
                key,
                epoch,
                at,
                self._object(metrics, "epochs", "metrics", key, epoch),
                self._object(timing, "epochs", "timing", key, epoch),
            )
            for key, epoch, at, metrics, timing in rows
        ]

    def events(self, key: str | None = None) -> list[EventRow]:
        """Events of one trial or of all (the sweep's own among them), in the order in which they happened."""
        where, bound = ("", ()) if key is None else ("WHERE key = ?", (key,))
        rows = self.select(f"SELECT id, time, key, kind, payload FROM events {where} ORDER BY id", bound)
        return [EventRow(r[0], r[1], r[2], r[3], self._object(r[4], "events", "payload", r[0])) for r in rows]

    def states(self) -> dict[str, str]:
        """Trial key → waiting | running | finished | pruned | diverged | failed."""
        with self.snapshot():
            states = {key: "waiting" for (key,) in self.select("SELECT key FROM trials ORDER BY rowid")}
            for number, key, kind in self.select("SELECT id, key, kind FROM events WHERE key IS NOT NULL ORDER BY id"):
                if key not in states:
                    raise self._damaged("events", f"is of trial {key}, which table trials lacks", number)
                states[key] = STATE_AFTER.get(kind, states[key])
        return states

    # -- SQLite -------------------------------------------------------------------------------------------------------

    def _insert(self, sql: str, row: tuple[Any, ...]) -> int:
        with self.transaction():
            return self._execute(sql, row).rowcount

    def _execute(self, sql: str, row: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, row)
        except sqlite3.DatabaseError as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> LedgerError:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:  # of Python, where text is no UTF-8
            return LedgerError(f"{self.path}: {error}; {remedy(self.path.parent)}")
        damaged = code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        return LedgerError(f"{self.path}: {error}" + ("; put back a copy of it" if damaged else ""))

    def _object(self, cell: Any, table: str, column: str, *row: object) -> dict[str, Any]:
        """A cell that holds a JSON object."""
        try:
            found = json.loads(cell)
        except (TypeError, ValueError) as error:
            raise self._damaged(table, f"{column} is not JSON ({error})", *row) from error
        if not isinstance(found, dict):
            raise self._damaged(table, f"{column} is no JSON object", *row)
        return found

    def _damaged(self, table: str, what: str, *row: object) -> LedgerError:
        where = ", ".join(map(str, row))
        return LedgerError(f"{self.path}: table {table}, row {where}: {what}; {remedy(self.path.parent)}")

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise LedgerError(f"{self.path}: {error}; nothing of this step was written") from error


def _open_for_writing(path: Path) -> sqlite3.Connection:
    db = _connect(f"{path.as_uri()}?mode=rwc", path)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if _schema_version(db, path) == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{path}: {error}") from error
    return db


def _open_read_only(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise LedgerError(f"{path}: there is no ledger here")
    # A WAL database needs its -shm file even for reading; where that cannot be made and no writer left a -wal,
    # the file cannot change under us and may be read as immutable.
    still = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    return _connect(f"{path.as_uri()}?mode=ro" + ("&immutable=1" if still else ""), path)


def _connect(uri: str, path: Path) -> sqlite3.Connection:
    try:
        # isolation_level None: transactions are begun and ended by `transaction` alone
        return sqlite3.connect(uri, uri=True, timeout=30.0, isolation_level=None, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise LedgerError(f"{path}: {error}") from error


def _schema_version(db: sqlite3.Connection, path: Path) -> int:
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{path}: {error}; put back a copy of it") from error


def _refuse_network_file_system(folder: Path) -> None:
    """SQLite's WAL needs shared memory, which network file systems do not give: a ledger there would be corrupted."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return  # not Linux: no table of mounts to ask
    inside = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    point, kind = max(inside, key=lambda mount: len(mount[0]), default=("", ""))
    if kind.startswith(_NETWORK_FILE_SYSTEMS):
        raise LedgerError(f"{folder} lies on {kind} ({point}): keep the sweep's folder on a local disk of the driver")
