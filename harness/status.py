"""How a sweep stands, arm by arm, read from its ledger while it runs or after. Takes no lock, and writes nothing."""

import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.ledger import ENDED, AssignmentRow, EpochRow, EventRow, Ledger, TrialRow
from harness.lock import Holder, holder
from harness.losses import lost
from harness.resolved import read_spec
from harness.search_config import Metric
from harness.selecting import lambda_of, worth
from lejepa.config import FLOORS

if TYPE_CHECKING:
    from rich.console import Console

STATES = ("finished", "pruned", "running", "waiting", "failed", "diverged")
OVER = ("sweep_finished", "sweep_interrupted")


@dataclass(frozen=True)
class ArmStatus:
    arm: str
    states: Mapping[str, int]  # trials by state
    collapsed: int  # of those that have finished
    best: float | None  # of the trials' last values of the metric
    best_cell: Mapping[str, Any]  # scientific values of that trial
    epochs: int  # spent
    seconds: float  # spent in epochs


@dataclass(frozen=True)
class SweepStatus:
    name: str
    metric: str
    arms: tuple[ArmStatus, ...]
    states: Mapping[str, int]  # of all trials, each once
    trials: int  # at most: those that are listed, and those that a search may still suggest
    epochs: int  # spent
    planned: int  # epochs of these trials
    seconds: float  # spent in epochs
    devices: float | None  # of a trial: GPUs, cores where there are none; None: its pools differ
    slots: int  # the most trials that have run at once since the driver began
    utilisation: float | None  # busy trial seconds / (slots × seconds since the driver began); None: no driver yet
    eta: float | None  # seconds, from the mean epoch so far; None: nothing to go by
    last: float  # seconds since the ledger was last written
    event: str  # the sweep's latest own milestone
    latest: str  # the ledger's latest event
    driver: Holder | None  # as far as can be seen from this machine
    lost: tuple[str, ...] = ()  # what the ledger should have and has not, in words

    @property
    def over(self) -> bool:
        """Whether nothing more will happen, unless somebody resumes it."""
        return self.event in OVER or self.driver is None


def read_status(folder: Path, now: float | None = None) -> SweepStatus:
    """Raises LedgerError where the folder holds no sweep."""
    spec, now = read_spec(folder), time.time() if now is None else now
    with Ledger.read(folder / "ledger.db") as ledger, ledger.snapshot():
        missing, trials, assignments, states = lost(ledger), ledger.trials(), ledger.assignments(), ledger.states()
        epochs, events = ledger.epochs(), ledger.events()
    by_key: dict[str, list[EpochRow]] = defaultdict(list)
    for row in epochs:
        by_key[row.key].append(row)
    metric = Metric.model_validate(spec["metric"])
    by_trial = {trial.key: trial for trial in trials}
    arms = [_arm_status(name, assignments, states, by_key, by_trial, metric) for name in spec["arms"]]
    seconds = _seconds(epochs)
    event = next((event.kind for event in reversed(events) if event.kind.startswith("sweep_")), "not started")
    more_trials, more_epochs = (0, 0) if event == "sweep_finished" else _still_to_suggest(folder, trials)
    times = [event.time for event in events] + [row.time for row in epochs] + [trial.time for trial in trials]
    driver, written = holder(folder), max(times, default=0.0)
    until = now if driver and event not in OVER else written
    slots, utilisation = _utilisation(events, spec["pool"]["max_concurrent"], until)
    return SweepStatus(
        name=spec["name"],
        metric=metric.name,
        arms=tuple(arms),
        states=Counter(states.values()),
        trials=len(trials) + more_trials,
        epochs=len(epochs),
        planned=sum(trial.epochs for trial in trials) + more_epochs,
        seconds=seconds,
        devices=None if spec.get("pools") else float(spec["pool"].get("gpus") or spec["pool"].get("cpus", 1)),
        slots=slots,
        utilisation=utilisation,
        eta=_eta(trials, states, by_key, more_epochs, seconds, slots),
        last=now - written,
        event=event,
        latest=_told(events[-1]) if events else "nothing yet",
        driver=driver,
        lost=tuple(missing),
    )


def _still_to_suggest(folder: Path, listed: Sequence[TrialRow]) -> tuple[int, int]:
    """Trials and epochs, at most, that are in the plan and not in the ledger yet: searches ask as they go."""
    file = folder / "sweep.yaml"
    if (most := _most(file, file.stat().st_mtime_ns)) is None:  # all was listed before the first trial began
        return 0, 0
    trials, epochs = most
    return max(0, trials - len(listed)), max(0, epochs - sum(trial.epochs for trial in listed))


@lru_cache(maxsize=1)
def _most(file: Path, written: int) -> tuple[int, int] | None:
    """Trials and epochs of the plan, counted again where the file was written again; None where they are no bound."""
    from harness.plan import plan
    from harness.spec import SpecError, load_sweep

    try:
        planned = plan(load_sweep(file))
    except SpecError:
        return None  # of another version: what is listed is all that is known
    return None if planned.exact else (planned.trials, planned.epochs)


def _arm_status(
    name: str,
    assignments: Sequence[AssignmentRow],
    states: Mapping[str, str],
    epochs: Mapping[str, Sequence[EpochRow]],
    trials: Mapping[str, TrialRow],
    metric: Metric,
) -> ArmStatus:
    mine = {row.key: row.cell for row in assignments if row.arm == name}
    rows = {key: epochs.get(key, ()) for key in mine}
    values = {key: _last(rows[key], metric, trials[key].config) for key in mine}
    last = {key: value for key, value in values.items() if value is not None and math.isfinite(value)}
    best = (max if metric.mode == "max" else min)(last, key=last.__getitem__, default=None)
    ended = [key for key in mine if states[key] == "finished" and trials[key].config["method"]["name"] not in FLOORS]
    return ArmStatus(
        name,
        Counter(states[key] for key in mine),
        sum(_collapsed(rows[key]) for key in ended),
        None if best is None else last[best],
        {} if best is None else mine[best],
        sum(map(len, rows.values())),
        sum(map(_seconds, rows.values())),
    )


