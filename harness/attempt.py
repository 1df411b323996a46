"""One attempt at one trial, told as a stream of messages. Every executor runs trials through `attempt`, and hands
each message on through `hear`; where the attempt runs is all in which executors differ.
"""

from __future__ import annotations

import errno
import math
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.lock import training as sole_worker
from harness.memory import REMEDY, larger_part, limit, out_of_memory
from harness.search import Search
from harness.team import team
from lejepa.allocator import give_back
from lejepa.config import FLOORS, TrainConfig

if TYPE_CHECKING:
    from harness.trials import TrialSpec
    from lejepa.trainer import EpochReport


class Training(Protocol):
    """What a trial needs of lejepa.trainer.Trainer, and of whatever stands in for it."""

    config: TrainConfig  # as its checkpoints have it
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
    ranks: int = 1  # processes that share each batch
    gpus: float = 0.0  # GPUs that are granted; of a fraction, no more memory is taken than that
    finer: int = 1  # times as many parts as config.accumulate says, in which a batch goes through the encoder


@dataclass(frozen=True)
class Started:
    """The trainer stands, with what a checkpoint of an earlier attempt gave back."""

    restored: tuple[EpochReport, ...]
    info: dict[str, Any]


@dataclass(frozen=True)
class Noted:
    """Something that whoever reads the trial's record should know."""

    text: str


@dataclass(frozen=True)
class Ended:
    state: str  # finished | diverged | failed; or interrupted: the disk is full, no trial can go on here
    payload: dict[str, Any]  # of the ledger's event of that name


@dataclass(frozen=True)
class Cramped:
    """The attempt is over, as the trial's part of a GPU is too small; with a larger one it goes on where it was."""

    reason: str
    gpus: float  # that it asks for


class DiskFull(Exception):
    """A worker could not keep its state. Every other trial would meet the same, so the sweep stops."""


class NodesLost(Exception):
    """Ray has no node left that is alive: nothing can be trained until the sweep is resumed."""


class OutOfMemory(Exception):
    """A trial does not fit where it ran, also not with its batches in finer parts; the message says what to change."""


class Uncuttable(Exception):
    """A trial's batches must go through the encoder whole; the message says why."""


if TYPE_CHECKING:  # the trainer's own type comes with torch, which only workers need
    Message = Started | Noted | EpochReport | Ended | Cramped


class Listener(Protocol):
    """Hears of every trial on the driver, before the search does."""

    def started(self, trial: TrialSpec, epoch: int, info: dict[str, Any]) -> None:
        """An attempt has begun; `epoch` epochs came from a checkpoint."""

    def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
        """An epoch is there; False where it was known already."""

    def noted(self, trial: TrialSpec, text: str) -> None:
        """Something to be remembered with the trial."""

    def ended(self, trial: TrialSpec, state: str, payload: dict[str, Any]) -> None:
        """finished, pruned, diverged, failed; or interrupted, when an attempt ended and the trial can go on."""


def order(trial: TrialSpec, granted: TrainConfig, ranks: int, folder: Path, gpus: float = 0.0) -> Order:
    """`granted`: the trial's config with the threads and the device of its place; `gpus`: of its place; `folder`: the
    sweep's.
    """
    folder = folder.absolute()
    checkpoints, log = folder / "checkpoints" / trial.key, folder / "logs" / f"{trial.key}.txt"
    return Order(trial.key, granted.model_dump(mode="json"), str(checkpoints), str(log), trial.reads_test, ranks, gpus)


def lejepa_trainer(config: TrainConfig, checkpoints: Path) -> Training:
    from lejepa.trainer import Trainer  # torch: only where something is trained

    return Trainer(config, checkpoints)


def attempt(order: Order, trainer: TrainerFactory) -> Generator[Message, None, None]:
    """Started, then every new EpochReport, then Ended or Cramped; Noted comes where there is something to say.

    Goes on from the trial's own checkpoint where there is one.
    """
    from lejepa.trainer import Diverged

    try:
        if order.gpus and order.config["device"] != "cpu":
            limit(order.gpus)
        with sole_worker(Path(order.log)):
            end: Ended | Cramped = yield from _within_memory(order, trainer)
    except Diverged as error:
        end = Ended("diverged", {"epoch": error.epoch, "step": error.step, "reason": error.reason})
    except OutOfMemory as error:
        traceback.print_exc()
        end = Ended("failed", {"reason": str(error), "traceback": traceback.format_exc()})
    except Exception as error:  # whatever a trial raises ends that trial, never the sweep
        traceback.print_exc()
        end = Ended("failed", {"traceback": traceback.format_exc()})
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            end = Ended("interrupted", {"reason": f"no room to keep the trial's state: {error}"})
    yield end


