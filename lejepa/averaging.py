"""Moving averages of weights: EMA teachers, and the averaged weights that are evaluated."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def follow(average: Iterable[Tensor], current: Iterable[Tensor], momentum: float) -> None:
    """average ← momentum · average + (1 − momentum) · current, tensor by tensor, in place."""
    torch._foreach_lerp_(list(average), list(current), 1 - momentum)


@torch.no_grad()
def follow_all(average: nn.Module, current: nn.Module, momentum: float) -> None:
    """The same for every parameter and buffer of a module, BatchNorm's statistics among them; counters are copied."""
    pairs = list(zip(average.state_dict().values(), current.state_dict().values(), strict=True))
    real = [(a, c) for a, c in pairs if a.is_floating_point()]
    follow([a for a, _ in real], [c for _, c in real], momentum)
    for a, c in pairs:
        if not a.is_floating_point():
            a.copy_(c)
