"""What a plan comes to in time and on disk: device-hours, wall clock on the pools, checkpoints, ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import kept
from harness.budget import devices
from harness.ledger import Ledger, LedgerError, canonical
from harness.memory import sizes_of
from harness.mockup import weightless
from harness.pool import placement, visible_gpus
from harness.trials import code_hash
from lejepa.config import WHERE, TrainConfig

if TYPE_CHECKING:
    from harness.plan import CellPrice, Price
    from harness.spec import SweepSpec

_LEDGER_BYTES = 1700  # an epoch, with its share of all else: the most among the ledgers in docs/results
_KEPT = 2  # checkpoints of a trial


@dataclass(frozen=True)
class Speed:
    """Seconds of an epoch, and how they are known."""

    seconds: Callable[[CellPrice], float | None]  # None: not known of this cell
    source: str  # completes "time …"


@dataclass(frozen=True)
class Time:
    device_seconds: float  # training seconds × GPUs of a trial, or its CPUs without
    wall_clock: float  # seconds, with every place of the pools in use
    expected_device_seconds: float  # where early stopping does as expected
    expected_wall_clock: float
    least_device_seconds: float


def time_of(spec: SweepSpec, planned: Price, speed: Speed) -> Time | None:
    """None where the speed of a cell is not known."""
    where, found, at_once = placement(spec), defaultdict[str, Counter[str]](Counter), side_by_side(spec)
    for cell in planned.cells:
        seconds = speed.seconds(cell)
        if seconds is None:
            return None
        name = where.name_of(cell.config, cell.arm)
        for what in ("epochs", "expected", "least"):
            found[name][what] += getattr(cell, what) * seconds

    def on_devices(what: str) -> float:
        return sum(devices(where.pools[name]) * seconds[what] for name, seconds in found.items())

    def on_the_clock(what: str) -> float:
        pools = (seconds[what] / at_once[name] for name, seconds in found.items())
        return max(*pools, sum(seconds[what] for seconds in found.values()) / min(where.most, sum(at_once.values())))

    return Time(
        on_devices("epochs"),
        on_the_clock("epochs"),
        on_devices("expected"),
        on_the_clock("expected"),
        on_devices("least"),
    )


def side_by_side(spec: SweepSpec) -> dict[str, int]:
    """Pool → its trials at once: max_concurrent, or fewer where this machine runs them and has GPUs for fewer."""
    gpus = visible_gpus() if spec.cluster.address == "local" else 0
    return {
        name: max(1, min(pool.max_concurrent, int(gpus / pool.gpus))) if pool.gpus and gpus else pool.max_concurrent
        for name, pool in placement(spec).pools.items()
    }


def exceeded(spec: SweepSpec, planned: Price, time: Time | None, images: float | None) -> str:
    """Which limit the design cannot keep, at best; empty where it can, or where that is not known."""
    if spec.budget is None:
        return ""
    least = {"images": images, "device_seconds": time and time.least_device_seconds}
    if time and planned.exact:
        least["wall_clock"] = time.wall_clock
    for name, need in least.items():
        limit = getattr(spec.budget, name)
        if limit is not None and need is not None and need > limit:
            return f"budget.{name}: the design needs at least {need:,.0f}, not {limit:,.0f}; raise it or plan less"
    return ""


def least_images(planned: Price, images: Callable[[TrainConfig], int]) -> float | None:
    """Training images that the design sees at least; None where the data are not here."""
    from lejepa.data import DataError

    try:
        return sum(cell.least * images(cell.config) for cell in planned.cells)
    except DataError:
        return None


# -- how long an epoch takes -----------------------------------------------------------------------------------------


def given(seconds: float) -> Speed:
    return Speed(lambda cell: seconds, f"at {_short(seconds)} s an epoch")


def from_ledger(path: Path, spec: SweepSpec) -> Speed | None:
    """Mean seconds of the epochs that an earlier ledger has of equal trainings; None where there is none of any.

    Equal: all that decides how long an epoch takes, on a GPU or on as many threads. λ, rates and seeds do not.
    """
    try:
        with Ledger.read(path) as ledger:
            told = {event.key: event.payload.get("info", {}) for event in ledger.events() if event.kind == "started"}
            configs = {row.key: row.config for row in ledger.trials() if row.key in told}
            timed = [(row.key, row.timing["seconds"]) for row in ledger.epochs() if row.timing.get("seconds")]
    except LedgerError:
        return None
    kinds = dict[str, str]()
    for key, raw in configs.items():
        with suppress(ValueError, KeyError):  # of another version
            device = told[key]["device"]
            kinds[key] = _epoch(TrainConfig.model_validate(raw), None if device != "cpu" else told[key]["threads"])
    seconds = defaultdict[str, list[float]](list)
    for key, spent in timed:
        if key in kinds:
            seconds[kinds[key]].append(spent)
    where = placement(spec)

    def of(cell: CellPrice) -> float | None:
        pool = where.pool_of(cell.config, cell.arm)
        threads = None if pool.gpus else cell.config.threads or pool.cpus // pool.ranks
        found = seconds.get(_epoch(cell.config, threads))
        return sum(found) / len(found) if found else None

    if not seconds:
        return None
    every = [spent for found in seconds.values() for spent in found]
    return Speed(of, f"at {_short(sum(every) / len(every))} s an epoch, as in an earlier ledger of this sweep")


def _epoch(config: TrainConfig, threads: int | None) -> str:
    """What decides how long an epoch takes. threads: of torch; None: on a GPU."""
    data = config.data.model_dump(mode="json", exclude=WHERE["data"])
    return canonical([step(config), data, config.probe.model_dump(mode="json"), threads])


def _short(seconds: float) -> str:
    """To two digits, and never as a power of ten."""
    return f"{float(f'{seconds:.2g}'):,.15g}"


# -- disk -------------------------------------------------------------------------------------------------------------


def disk(planned: Price) -> int:
    """Bytes of all checkpoints and of the ledger, at most."""
    states = sum(cell.trials * _KEPT * state_bytes(cell.config) for cell in planned.cells)
    return states + planned.epochs * _LEDGER_BYTES


def state_bytes(config: TrainConfig) -> int:
    """A checkpoint: weights and buffers (twice where they are averaged), and the optimiser's state, in float32."""
    weights, buffers = numbers(config)
    if not weights:
        return 0
    moments = 2 if config.optimizer.name == "adamw" else 1
    return 4 * ((weights + buffers) * (1 if config.average is None else 2) + moments * weights)


