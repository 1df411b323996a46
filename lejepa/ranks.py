"""What the losses ask of other processes. The world is looked at when a function is called, never when it is built.

The convention of gradients: a loss over the global batch is computed by every rank, so each rank's gradient is the
world size times its share of the global one, and the averaging of DistributedDataParallel gives the global gradient.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def global_batch(n: int, device: torch.device) -> int:
    """The images of all ranks together; ValueError on every rank alike where they hold unequal numbers."""
    world = world_size()
    if world == 1:
        return n
    counts = torch.zeros(world, dtype=torch.int64, device=device)
    counts[rank()] = n
    dist.all_reduce(counts)
    if (counts != n).any():
        raise ValueError(f"every rank must hold the same number of images, not {counts.tolist()}; drop the last batch")
    return world * n


def add(partial: Tensor) -> Tensor:
    """The sum over ranks, written into `partial`. Not seen by autograd: for use inside a closed-form gradient."""
    if world_size() > 1:
        dist.all_reduce(partial)
    return partial


def total(local: Tensor) -> Tensor:
    """The sum over ranks of tensors of equal shapes; differentiable."""
    summed: Tensor = local if world_size() == 1 else _Total.apply(local)
    return summed


def gather(local: Tensor, dim: int) -> Tensor:
    """The tensors of all ranks, of equal shapes, joined along `dim`; differentiable, every rank's part by its own."""
    gathered: Tensor = local if world_size() == 1 else _Gather.apply(local, dim)
    return gathered


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return add(local.clone())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return add(upstream.contiguous().clone())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, dim: int) -> Tensor:
        ctx.dim = dim
        parts = [torch.empty_like(local, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        total = add(upstream.contiguous().clone())
        return total.chunk(world_size(), ctx.dim)[rank()], None
