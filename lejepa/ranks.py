"""What the losses ask of other processes. The world is looked at when a function is called, never when it is built.

The convention of gradients: a loss over the global batch is computed by every rank, so each rank's gradient is the
world size times its share of the global one, and the averaging of DistributedDataParallel gives the global gradient.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def joined(init: str = "env://", rank: int = -1, world: int = -1, device: str = "auto") -> Iterator[None]:
    """Training together with the other ranks. Without arguments: as torchrun says; alone where it says nothing.

    init: where ranks meet, `env://` or a `file://` that does not exist yet. gloo on the CPU, nccl where there are GPUs.
    A rank that waits for another for half an hour gives up. ValueError on every rank where two have the same GPU.
    """
    if rank < 0:
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, init_method=init, rank=rank, world_size=world, timeout=timedelta(minutes=30))
    try:
        if cuda:
            _check_gpus(world)
        yield
    finally:
        dist.destroy_process_group()


def _check_gpus(world: int) -> None:
    """nccl would say much, and not this."""
    found: list[Any] = [None] * world
    dist.all_gather_object(found, str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
    if (gpus := len(set(found))) < world:
        raise ValueError(f"{world} ranks on {gpus} GPU{'s' * (gpus > 1)}: every rank needs one of its own; start fewer")


@contextmanager
def apart() -> Iterator[None]:
    """What is computed inside is about this rank's own tensors, as if it were alone."""
    _apart.append(True)
    try:
        yield
    finally:
        _apart.pop()


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _apart else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def wait() -> None:
    """Until every rank is here."""
    if world_size() > 1:
        dist.barrier()


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


def mean(local: Tensor) -> Tensor:
    """The mean over ranks of tensors of equal shapes; not seen by autograd."""
    return local if world_size() == 1 else add(local.detach().clone()) / world_size()


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


_apart: list[bool] = []  # one entry for each `apart` that is open
