"""Multi-block masks of I-JEPA, batched and seeded. Source: facebookresearch/ijepa, src/masks/multiblock.py."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lejepa.masked_config import IjepaConfig


@dataclass(frozen=True)
class BlockMasks:
    """Patch numbers, row by row, ascending."""

    context: Tensor  # (B, K): what the context encoder sees
    targets: Tensor  # (T, B, L): what is predicted, block by block


def multiblock(config: IjepaConfig, batch: int, grid: int, generator: torch.Generator) -> BlockMasks:
    """One context block and T target blocks per image on a grid × grid of patches.

    Sizes are drawn once per batch, positions per image. Targets may overlap each other; the context leaves them out and
    is cut to the batch's shortest. An image whose context keeps fewer than `min_keep` patches draws another place for
    its context block, and after twenty lets targets into it, one more each time. The reference never lets a block
    touch the last row and column; on small grids that would hide them for good, so here every place can be drawn.
    """
    scale, aspect = _uniform(generator, *config.target_scale), _uniform(generator, *config.target_aspect)
    target_size = _block_size(grid, scale, aspect)
    context_size = _block_size(grid, _uniform(generator, *config.context_scale), 1.0)
    targets = torch.stack([_place(batch, grid, target_size, generator) for _ in range(config.targets)])  # (T, B, P)
    context = _place(batch, grid, context_size, generator)
    seen = context & ~targets.any(0)
    for attempt in range(20 * (config.targets + 1)):
        short = seen.sum(1) < min(config.min_keep, math.prod(context_size))
        if not short.any():
            break
        context = torch.where(short.unsqueeze(1), _place(batch, grid, context_size, generator), context)
        left_out = targets[: config.targets - attempt // 20]
        seen = torch.where(short.unsqueeze(1), context & ~left_out.any(0), seen)
    return BlockMasks(_numbers(seen), torch.stack([_numbers(target) for target in targets]))


def _block_size(grid: int, scale: float, aspect: float) -> tuple[int, int]:
    """(height, width) in patches of a block of `scale` of the grid; at least 1, always smaller than the grid."""
    patches = int(grid * grid * scale)
    height, width = round(math.sqrt(patches * aspect)), round(math.sqrt(patches / aspect))
    return max(1, min(height, grid - 1)), max(1, min(width, grid - 1))


def _place(batch: int, grid: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, grid²) bool: a block of that size somewhere in each image."""
    height, width = size
    top = torch.randint(0, grid - height + 1, (batch, 1), generator=generator)
    left = torch.randint(0, grid - width + 1, (batch, 1), generator=generator)
    at = torch.arange(grid)
    rows, columns = (at >= top) & (at < top + height), (at >= left) & (at < left + width)
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).flatten(1)


def _numbers(mask: Tensor) -> Tensor:
    """(B, P) bool → (B, K) patch numbers, K of the image with the fewest; the first K of each."""
    return (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(mask.sum(1).min())]


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))