def _last(rows: Sequence[EpochRow], metric: Metric, config: Mapping[str, Any]) -> float | None:
    lamb = lambda_of(config) if metric.label_free else 0.0
    return next((value for row in reversed(rows) if (value := worth(metric, row.metrics, lamb)) is not None), None)


def _collapsed(rows: Sequence[EpochRow]) -> bool:
    flags = (row.metrics["diag/collapsed"] for row in reversed(rows) if "diag/collapsed" in row.metrics)
    return bool(next(flags, 0.0))


def _seconds(rows: Sequence[EpochRow]) -> float:
    return sum(row.timing.get("seconds", 0.0) for row in rows)


def _utilisation(events: Sequence[EventRow], most: int, until: float) -> tuple[int, float | None]:
    """Of the driver that drives or drove last: its slots, as many as it has used at once, and the share of them in
    which a trial ran, until then. Of what the pool may hold at `most`, GPUs, memory or the executor may allow fewer.
    """
    began = max((event.time for event in events if event.kind in ("sweep_started", "sweep_resumed")), default=until)
    if until <= began:
        return 1, None
    slots, busy, since = 1, 0.0, dict[str, float]()
    for event in events:
        if event.key is None or event.time < began:
            continue
        if event.kind == "started":
            since[event.key] = event.time
            slots = max(slots, min(most, len(since)))
        elif event.kind in ENDED or event.kind == "interrupted":
            busy += event.time - since.pop(event.key, event.time)
    return slots, (busy + sum(until - start for start in since.values())) / (slots * (until - began))


def _told(event: EventRow) -> str:
    text = event.payload.get("text") or event.payload.get("reason") or ""
    said = event.kind.replace("_", " ") + (f": {' '.join(str(text).split())[:100]}" if text else "")
    return f"{event.key[:8]} {said}" if event.key else said


def _eta(
    trials: Sequence[TrialRow],
    states: Mapping[str, str],
    epochs: Mapping[str, Sequence[EpochRow]],
    unlisted: int,
    seconds: float,
    slots: int,
) -> float | None:
    left = unlisted + sum(
        trial.epochs - len(epochs.get(trial.key, ())) for trial in trials if states[trial.key] not in ENDED
    )
    spent = sum(map(len, epochs.values()))
    if left == 0:
        return 0.0
    return left * seconds / spent / slots if spent else None


def watch(folder: Path, every: float = 2.0, console: "Console | None" = None) -> None:
    """Draw the status again every so many seconds until the sweep is over. Raises LedgerError."""
    from rich.console import Console
    from rich.live import Live

    # a pipe has no width to fold tables to
    console = console or Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            status = read_status(folder)
            live.update(render(status), refresh=True)
            if status.over:
                return
            time.sleep(every)


def render(status: SweepStatus) -> Any:
    """A rich renderable: the arms' table, two lines for the sweep, and one for what its ledger has lost."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    shown = [state for state in STATES if status.states.get(state) or state in ("finished", "running", "waiting")]
    collapsed = ["collapsed"] if any(arm.collapsed for arm in status.arms) else []
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm", overflow="fold")
    unit = "trial-s" if status.devices is None else "device-s"
    for heading in (*shown, *collapsed, "epochs", unit, f"best {status.metric}"):
        table.add_column(heading, justify="right")
    table.add_column("at", overflow="fold")
    for arm in status.arms:
        counts = [str(arm.states.get(state, 0)) for state in shown] + [str(arm.collapsed) for _ in collapsed]
        best = "–" if arm.best is None else f"{arm.best:.4g}"
        at = ", ".join(f"{path} {value}" for path, value in arm.best_cell.items())
        spent = [f"{arm.epochs:,}", f"{arm.seconds * (status.devices or 1):,.0f}"]
        table.add_row(escape(arm.arm), *counts, *spent, best, escape(at))
    note = [Text("collapsed: of those that have finished")] if collapsed else []
    missing = [Text(f"rows of the ledger are lost: {'; '.join(status.lost)}", style="red")] if status.lost else []
    return Group(table, *note, Text(_line(status)), Text(_driver_line(status)), *missing)


def _line(status: SweepStatus) -> str:
    ended = sum(count for state, count in status.states.items() if state in ENDED)
    at_most = "at most " if status.trials > sum(status.states.values()) else ""
    parts = [
        f"{status.name}: {ended} of {at_most}{status.trials} trials ended",
        f"{status.epochs:,} of {at_most}{status.planned:,} epochs",
        f"{status.seconds:,.0f} s of training spent",
    ]
    if status.devices not in (None, 1):
        parts.append(f"{status.seconds * (status.devices or 1):,.0f} device-seconds")
    if status.utilisation is not None:
        slots = "1 slot" if status.slots == 1 else f"{status.slots} slots"
        parts.append(f"{slots} {status.utilisation:.0%} busy")
    if status.eta and status.event not in OVER:
        parts.append(f"about {status.eta / 60:.1f} min left")
    return f"{', '.join(parts)}; {status.event.replace('_', ' ')}"


def _driver_line(status: SweepStatus) -> str:
    driver = f"driven by {status.driver}" if status.driver else "no driver runs here"
    return f"{driver}; last written {status.last:,.0f} s ago: {status.latest}"