def numbers(config: TrainConfig) -> tuple[int, int]:
    """Trained parameters, and all other numbers that a method keeps. Counted once, as that takes torch and seconds."""
    asked = _sizes(config)
    known = kept.read("weights", asked)
    trained, other = known.get("trained"), known.get("other")
    if type(trained) is not int or type(other) is not int:
        trained, other = _count(config)
        kept.write("weights", asked, trained=trained, other=other)
    return trained, other


def _sizes(config: TrainConfig) -> dict[str, Any]:
    """What the number of weights depends on: not λ, lr, seed or epochs."""
    same = {"encoder", "projector", "views", "batch_size"}
    return config.model_dump(mode="json", include=same) | {
        "method": sizes_of(config.method.model_dump(mode="json")),
        "size": config.data.size,
        "versions": [metadata.version(package) for package in ("torch", "timm")],
        "code": code_hash(),
    }


def _count(config: TrainConfig) -> tuple[int, int]:
    from lejepa.methods import build_method

    method = weightless(lambda: build_method(config, 3, 10))
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad) if method.trains else 0
    return trained, sum(t.numel() for t in method.state_dict().values()) - trained


def shapes(planned: Price) -> Iterator[tuple[str, CellPrice]]:
    """Cells by what decides how long a step takes."""
    for cell in planned.cells:
        yield step(cell.config), cell


def step(config: TrainConfig) -> str:
    """What decides how long a step takes."""
    method = {key: value for key, value in config.method.model_dump().items() if not isinstance(value, float)}
    parts = (method, config.encoder, config.projector, config.views, config.data.size)
    return "\n".join(map(repr, (*parts, config.batch_size, config.accumulate, config.precision, config.compile)))
