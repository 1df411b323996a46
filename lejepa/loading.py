"""Batches of images, read (and decoded) ahead by other processes where there are any."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lejepa.data import DataError, Split


def batches(
    split: Split, order: Sequence[Tensor], workers: int, pin: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each index tensor (N,) of `order`, in order: images (N, C, S, S) uint8, labels (N,) int64, and the index.

    workers: processes that read ahead, two batches each; they end with the iterator. 0 reads in this process. The same
    batches come either way, and torch's global random numbers are left alone. pin: page-locked, for copies to a GPU.
    Raises DataError where an image cannot be read any more.
    """
    pin = pin and torch.cuda.is_available()
    if workers == 0 or len(order) == 0:
        for index in order:
            images = split.take(index)
            yield images.pin_memory() if pin else images, split.labels[index], index
        return
    with _without_main():
        ahead: Any = iter(_loader(split, order, workers, pin))
    try:
        for index, images in zip(order, ahead, strict=True):
            if isinstance(images, DataError):
                raise images
            yield images, split.labels[index], index
    finally:
        ahead._shutdown_workers()  # at once: an exception on its way up would keep the iterator and its processes


def _loader(split: Split, order: Sequence[Tensor], workers: int, pin: bool) -> DataLoader[Tensor | DataError]:
    return DataLoader(
        _Batches(split),
        sampler=[index.numpy() for index in order],
        batch_size=None,  # the sampler's items are whole batches
        num_workers=min(workers, len(order)),
        pin_memory=pin,
        multiprocessing_context=_context(),
        worker_init_fn=_end_with_parent,
        generator=torch.Generator(),  # else it draws from the global one, and workers would change a training
    )


class _Batches(Dataset[Tensor | DataError]):
    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, index: np.ndarray) -> Tensor | DataError:
        try:
            return self.split.take(torch.from_numpy(index))
        except DataError as error:  # raised here, torch would put the worker's traceback into its message
            return error


def _end_with_parent(_: int) -> None:
    """A worker looks for its parent's end by its parent's pid, which is the fork server's, and would outlive a kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _context() -> Any:
    """Not fork: the parent has threads, and CUDA. A server that has imported this module once forks the workers."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lejepa.loading"])
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """Else every worker would first run the main script again, with all its imports, though it needs nothing of it."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
