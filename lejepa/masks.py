"""Masks of patches, batched and seeded: multi-block (I-JEPA), block-wise (BEiT, data2vec), random (MAE).

All are drawn on the CPU for the global batch, and every rank takes its part, so the ranks' number does not matter.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lejepa import ranks, seeding
from lejepa.masked_config import Data2vecConfig, IjepaConfig

_MASKS = 3  # what the generator is for


def mask_generator(seed: int, step: int) -> torch.Generator:
    """What the masks of a step are drawn from."""
    return seeding.generator(seed, _MASKS, step)


def of_rank(drawn: Tensor, images: Tensor, dim: int = 0) -> Tensor:
    """This rank's part of what was drawn for the global batch along `dim`, on the device of its images."""
    return drawn.chunk(ranks.world_size(), dim)[ranks.rank()].to(images.device)


# -- multi-block ------------------------------------------------------------------------------------------------------


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
    Source: facebookresearch/ijepa, src/masks/multiblock.py.
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
    return _rectangle(grid, top, left, top + height, left + width)


def _numbers(mask: Tensor) -> Tensor:
    """(B, P) bool → (B, K) patch numbers, K of the image with the fewest; the first K of each."""
    return (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(mask.sum(1).min())]


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))


# -- block-wise -------------------------------------------------------------------------------------------------------


def blockwise(config: Data2vecConfig, batch: int, grid: int, generator: torch.Generator) -> Tensor:
    """(B, grid²) bool, True where masked: blocks one after the other, until the share `masked` is reached.

    A block has an area between `min_block` and what is left to mask, and a side shorter than the grid. One that masks
    nothing new, or too much, is drawn again; after ten in a row an image stays with fewer masked patches. Source:
    microsoft/unilm, beit/masking_generator.py, which facebookresearch/data2vec_vision uses.
    """
    wanted, smallest = round(config.masked * grid**2), config.min_block * grid**2
    low, high = (math.log(aspect) for aspect in config.aspect)
    masked, refused = torch.zeros(batch, grid**2, dtype=torch.bool), torch.zeros(batch, dtype=torch.int64)
    while ((left := wanted - masked.sum(1)) > 0).logical_and(refused < 10).any():
        area, aspect, top, start = torch.rand(4, batch, generator=generator)
        area, aspect = smallest + (left - smallest) * area, (low + (high - low) * aspect).exp()
        height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        top, start = (top * (grid - height + 1)).floor(), (start * (grid - width + 1)).floor()
        block = _rectangle(grid, *(side.unsqueeze(1) for side in (top, start, top + height, start + width)))
        new = (block & ~masked).sum(1)
        fits = (height < grid) & (width < grid) & (new > 0) & (new <= left) & (refused < 10)
        masked |= block & fits.unsqueeze(1)
        refused = torch.where(fits, 0, refused + 1)
    return masked


def _rectangle(grid: int, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """(B, grid²) bool: patches from row `top` to above `bottom`, from column `left` to before `right`; each (B, 1)."""
    at = torch.arange(grid)
    rows, columns = (at >= top) & (at < bottom), (at >= left) & (at < right)
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).flatten(1)


# -- random -----------------------------------------------------------------------------------------------------------


def random_patches(share: float, batch: int, grid: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Patch numbers in random order: those kept (B, K), K = ⌊(1 − share)·grid²⌋, and those masked (B, grid² − K).

    Source: facebookresearch/mae, models_mae.py, random_masking.
    """
    order = torch.rand(batch, grid**2, generator=generator).argsort(dim=1)
    kept, masked = order.tensor_split([int(grid**2 * (1 - share))], dim=1)
    return kept, masked
