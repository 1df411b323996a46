"""The price of a sweep before it runs: how many trials and epochs, arm by arm, and how long where that is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.ledger import Ledger, LedgerError, canonical
from harness.spec import SweepSpec
from harness.trials import TrialSpec, enumerate_trials
from lejepa.config import WHERE, DataConfig


@dataclass(frozen=True)
class ArmPrice:
    arm: str
    encoder: str
    cells: int
    evidence: int  # trials that count as evidence: floors, seeds without nuisance, or confirm
    search: int  # trials that only search
    epochs: int  # at most: searches may be stopped early
    least: int  # epochs, where every search trial is stopped at the first rung


@dataclass(frozen=True)
class Price:
    arms: tuple[ArmPrice, ...]
    trials: int  # different trainings, at most: one that two arms share counts once
    epochs: int  # of these
    least: int  # epochs, where every search trial is stopped at the first rung
    exact: bool  # whether it can be less: early stopping, draws that repeat, tpe


def data_name(data: DataConfig) -> str:
    """Stands in for the fingerprint where no data are at hand: tells data sets apart, by their config alone."""
    return canonical(data.model_dump(mode="json", exclude=WHERE["data"]))


def price(spec: SweepSpec, trials: Sequence[TrialSpec]) -> Price:
    arms = tuple(_price_arm(spec, name, [t for t in trials if t.arm == name]) for name in spec.arms)
    unique = {trial.key: trial.length for trial in trials}
    shared = len(trials) - len(unique)
    shared_epochs = sum(trial.length for trial in trials) - sum(unique.values())
    searching = any(arm.nuisance for arm in spec.arms.values())
    return Price(
        arms,
        sum(arm.evidence + arm.search for arm in arms) - shared,
        sum(arm.epochs for arm in arms) - shared_epochs,
        sum(arm.least for arm in arms) - shared_epochs,
        exact=not searching or (spec.stopping is None and spec.search.sampler != "tpe" and spec.confirm is None),
    )


def _price_arm(spec: SweepSpec, name: str, listed: Sequence[TrialSpec]) -> ArmPrice:
    arm = spec.arms[name]
    cells = [cell for cell in spec.cells() if cell.arm == name]
    configs = [spec.config(cell, spec.seeds[0], spec.corners(cell)[0]) for cell in cells]
    encoders = ", ".join(dict.fromkeys(config.encoder.name for config in configs))
    if not arm.nuisance:
        epochs = sum(trial.length for trial in listed)
        return ArmPrice(name, encoders, len(cells), len(listed), 0, epochs, epochs)
    each = spec.search_size(cells[0])
    confirmed = spec.confirm.top * len(spec.confirm.seeds) if spec.confirm else 0
    epochs = sum((each + confirmed) * config.length for config in configs)
    saved = sum(each * (config.length - spec.stopping.grace) for config in configs) if spec.stopping else 0
    return ArmPrice(name, encoders, len(cells), confirmed * len(cells), each * len(cells), epochs, epochs - saved)


def plan(spec: SweepSpec) -> Price:
    """The price without reading any data."""
    return price(spec, enumerate_trials(spec, data_name))


def seconds_per_epoch(ledger: Path) -> float | None:
    """Mean seconds of an epoch in an earlier ledger of the sweep; None where there is none."""
    try:
        with Ledger.read(ledger) as earlier:
            seconds = [row.timing["seconds"] for row in earlier.epochs() if row.timing.get("seconds")]
    except LedgerError:
        return None
    return sum(seconds) / len(seconds) if seconds else None


def render(spec: SweepSpec, planned: Price, epoch_seconds: float | None) -> Any:
    """A rich renderable: the table of arms, the totals, and the time where it is known."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("arm", "encoder"):
        table.add_column(heading, overflow="fold")
    for heading in ("cells", "evidence", "search", "epochs"):
        table.add_column(heading, justify="right")
    for arm in planned.arms:
        counts = (arm.cells, arm.evidence, arm.search, arm.epochs)
        table.add_row(escape(arm.arm), escape(arm.encoder), *(f"{count:,}" for count in counts))
    most = "" if planned.exact else "at most "
    totals = f"{most}{planned.trials:,} trials, {planned.epochs:,} epochs; seeds {_seeds(spec)}"
    return Group(
        Text(f"{spec.name}: {spec.question}".rstrip(": ")),
        table,
        Text(totals),
        Text(_time(spec, planned, epoch_seconds)),
    )


def _seeds(spec: SweepSpec) -> str:
    evidence = ", ".join(map(str, spec.seeds))
    return f"{evidence}; confirm {', '.join(map(str, spec.confirm.seeds))}" if spec.confirm else evidence


def _time(spec: SweepSpec, planned: Price, epoch_seconds: float | None) -> str:
    if epoch_seconds is None:
        return "time unknown: no earlier ledger; give --step-time SECONDS_PER_EPOCH"
    seconds, at_once = planned.epochs * epoch_seconds, spec.pool.max_concurrent
    most = "" if planned.exact else "at most "
    training = f"{most}{_span(seconds)} of training at {epoch_seconds:.2g} s an epoch"
    return f"{training}; {_span(seconds / at_once)} with {at_once} at once"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
