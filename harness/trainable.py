"""The Ray Tune trainable: an actor that makes one attempt after the other.

A step hands over one message of the attempt (harness/attempt.py). Tune's own checkpoints are off: the trainer keeps
its own, under a folder that follows from the trial's key, so a trial that comes to another actor goes on there.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune

from harness.attempt import Cramped, Ended, Order, TrainerFactory, attempt
from harness.pool import Shape
from lejepa.allocator import give_back

MESSAGE = "message"  # the one entry of a result that is ours
ORDER = "order"  # of a trial's config: an Order as JSON
SHAPE = "shape"  # of a trial's config: a Shape as JSON


def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """One bundle for each rank, on as few nodes as can be. Tune gives a worker to trials whose answer is equal."""
    shape = Shape(**json.loads(config[SHAPE]))
    labels = {"bundle_label_selector": [shape.labels] * shape.ranks} if shape.labels else {}
    return tune.PlacementGroupFactory([shape.bundle] * shape.ranks, strategy="PACK", **labels)


def trainable(trainer: TrainerFactory) -> type[tune.Trainable]:
    """The class whose actors train with `trainer`, which travels to them by pickle."""

    class Trial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            # Nothing that can fail happens here: an error would look to Tune like a dead actor and be tried again.
            self._order = Order(**json.loads(config[ORDER]))
            self._messages = attempt(self._order, trainer)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.cleanup()
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            with output_to(Path(self._order.log)):
                message = next(self._messages)
            return {MESSAGE: message, "done": isinstance(message, Ended | Cramped)}

        def cleanup(self) -> None:
            self._messages.close()
            give_back()  # the next trial, or a neighbour, has other sizes

    return Trial


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append what the whole process writes to stdout and stderr, native code included, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {1: os.dup(1), 2: os.dup(2)}
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for descriptor in kept:
            os.dup2(log, descriptor)
        os.close(log)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in kept.items():
            os.dup2(original, descriptor)
            os.close(original)
