"""A report that follows a sweep while it runs."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.ledger import Ledger
from reports.load import LoadError
from reports.render.files import write_page
from reports.report import Report, build

_ENDS = ("sweep_finished", "sweep_interrupted")
_POLL = 0.5  # seconds between looks at the ledger's files


def watch(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    every: float = 15.0,
    driven: Callable[[], bool] = lambda: True,
    told: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Build the report whenever the ledger has changed, at most once in `every` seconds, until the sweep has ended.

    While it follows, the page loads itself again after `every` seconds; the last page does not. `driven` says whether
    anybody still writes the ledger, `told` hears of every build. Ctrl-C ends it with the report as it last was.
    Raises LoadError where the folder is no sweep's, harness.ledger.LedgerError where its ledger cannot be read.
    """
    folder = Path(folder)
    if not (folder / "ledger.db").is_file():
        raise LoadError(f"{folder}: there is no ledger.db here; name the folder of a sweep, such as runs/quickstart")
    report: Report | None = None
    try:
        while True:
            ended = _ended(folder) or not driven()  # asked first: what is read afterwards is then complete
            seen = _stamp(folder)
            report = build(folder, out, refresh=None if ended else every)
            told(report)
            if ended:
                return report
            _wait(folder, every, seen, driven)
    except KeyboardInterrupt:
        if report is None:
            raise
        return _still(report)


def _wait(folder: Path, seconds: float, seen: object, driven: Callable[[], bool]) -> None:
    """At least `seconds`, then until something was written, or nobody is left to write."""
    time.sleep(seconds)
    while _stamp(folder) == seen and driven():
        time.sleep(min(_POLL, seconds))


def _stamp(folder: Path) -> tuple[tuple[int, int], ...]:
    """Size and time of the ledger and of its write-ahead log: one of them changes with every commit."""
    found = []
    for name in ("ledger.db", "ledger.db-wal"):
        try:
            status = (folder / name).stat()
        except FileNotFoundError:  # a log exists only while somebody writes
            continue
        found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)


def _ended(folder: Path) -> bool:
    with Ledger.read(folder / "ledger.db") as ledger:
        own = [event.kind for event in ledger.events() if event.key is None and event.kind.startswith("sweep_")]
    return bool(own) and own[-1] in _ENDS


def _still(report: Report) -> Report:
    """The same report, its page no longer loading itself again."""
    document = replace(report.document, refresh=None)
    write_page(document, report.html)
    return replace(report, document=document)
