"""One attempt at one trial, told as a stream of messages. Every executor runs trials through `attempt`, and hands
each message on through `hear`; where the attempt runs is all in which executors differ.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.search import Search
from lejepa.config import TrainConfig

if TYPE_CHECKING:
    from harness.trials import TrialSpec
    from lejepa.trainer import EpochReport


class Training(Protocol):
    """What a trial needs of lejepa.trainer.Trainer, and of whatever stands in for it."""

    reports: list[EpochReport]
    info: dict[str, Any]

    def load(self) -> bool: ...

    def __iter__(self) -> Iterator[EpochReport]: ...

    def test(self) -> dict[str, float]: ...


TrainerFactory = Callable[[TrainConfig, Path], Training]  # (config, folder of the trial's checkpoints) → trainer


@dataclass(frozen=True)
class Order:
    """What a worker must know of a trial. Plain values: it travels to other processes and machines as JSON."""

    key: str
    config: dict[str, Any]  # TrainConfig.model_dump(mode="json"), with the threads and the device that are granted
    checkpoints: str  # absolute folder: workers have a working directory of their own
    log: str  # absolute file
    reads_test: bool


@dataclass(frozen=True)
class Started:
    """The trainer stands, with what a checkpoint of an earlier attempt gave back."""

    restored: tuple[EpochReport, ...]
    info: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    state: str  # finished | diverged | failed
    payload: dict[str, Any]  # of the ledger's event of that name


if TYPE_CHECKING:  # the trainer's own type comes with torch, which only workers need
    Message = Started | EpochReport | Ended


class Listener(Protocol):
    """Hears of every trial on the driver, before the search does."""

    def started(self, trial: TrialSpec, epoch: int, info: dict[str, Any]) -> None:
        """An attempt has begun; `epoch` epochs came from a checkpoint."""

    def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
        """An epoch is there; False where it was known already."""

    def ended(self, trial: TrialSpec, state: str, payload: dict[str, Any]) -> None:
        """finished, pruned, diverged, failed; or interrupted, when an attempt ended and the trial can go on."""


def order(trial: TrialSpec, granted: TrainConfig, folder: Path) -> Order:
    """`granted`: the trial's config with the threads and the device of its place; `folder`: the sweep's."""
    folder = folder.absolute()
    checkpoints, log = folder / "checkpoints" / trial.key, folder / "logs" / f"{trial.key}.txt"
    return Order(trial.key, granted.model_dump(mode="json"), str(checkpoints), str(log), trial.reads_test)


def lejepa_trainer(config: TrainConfig, checkpoints: Path) -> Training:
    from lejepa.trainer import Trainer  # torch: only where something is trained

    return Trainer(config, checkpoints)


def attempt(order: Order, trainer: TrainerFactory) -> Generator[Message, None, None]:
    """Started, then every new EpochReport, then Ended. Goes on from the trial's own checkpoint where there is one."""
    from lejepa.trainer import Diverged

    try:
        training = trainer(TrainConfig.model_validate(order.config), Path(order.checkpoints))
        training.load()
        yield Started(tuple(training.reports), training.info)
        for report in training:
            if bad := [name for name, value in report.metrics.items() if not math.isfinite(value)]:
                reason = f"{bad[0]} is {report.metrics[bad[0]]}"
                yield Ended("diverged", {"epoch": report.epoch, "step": None, "reason": reason})
                return
            yield report
        yield Ended("finished", {"test": training.test() if order.reads_test else {}, "info": training.info})
    except Diverged as end:
        yield Ended("diverged", {"epoch": end.epoch, "step": end.step, "reason": end.reason})
    except Exception:  # whatever a trial raises ends that trial, never the sweep
        traceback.print_exc()
        yield Ended("failed", {"traceback": traceback.format_exc()})


def hear(trial: TrialSpec, message: Message, search: Search, listener: Listener) -> bool:
    """Hand a message on: to the listener, who makes it durable, then to the search. True: the attempt is over."""
    match message:
        case Started(restored, info):
            listener.started(trial, len(restored), info)
            return any(hear(trial, report, search, listener) for report in restored)
        case Ended(state, payload):
            listener.ended(trial, state, payload)
            search.ended(trial, state)
            return True
        case report:
            is_new = listener.epoch(trial, report)
            stop_early = is_new and search.observe(trial, report) and report.epoch < trial.length
            if stop_early:
                listener.ended(trial, "pruned", {"epoch": report.epoch})
                search.ended(trial, "pruned")
            return stop_early
