"""`harness plan --calibrate`: a few real steps of every shape of training in a sweep, on made-up images, here and now.

What is timed is the trainer's own loop: views, forward, backward, update. Evaluation is not in it, nor reading images.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from harness.budget import images_per_epoch
from harness.costs import Speed, shapes
from harness.mockup import on_noise
from harness.pool import granted, placement

if TYPE_CHECKING:
    from harness.plan import CellPrice, Price
    from harness.spec import SweepSpec
    from lejepa.config import TrainConfig

SECONDS = 10.0  # of steps, all shapes together
_FEWEST, _MOST = 3, 20  # steps that are timed; one before them is not


class _Enough(Exception):
    """The steps that were asked for are done."""


def calibrate(
    spec: SweepSpec, planned: Price, seconds: float = SECONDS, images: Callable[[TrainConfig], int] = images_per_epoch
) -> tuple[Speed, list[str]]:
    """The speed of every cell, and a line for each shape that was measured, or could not be."""
    import torch

    from lejepa.config import FLOORS
    from lejepa.data import DataError

    where, steps, said = placement(spec), dict[str, float | None](), list[str]()
    trained = {shape: cell for shape, cell in shapes(planned) if cell.config.method.name not in FLOORS}
    for shape, cell in trained.items():
        config = granted(cell.config, where.pool_of(cell.config, cell.arm))
        name = f"{config.method.name}, {config.encoder.name}, batches of {config.batch_size}"
        steps[shape] = None
        if config.device == "cuda" and not torch.cuda.is_available():
            said.append(f"{name}: time unknown here, as its pool has GPUs and this machine none; give --step-time")
            continue
        timed = step_seconds(config, seconds / len(trained))
        device = torch.cuda.get_device_name() if config.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        steps[shape] = statistics.median(timed)
        said.append(f"{name}: {steps[shape]:.3g} s a step (median of {len(timed)}, {device})")
    said += _absent(trained.values(), images)
    of_cell = {id(cell): steps.get(shape, 0.0) for shape, cell in shapes(planned)}

    def epoch(cell: CellPrice) -> float | None:
        step = of_cell[id(cell)]
        try:
            return None if step is None else step * (images(cell.config) // cell.config.batch_size)
        except DataError:
            return None  # nobody knows how many images

    return Speed(epoch, "by steps measured just now, without evaluation"), said


def _absent(cells: Iterable[CellPrice], images: Callable[[TrainConfig], int]) -> Iterator[str]:
    from lejepa.data import DataError

    for cell in {cell.config.data.name: cell for cell in cells}.values():
        try:
            images(cell.config)
        except DataError as error:
            yield f"how many steps an epoch has is unknown here: {error}"


def step_seconds(config: TrainConfig, seconds: float) -> list[float]:
    """Seconds of single steps of a training on noise, for about so long."""
    import torch

    from lejepa.trainer import Trainer

    ends: list[float] = []
    started = time.perf_counter()

    def on_step(step: int, steps: int) -> None:
        if config.device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        if len(ends) > _MOST or (len(ends) > _FEWEST and ends[-1] - started > seconds):
            raise _Enough

    threads = torch.get_num_threads()
    try:
        with on_noise(config, (_MOST + 1) * config.batch_size, 64):
            training = Trainer(config)
        training.on_step = on_step
        started = time.perf_counter()
        next(iter(training))
    except _Enough:
        pass
    finally:
        torch.set_num_threads(threads)
    return [after - before for before, after in itertools.pairwise(ends)]
