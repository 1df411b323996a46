"""`harness stop`: Ctrl-C from afar."""

import time
from pathlib import Path

import psutil

from harness.folder import Refused, is_over, milestone, opened
from harness.ledger import Ledger, LedgerError
from harness.lock import holder


def stop_sweep(folder: Path, patience: float = 300.0) -> str:
    """End a sweep's driver with SIGTERM and wait for it; what there is to say of it.

    Raises Refused where no sweep is, or the driver still has not ended after so many seconds.
    """
    try:
        Ledger.read(folder / "ledger.db").close()
    except LedgerError as error:
        raise Refused(str(error)) from error
    if (driver := holder(folder)) is None:
        return f"{folder}: {_undriven(folder)}"
    process = psutil.Process(driver.pid)
    if driver.lives:  # still the same process: psutil signals no other that takes the pid from here on
        process.terminate()
    until = time.monotonic() + patience
    while driver.lives and holder(folder) == driver:
        if time.monotonic() > until:
            raise Refused(f"{folder}: {driver} was told, and still ends its epoch after {patience:g} s")
        time.sleep(0.1)
    with opened(folder) as (_, ledger):  # in order also where the driver died before it could write its last words
        how = "has finished" if milestone(ledger) == "sweep_finished" else "is stopped"
    return f"{folder}: {how}; `harness resume {folder}` goes on" if how == "is stopped" else f"{folder}: {how}"


def _undriven(folder: Path) -> str:
    with Ledger.read(folder / "ledger.db") as ledger:
        over = is_over(ledger)
    if over:
        return "the sweep has finished; there is nothing to stop"
    return f"nobody drives it, so there is nothing to stop; `harness resume {folder}` goes on with it"