def _within_memory(order: Order, trainer: TrainerFactory) -> Generator[Message, None, Ended | Cramped]:
    """The training. Where memory runs out: on a part of a GPU a request for a larger part, which leaves the numbers as
    they are; else once more, with each batch in twice as many parts. Raises OutOfMemory.
    """
    try:
        with team(order):
            return (yield from _train(order, trainer))
    except Exception as error:
        if not out_of_memory(error):
            raise
        traceback.print_exc()
        first = f"out of memory ({_first_line(error)}), {_peak(order)}"
    give_back()  # the error is gone, and with it the frames that held tensors
    if 0 < order.gpus < 1 and order.config["device"] != "cpu":
        return Cramped(first, larger_part(order.gpus))
    finer = replace(order, finer=2 * order.finer)
    try:
        with team(finer):
            return (yield from _train(finer, trainer, after=first))
    except Uncuttable as error:
        raise OutOfMemory(f"{first}; not tried in finer parts, as {error}. What helps: {_REMEDY}") from error
    except Exception as error:
        if not out_of_memory(error):
            raise
        again = f"and again in {_parts(finer)} parts ({_first_line(error)}), {_peak(order)}"
        raise OutOfMemory(f"{first}; {again}. What helps: {_REMEDY}") from error


def _train(order: Order, trainer: TrainerFactory, after: str = "") -> Generator[Message, None, Ended]:
    """after: what ended the training before this one."""
    training = yield from restored(order, trainer)
    if after:
        goes_on = f"goes on from its checkpoint, each batch in {_parts(order)} parts through the encoder"
        yield Noted(f"{after}; {goes_on}: equal statistics, other rounding")
    granted = {"gpus": order.gpus} if order.gpus else {}
    yield Started(tuple(training.reports), training.info | granted)
    for report in training:
        if bad := [name for name, value in report.metrics.items() if not math.isfinite(value)]:
            reason = f"{bad[0]} is {report.metrics[bad[0]]}"
            return Ended("diverged", {"epoch": report.epoch, "step": None, "reason": reason})
        yield report
    test = training.test() if order.reads_test else {}
    for name, why in training.info.get("test_failed", {}).items():
        yield Noted(f"no {name}: {why}")
    return Ended("finished", {"test": test, "info": training.info})


def restored(order: Order, trainer: TrainerFactory) -> Generator[Message, None, Training]:
    """The trainer as its checkpoint left it; as new where there is none, or none that can be used. On every rank."""
    from lejepa import ranks
    from lejepa.checkpoint import CheckpointError

    checkpoints = Path(order.checkpoints)
    training = _built(order, trainer)
    try:
        training.load()
    except CheckpointError as error:
        ranks.wait()  # every rank has read what is now set aside
        kept = _set_aside(checkpoints) if ranks.rank() == 0 else checkpoints
        ranks.wait()
        text = f"starts again from epoch 0: {error}; the broken checkpoint is kept in {kept}"
        print(text, flush=True)
        yield Noted(text)
        training = _built(order, trainer)  # what was half restored is gone
    return training


def _built(order: Order, trainer: TrainerFactory) -> Training:
    """A new trainer of the order. Raises Uncuttable where it takes its batches only in the parts that its config says.

    Parts are no more of a trial than threads are: its checkpoints stay those of its config.
    """
    config, checkpoints = TrainConfig.model_validate(order.config), Path(order.checkpoints)
    if order.finer == 1:
        return trainer(config, checkpoints)
    if config.method.name in FLOORS:
        raise Uncuttable(f"{config.method.name} trains nothing")
    try:
        training = trainer(config.model_copy(update={"accumulate": _parts(order)}), checkpoints)
    except ValueError as error:  # it was built before, with other parts
        raise Uncuttable(str(error)) from error
    training.config = config
    training.info["accumulate"] = _parts(order)
    return training


def _parts(order: Order) -> int:
    return int(order.config["accumulate"]) * order.finer


def _set_aside(checkpoints: Path) -> Path:
    """Rename a folder of checkpoints, so that nothing reads it and everybody can look at it."""
    names = (checkpoints.with_name(f"{checkpoints.name}.broken-{n}") for n in range(1, 1000))
    aside = next(name for name in names if not name.exists())
    return checkpoints.rename(aside)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _peak(order: Order) -> str:
    """What was taken at the most, in words, and of what."""
    import torch

    from lejepa.telemetry import peak_memory

    cuda = order.config["device"] != "cpu" and torch.cuda.is_initialized()
    taken = f"{peak_memory(torch.device('cuda' if cuda else 'cpu')) / 1e3:.2f} GB taken at the most"
    return f"{taken} with {order.gpus:g} of a GPU granted" if cuda and 0 < order.gpus < 1 else taken


_REMEDY = f"{REMEDY}, or give a trial more memory: a larger part of a GPU, fewer trials at once"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def reached(message: Message) -> int:
    """The epoch that the message tells of; 0 where it tells of none."""
    match message:
        case Started(restored, _):
            return len(restored)
        case Noted() | Ended() | Cramped():
            return 0
        case report:
            return report.epoch


def hear(trial: TrialSpec, message: Message, search: Search, listener: Listener) -> bool:
    """Hand a message on: to the listener, who makes it durable, then to the search. True: the attempt is over.

    After Cramped the trial is not: whoever runs it makes another attempt. Raises DiskFull where the attempt ended as it
    could not keep its state.
    """
    match message:
        case Started(restored, info):
            listener.started(trial, len(restored), info)
            return any(hear(trial, report, search, listener) for report in restored)
        case Noted(text):
            listener.noted(trial, text)
            return False
        case Cramped(reason, gpus):
            listener.ended(trial, "interrupted", {"reason": f"{reason}; goes on with {gpus:g} of a GPU", "gpus": gpus})
            return True
        case Ended("interrupted", payload):
            listener.ended(trial, "interrupted", payload)
            raise DiskFull(payload["reason"])
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
