"""What a view asks of chance: one number per image, view and question."""

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

from lejepa.seeding import uniform

TRIES = 10  # of a crop's area and aspect, as torchvision's RandomResizedCrop


class Ask(IntEnum):
    """Every question has a place of its own, so an operation that is off leaves the others' numbers as they are."""

    AREA = 0  # to TRIES − 1
    ASPECT = TRIES  # to 2·TRIES − 1
    LEFT = 2 * TRIES
    TOP, FLIP, ANGLE, JITTER, BRIGHTNESS, CONTRAST, SATURATION, HUE, GREY, BLUR, SIGMA, SOLARIZE, CUTOUT = range(21, 34)
    CUTOUT_SIDE, CUTOUT_LEFT, CUTOUT_TOP = range(34, 37)


_QUESTIONS = 64  # places kept for a view, so that a question can be added without changing the others


@lru_cache(maxsize=256)
def constant(device: torch.device, *values: float) -> Tensor:
    """float32, and always the same tensor: a copy to a GPU at every step would be one too many."""
    return torch.tensor(values, dtype=torch.float32, device=device)


class Draws:
    """Uniform numbers of B = N·V views, image by image. keys: (N,) int64; numbers: of the V views."""

    def __init__(self, keys: Tensor, numbers: range) -> None:
        questions = torch.arange(max(Ask) + 1, device=keys.device).view(-1, 1, 1)
        views = torch.arange(numbers.start, numbers.stop, device=keys.device) * _QUESTIONS
        self.table = uniform(keys.unsqueeze(1), views + questions).flatten(1)  # (questions, N·V)
        self.images = len(keys)

    def uniform(self, what: Ask, low: float, high: float) -> Tensor:
        """(B,) on [low, high)."""
        return low + (high - low) * self.table[what]

    def tries(self, what: Ask, low: float, high: float) -> Tensor:
        """(TRIES, B) on [low, high)."""
        return low + (high - low) * self.table[what : what + TRIES]

    def chance(self, what: Ask, probability: float | Sequence[float]) -> Tensor:
        """(B,) bool. probability: one, or one for each of the V views."""
        if isinstance(probability, float | int):
            return self.table[what] < probability
        return self.table[what] < constant(self.table.device, *probability).repeat(self.images)

    def around_one(self, what: Ask, strength: float) -> Tensor:
        """(B,), factors as torchvision's ColorJitter draws them."""
        return self.uniform(what, max(0.0, 1 - strength), 1 + strength)
