"""Trainings that are only looked at, for their sizes, their time or their memory: without weights, without data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from lejepa.config import TrainConfig
    from lejepa.data import Dataset

Built = TypeVar("Built")
CLASSES = 10


def weightless(build: Callable[[], Built]) -> Built:
    """What `build` makes, its tensors without values where that works; nothing random is drawn from the caller's."""
    import torch

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build()
        except (NotImplementedError, RuntimeError):  # a family that computes while it is built
            return build()


@contextmanager
def on_noise(config: TrainConfig, train: int, held_out: int) -> Iterator[None]:
    """Inside, trainers get made-up data: so many images to train on, so many each in val and test."""
    from lejepa import trainer

    read = trainer.load
    trainer.load = lambda _: _noise(config, train, held_out)  # type: ignore[assignment]  # the trainer as it is
    try:
        yield
    finally:
        trainer.load = read


def channels(config: TrainConfig) -> int:
    return 1 if config.data.name == "digits" else 3


def _noise(config: TrainConfig, train: int, held_out: int) -> Dataset:
    """64 images, again and again: what is measured is the training and not its data."""
    import torch

    from lejepa.data import Dataset, Split

    side = config.data.stored or config.data.size
    images = torch.randint(0, 256, (64, channels(config), side, side), dtype=torch.uint8)

    def split(n: int) -> Split:
        return Split(images, torch.arange(n) % CLASSES, torch.arange(n) % len(images))

    return Dataset(split(train), split(held_out), split(held_out), tuple(map(str, range(CLASSES))), "noise", "made up")
