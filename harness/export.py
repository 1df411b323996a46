"""The encoder of a trial, from its newest checkpoint, with what the ledger knows of it."""

from pathlib import Path

from harness.ledger import Ledger
from harness.show import find_trial
from lejepa.export import export


def export_trial(key: str, folder: Path, out: Path) -> Path:
    """Write the encoder of the one trial whose key starts so into `out`; its test scores go with it, where it has any.

    folder: a sweep's, or one with sweeps in it. Raises LedgerError, CheckpointError, DataError, ExportError.
    """
    sweep, whole = find_trial(key, folder)
    with Ledger.read(sweep / "ledger.db") as ledger:
        root = ledger.trial(whole).config["data"].get("root")
        ends = [event.payload for event in ledger.events(whole) if event.kind == "finished"]
    scores = ends[-1]["test"] if ends else {}
    return export(sweep / "checkpoints" / whole, out, scores, None if root is None else Path(root))
