"""A sweep's folder: made whole or not at all, and opened by one driver at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.check import explain
from harness.ledger import Ledger, LedgerError
from harness.lock import LOCK, Locked, driving, outlast_orphans
from harness.pool import PoolError
from harness.record import record
from harness.resolved import read_spec
from harness.source import SpecError, read
from harness.spec import SweepSpec
from harness.trials import TrialSpec

DRIVER_DIED = "the driver died"  # reason of what a later driver writes for it
EXTENDED = "sweep_extended"  # the resolved file before and after, as text
MILESTONES = ("sweep_started", "sweep_resumed", "sweep_interrupted", "sweep_finished")


class RunError(Exception):
    """The sweep cannot be run, or cannot go on; the message says why, and what to do."""


class Refused(RunError):
    """Nothing was started, and what was there is as it was."""


@contextmanager
def made(
    folder: Path, spec: SweepSpec, environment: Mapping[str, Any], trials: Sequence[TrialSpec]
) -> Iterator[Ledger]:
    """A new folder in which all is written down that is decided before the first trial, under the driver's lock.

    It is made under another name and renamed: a driver that dies leaves a folder that can be resumed, or none. Raises
    Refused where it exists or cannot be made. A PoolError in the body takes the folder away again, if there is no epoch
    in it.
    """
    with ExitStack() as stack:
        try:
            if folder.exists():
                raise Refused(already_there(folder))
            making = folder.with_name(f".{folder.name}.new")
            making.mkdir(parents=True, exist_ok=True)
            stack.enter_context(driving(making))
            stack.enter_context(_gone_after(Exception, making))
            _write_down(making, spec, environment, trials)
            making.rename(folder)
            _sync(folder.parent)
            ledger = stack.enter_context(Ledger(folder / "ledger.db"))
        except (LedgerError, Locked, OSError) as error:
            raise Refused(str(error)) from error
        stack.enter_context(_gone_after(PoolError, folder, lambda: not ledger.epochs()))
        yield ledger


@contextmanager
def opened(folder: Path) -> Iterator[tuple[SweepSpec, Ledger]]:
    """A sweep that nobody drives any more, under the driver's lock and with its ledger in order.

    Outlasts what a dead driver has left running. Raises Refused where there is no sweep, or somebody drives it.
    """
    with ExitStack() as stack:
        try:
            spec = _spec_of(folder)
            Ledger.read(folder / "ledger.db").close()  # opening to write would make one
            stack.enter_context(driving(folder))
            outlast_orphans(folder)
            ledger = stack.enter_context(Ledger(folder / "ledger.db"))
            _settle(ledger)
            if _finish_extension(folder, ledger):
                spec = _spec_of(folder)
        except (SpecError, LedgerError, Locked, OSError) as error:
            raise Refused(str(error)) from error
        yield spec, ledger


def _spec_of(folder: Path) -> SweepSpec:
    """The resolved sweep. Raises LedgerError where there is none, SpecError where this version cannot read it."""
    raw, file = read_spec(folder), folder / "sweep.yaml"
    try:
        return SweepSpec.model_validate(raw)
    except ValidationError as error:
        _, places = read(file.read_text(encoding="utf-8"), str(file))
        raise SpecError(explain(error, SweepSpec, raw, places)) from None


@contextmanager
def _gone_after(kind: type[Exception], folder: Path, worthless: Callable[[], bool] = lambda: True) -> Iterator[None]:
    try:
        yield
    except kind:
        if worthless():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def already_there(folder: Path) -> str:
    return (
        f"{folder} exists: `harness report {folder}` builds its report again, `harness resume {folder}` goes on with "
        f"it; another `name` in the sweep file (or --set name=OTHER) makes a new one"
    )


def environment_of(folder: Path) -> dict[str, Any]:
    """What `environment.json` says; {} where it is not there."""
    try:
        known = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def milestone(ledger: Ledger) -> str:
    """The latest of the sweep's MILESTONES."""
    return next((event.kind for event in reversed(ledger.events()) if event.kind in MILESTONES), "sweep_started")


def is_over(ledger: Ledger) -> bool:
    """Finished, and no trial was added or queued again since."""
    kinds = [event.kind for event in ledger.events() if event.kind in (*MILESTONES, "requeued", EXTENDED)]
    return kinds[-1:] == ["sweep_finished"]


def _settle(ledger: Ledger) -> None:
    """Write what a driver that died could not: what it had running is interrupted, and so is the sweep."""
    with ledger.transaction():
        for key in (key for key, state in ledger.states().items() if state == "running"):
            ledger.add_event("interrupted", key, reason=DRIVER_DIED)
        if milestone(ledger) in ("sweep_started", "sweep_resumed"):
            ledger.add_event("sweep_interrupted", reason=DRIVER_DIED)


def replace_spec(folder: Path, text: str) -> None:
    """Another resolved file in the place of the one that is there, whole or not at all."""
    beside = folder / "sweep.yaml.new"
    _write(beside, text)
    beside.replace(folder / "sweep.yaml")
    _sync(folder)


def _finish_extension(folder: Path, ledger: Ledger) -> bool:
    """Whether a driver wrote an extension into the ledger and died before it had replaced the file."""
    extensions = [event.payload for event in ledger.events() if event.kind == EXTENDED]
    if not extensions or (folder / "sweep.yaml").read_text(encoding="utf-8") != extensions[-1]["before"]:
        return False
    replace_spec(folder, extensions[-1]["after"])
    return True


def _write_down(folder: Path, spec: SweepSpec, environment: Mapping[str, Any], trials: Sequence[TrialSpec]) -> None:
    """The spec, the surroundings, and which trial fills which place of the design."""
    for left in (path for path in folder.iterdir() if path.name != LOCK):  # of a driver that died here
        left.unlink()
    _write(folder / "sweep.yaml", spec.to_yaml())
    _write(folder / "environment.json", json.dumps(environment, indent=2) + "\n")
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        ledger.add_event("sweep_started", command=environment["command"], pid=os.getpid())
        record(ledger, trials)


def _write(path: Path, text: str) -> None:
    """Durably, so that after a power cut a folder that has its name has its content."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
