"""How a sweep stands, arm by arm, read from its ledger while it runs or after."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.ledger import ENDED, AssignmentRow, EpochRow, Ledger, LedgerError, TrialRow
from harness.lock import Holder, holder

STATES = ("finished", "pruned", "running", "waiting", "failed", "diverged")


@dataclass(frozen=True)
class ArmStatus:
    arm: str
    states: Mapping[str, int]  # trials by state
    best: float | None  # of the trials' last values of the metric
    best_cell: Mapping[str, Any]  # scientific values of that trial
    epochs: int  # spent


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
    eta: float | None  # seconds, from the mean epoch so far; None: nothing to go by
    last: float  # seconds since the ledger was last written
    event: str  # the sweep's latest own event
    driver: Holder | None  # as far as can be seen from this machine


def read_status(folder: Path, now: float | None = None) -> SweepStatus:
    """Raises LedgerError where the folder holds no sweep."""
    spec = read_spec(folder)
    with Ledger.read(folder / "ledger.db") as ledger:
        trials, assignments, states = ledger.trials(), ledger.assignments(), ledger.states()
        epochs, events = ledger.epochs(), ledger.events()
    by_key: dict[str, list[EpochRow]] = defaultdict(list)
    for row in epochs:
        by_key[row.key].append(row)
    metric, concurrent = spec["metric"], spec["pool"]["max_concurrent"]
    arms = [_arm_status(name, assignments, states, by_key, metric) for name in spec["arms"]]
    seconds = sum(row.timing.get("seconds", 0.0) for row in epochs)
    event = next((event.kind for event in reversed(events) if event.key is None), "not started")
    more_trials, more_epochs = (0, 0) if event == "sweep_finished" else _still_to_suggest(folder, trials)
    times = [event.time for event in events] + [row.time for row in epochs] + [trial.time for trial in trials]
    return SweepStatus(
        name=spec["name"],
        metric=metric["name"],
        arms=tuple(arms),
        states=Counter(states.values()),
        trials=len(trials) + more_trials,
        epochs=len(epochs),
        planned=sum(trial.epochs for trial in trials) + more_epochs,
        seconds=seconds,
        eta=_eta(trials, states, by_key, more_epochs, seconds, concurrent),
        last=(time.time() if now is None else now) - max(times, default=0.0),
        event=event,
        driver=holder(folder),
    )


def read_spec(folder: Path) -> dict[str, Any]:
    """The resolved sweep.yaml of a folder. Raises LedgerError where there is none."""
    try:
        spec = yaml.safe_load((folder / "sweep.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LedgerError(f"{folder}: holds no sweep ({error}); name the folder of one, such as runs/NAME") from None
    if not isinstance(spec, dict) or not {"name", "arms", "metric", "pool"} <= spec.keys():
        raise LedgerError(f"{folder / 'sweep.yaml'}: is no resolved sweep; name the folder of one, such as runs/NAME")
    return spec


def _still_to_suggest(folder: Path, listed: Sequence[TrialRow]) -> tuple[int, int]:
    """Trials and epochs, at most, that are in the plan and not in the ledger yet: searches ask as they go."""
    from harness.plan import plan
    from harness.spec import SpecError, load_sweep

    try:
        planned = plan(load_sweep(folder / "sweep.yaml"))
    except SpecError:
        return 0, 0  # a spec of another version: what is listed is all that is known
    if planned.exact:  # all was listed before the first trial began
        return 0, 0
    return max(0, planned.trials - len(listed)), max(0, planned.epochs - sum(trial.epochs for trial in listed))


def _arm_status(
    name: str,
    assignments: Sequence[AssignmentRow],
    states: Mapping[str, str],
    epochs: Mapping[str, Sequence[EpochRow]],
    metric: Mapping[str, str],
) -> ArmStatus:
    mine = {row.key: row.cell for row in assignments if row.arm == name}
    last = {key: value for key in mine if (value := _last(epochs.get(key, ()), metric["name"])) is not None}
    best = (max if metric["mode"] == "max" else min)(last, key=last.__getitem__, default=None)
    return ArmStatus(
        name,
        Counter(states[key] for key in mine),
        None if best is None else last[best],
        {} if best is None else mine[best],
        sum(len(epochs.get(key, ())) for key in mine),
    )


def _last(rows: Sequence[EpochRow], metric: str) -> float | None:
    return next((row.metrics[metric] for row in reversed(rows) if metric in row.metrics), None)


def _eta(
    trials: Sequence[TrialRow],
    states: Mapping[str, str],
    epochs: Mapping[str, Sequence[EpochRow]],
    unlisted: int,
    seconds: float,
    concurrent: int,
) -> float | None:
    left = unlisted + sum(
        trial.epochs - len(epochs.get(trial.key, ())) for trial in trials if states[trial.key] not in ENDED
    )
    spent = sum(map(len, epochs.values()))
    if left == 0:
        return 0.0
    return left * seconds / spent / concurrent if spent else None


def render(status: SweepStatus) -> Any:
    """A rich renderable: the arms' table and one line for the sweep."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    shown = [state for state in STATES if status.states.get(state) or state in ("finished", "running", "waiting")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm", overflow="fold")
    for heading in (*shown, "epochs", f"best {status.metric}"):
        table.add_column(heading, justify="right")
    table.add_column("at", overflow="fold")
    for arm in status.arms:
        counts = [str(arm.states.get(state, 0)) for state in shown]
        best = "–" if arm.best is None else f"{arm.best:.4g}"
        at = ", ".join(f"{path} {value}" for path, value in arm.best_cell.items())
        table.add_row(escape(arm.arm), *counts, f"{arm.epochs:,}", best, escape(at))
    return Group(table, Text(_line(status)))


def _line(status: SweepStatus) -> str:
    ended = sum(count for state, count in status.states.items() if state in ENDED)
    at_most = "at most " if status.trials > sum(status.states.values()) else ""
    parts = [
        f"{status.name}: {ended} of {at_most}{status.trials} trials ended",
        f"{status.epochs:,} of {at_most}{status.planned:,} epochs",
        f"{status.seconds:,.0f} s of training spent",
    ]
    if status.eta:
        parts.append(f"about {status.eta / 60:.1f} min left")
    driver = f"driven by {status.driver}" if status.driver else "no driver runs here"
    event = status.event.replace("_", " ")
    return f"{', '.join(parts)}; {event}, last written {status.last:,.0f} s ago; {driver}"
