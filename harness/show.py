"""One trial, all of it: why it ran, its config, its epochs, what happened to it."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.ledger import EpochRow, EventRow, Ledger, LedgerError
from harness.source import write


def find_trial(key: str, folder: Path) -> tuple[Path, str]:
    """(sweep folder, whole key) of the one trial whose key starts so, in a sweep's folder or in any below `folder`.

    Where several sweeps have it: the newest. Raises LedgerError where there is no such trial, or more than one.
    """
    return find_trials(key, folder)[0]


def find_trials(key: str, folder: Path) -> list[tuple[Path, str]]:
    """As `find_trial`, in every sweep that has it, the newest first. A ledger that cannot be read hides no other."""
    folders = (
        [folder] if (folder / "ledger.db").is_file() else sorted(path.parent for path in folder.glob("*/ledger.db"))
    )
    found, unread = list[tuple[Path, str]](), list[str]()
    for sweep in folders:
        try:
            found += [(sweep, trial) for trial in _keys(sweep) if trial.startswith(key)]
        except LedgerError as error:
            unread.append(str(error))
    if len({trial for _, trial in found}) > 1:
        shown = ", ".join(sorted({trial for _, trial in found})[:4])
        raise LedgerError(f"{key}: several trials start so ({shown}, …); give more of the key")
    if not found and unread:
        raise LedgerError(unread[0] if len(folders) == 1 else _not_found(key, folder, unread))
    if not found:
        raise LedgerError(f"{key}: no trial in {folder} has a key that starts so; see `harness status` or the report")
    return sorted(found, key=lambda hit: (hit[0] / "ledger.db").stat().st_mtime, reverse=True)


def _not_found(key: str, folder: Path, unread: list[str]) -> str:
    return f"{key}: no trial in {folder} that can be read has a key that starts so; not read: {'; '.join(unread)}"


def _keys(sweep: Path) -> list[str]:
    with Ledger.read(sweep / "ledger.db") as ledger:
        return [key for (key,) in ledger.select("SELECT key FROM trials ORDER BY rowid")]


def render(folder: Path, key: str) -> Any:
    """A rich renderable of one trial."""
    from rich.console import Group
    from rich.text import Text

    with Ledger.read(folder / "ledger.db") as ledger:
        trial, state = ledger.trial(key), ledger.states()[key]
        places = [row for row in ledger.assignments() if row.key == key]
        epochs, events = ledger.epochs(key), ledger.events(key)
    whys = [f"  {p.purpose} of arm {p.arm}, cell {p.cell}, study {p.study}, ordinal {p.ordinal}" for p in places]
    log = folder / "logs" / f"{key}.txt"
    parts: list[Any] = [
        Text(f"{key}  {state}, {len(epochs)} of {trial.epochs} epochs, seed {trial.seed}", style="bold"),
        Text(f"data {trial.data}, code {trial.code[:16]}, in {folder}"),
        Text("\nWhy it ran", style="bold"),
        Text("\n".join(whys)),
        Text("\nConfig", style="bold"),
        Text(write(trial.config).rstrip()),
        Text("\nEpochs", style="bold"),
        _table(epochs),
        Text("\nEvents", style="bold"),
        *(Text(line) for event in events for line in _event_lines(event)),
    ]
    return Group(*parts, *([Text(f"\nlog: {log}")] if log.is_file() else []))


def _table(epochs: list[EpochRow]) -> Any:
    from rich.table import Table

    names = sorted({name for row in epochs for name in row.metrics})
    table = Table(box=None, pad_edge=False)
    for heading in ("epoch", "seconds", *names):
        table.add_column(heading, justify="right")
    for row in epochs:
        values = [f"{row.metrics[name]:.4g}" if name in row.metrics else "" for name in names]
        table.add_row(str(row.epoch), f"{row.timing.get('seconds', float('nan')):.2f}", *values)
    return table


def _event_lines(event: EventRow) -> Iterator[str]:
    moment = datetime.fromtimestamp(event.time).astimezone().isoformat(sep=" ", timespec="seconds")
    details = {name: value for name, value in event.payload.items() if name not in ("traceback", "info")}
    yield f"  {moment}  {event.kind}  {', '.join(f'{name} {value}' for name, value in details.items())}".rstrip()
    if "traceback" in event.payload:
        yield str(event.payload["traceback"]).rstrip()
