"""The encoder of a trial, from its newest checkpoint, with what the ledger knows of it."""

from pathlib import Path
from typing import Any

from harness.ledger import Ledger
from harness.reuse import source_of
from harness.show import find_trials
from lejepa.export import export


def export_trial(key: str, folder: Path, out: Path) -> Path:
    """Write the encoder of the one trial whose key starts so into `out`; its test scores go with it, where it has any.

    folder: a sweep's, or one with sweeps in it. Of several that have the trial, the newest that has weights or took the
    trial from one that has. Raises LedgerError, CheckpointError, DataError, ExportError.
    """
    found = find_trials(key, folder)
    whole = found[0][1]
    held = [(sweep, weights) for sweep, _ in found if (weights := _weights(sweep, whole))]
    sweep, weights = held[0] if held else (found[0][0], found[0][0] / "checkpoints" / whole)
    with Ledger.read(sweep / "ledger.db") as ledger:
        root = ledger.trial(whole).config["data"].get("root")
    scores = _end(sweep, whole).get("test") or {}
    return export(weights, out, scores, None if root is None else Path(root))


def _weights(sweep: Path, key: str) -> Path | None:
    """The trial's checkpoints: beside the ledger, or beside that from which the trial was taken."""
    seen = set[Path]()
    while sweep not in seen and (sweep / "ledger.db").is_file():
        seen.add(sweep)
        folder = sweep / "checkpoints" / key
        if any(folder.glob("*.pt")):
            return folder
        if (reused := _end(sweep, key).get("reused")) is None:
            return None
        sweep = source_of(reused, sweep)
    return None


def _end(sweep: Path, key: str) -> dict[str, Any]:
    """Payload of the event with which the trial finished; {} where it has not."""
    with Ledger.read(sweep / "ledger.db") as ledger:
        ends = [event.payload for event in ledger.events(key) if event.kind == "finished"]
    return ends[-1] if ends else {}
