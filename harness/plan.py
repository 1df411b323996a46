"""The price of a sweep before it runs: how many trials and epochs, arm by arm, and how long where that is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.costs import Speed, side_by_side, time_of
from harness.fairness import unequal
from harness.ledger import canonical
from harness.pool import placement, visible_gpus
from harness.search_config import Stopping
from harness.spec import Cell, SweepSpec
from harness.trials import TrialSpec, enumerate_trials
from lejepa.config import WHERE, DataConfig, TrainConfig


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
class CellPrice:
    arm: str
    config: TrainConfig  # of one of its trials
    evidence: int
    search: int
    epochs: int  # at most
    expected: float  # where early stopping keeps 1/reduction at every rung
    least: int

    @property
    def trials(self) -> int:
        return self.evidence + self.search


@dataclass(frozen=True)
class Price:
    arms: tuple[ArmPrice, ...]
    cells: tuple[CellPrice, ...]  # in these, trials that two cells share count twice
    trials: int  # different trainings, at most: one that two arms share counts once
    epochs: int  # of these
    least: int  # epochs, where every search trial is stopped at the first rung
    exact: bool  # whether it can be less: early stopping, draws that repeat, tpe


def data_name(data: DataConfig) -> str:
    """Stands in for the fingerprint where no data are at hand: tells data sets apart, by their config alone."""
    return canonical(data.model_dump(mode="json", exclude=WHERE["data"]))


def price(spec: SweepSpec, trials: Sequence[TrialSpec]) -> Price:
    cells = tuple(_price_cell(spec, cell) for cell in spec.cells())
    arms = tuple(_price_arm(name, [cell for cell in cells if cell.arm == name]) for name in spec.arms)
    unique = {trial.key: trial.length for trial in trials}
    shared = len(trials) - len(unique)
    shared_epochs = sum(trial.length for trial in trials) - sum(unique.values())
    searching = any(arm.nuisance for arm in spec.arms.values())
    return Price(
        arms,
        cells,
        sum(arm.evidence + arm.search for arm in arms) - shared,
        sum(arm.epochs for arm in arms) - shared_epochs,
        sum(arm.least for arm in arms) - shared_epochs,
        exact=not searching or (spec.stopping is None and spec.search.sampler != "tpe" and spec.confirm is None),
    )


def _price_cell(spec: SweepSpec, cell: Cell) -> CellPrice:
    config, search = spec.config(cell, spec.seeds[0], spec.corners(cell)[0]), spec.search_size(cell)
    if not search:
        epochs = len(spec.seeds) * config.length
        return CellPrice(cell.arm, config, len(spec.seeds), 0, epochs, epochs, epochs)
    evidence = spec.confirm.top * len(spec.confirm.seeds) if spec.confirm else 0
    expected, least = (expected_epochs(spec.stopping, config.length), spec.stopping.grace) if spec.stopping else (
        config.length, config.length
    )  # fmt: skip
    confirmed = evidence * config.length
    return CellPrice(
        cell.arm,
        config,
        evidence,
        search,
        confirmed + search * config.length,
        confirmed + search * expected,
        confirmed + search * least,
    )


def expected_epochs(stopping: Stopping, length: int) -> float:
    """Epochs of a search trial, if of those that reach a rung one in `reduction` goes on, and the last ones end."""
    rung, alive, total = stopping.grace, 1.0, float(min(stopping.grace, length))
    while rung < length:
        alive /= stopping.reduction
        after = min(rung * stopping.reduction, length)
        total += alive * (after - rung)
        rung = after
    return total


def _price_arm(name: str, cells: Sequence[CellPrice]) -> ArmPrice:
    return ArmPrice(
        name,
        ", ".join(dict.fromkeys(cell.config.encoder.name for cell in cells)),
        len(cells),
        sum(cell.evidence for cell in cells),
        sum(cell.search for cell in cells),
        sum(cell.epochs for cell in cells),
        sum(cell.least for cell in cells),
    )


def plan(spec: SweepSpec) -> Price:
    """The price without reading any data."""
    return price(spec, enumerate_trials(spec, data_name))


def render(
    spec: SweepSpec, planned: Price, speed: Speed | None, measured: Sequence[str] = (), disk: int | None = None
) -> Any:
    """A rich renderable: the table of arms, the totals, the time where it is known, and bytes of disk.

    measured: lines of a calibration.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("arm", "encoder"):
        table.add_column(heading, overflow="fold")
    for heading in ("cells", "evidence", "search", "a cell", "epochs"):
        table.add_column(heading, justify="right")
    for arm in planned.arms:
        counts = [f"{count:,}" for count in (arm.cells, arm.evidence, arm.search)]
        each = sorted({cell.trials for cell in planned.cells if cell.arm == arm.arm})
        a_cell = f"{each[0]:,}" if len(each) == 1 else f"{each[0]:,}–{each[-1]:,}"
        table.add_row(escape(arm.arm), escape(arm.encoder), *counts, a_cell, f"{arm.epochs:,}")
    most = "" if planned.exact else "at most "
    totals = f"{most}{planned.trials:,} trials, {planned.epochs:,} epochs; seeds {_seeds(spec)}"
    lines = [totals, *_saved(spec, planned), *measured, _time(spec, planned, speed)]
    if disk is not None:
        lines.append(f"at most {disk / 2**20:,.0f} MiB of disk, two checkpoints a trial and the ledger")
    lines += unequal(spec, planned)
    return Group(Text(f"{spec.name}: {spec.question}".rstrip(": ")), table, *map(Text, lines))


def _seeds(spec: SweepSpec) -> str:
    evidence = ", ".join(map(str, spec.seeds))
    return f"{evidence}; confirm {', '.join(map(str, spec.confirm.seeds))}" if spec.confirm else evidence


def _saved(spec: SweepSpec, planned: Price) -> list[str]:
    if spec.stopping is None:
        return []
    expected = sum(cell.expected for cell in planned.cells)
    share = 100 * expected / sum(cell.epochs for cell in planned.cells)
    return [
        f"about {expected:,.0f} epochs ({share:.0f} %) if one in {spec.stopping.reduction} goes on at every rung; "
        f"the first trials, with few to beat, go on more often"
    ]


def _time(spec: SweepSpec, planned: Price, speed: Speed | None) -> str:
    if speed is None:
        return "time unknown: no earlier ledger; add --calibrate, or give --step-time SECONDS_PER_EPOCH"
    time = time_of(spec, planned, speed)
    if time is None:
        return "time unknown of some trainings: give --step-time SECONDS_PER_EPOCH, or try --calibrate"
    kind = "GPU" if any(pool.gpus for pool in placement(spec).pools.values()) else "CPU"
    most = "" if planned.exact else "at most "
    hours = f"{most}{_held(time.device_seconds, kind)} {speed.source}"
    pools = placement(spec).pools
    at_once = min(spec.pool.max_concurrent, sum(side_by_side(spec).values()))
    clock = f"{_span(time.wall_clock)} on the clock with {at_once} at once"
    if any(pool.gpus for pool in pools.values()) and spec.cluster.address == "local" and not visible_gpus():
        clock += ", where there are GPUs for so many"
    if spec.stopping is None:
        return f"{hours}; {clock}"
    expected = f"as stopping is expected to go {_held(time.expected_device_seconds, kind)}"
    return f"{hours}; {clock}; {expected}, {_span(time.expected_wall_clock)} on the clock"


def _held(seconds: float, kind: str) -> str:
    return f"{seconds:,.0f} {kind} seconds" if seconds < 360 else f"{seconds / 3600:,.3g} {kind} hours"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
