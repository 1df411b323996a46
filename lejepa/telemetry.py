"""What a training costs: waiting for data, memory, arithmetic."""

import copy
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lejepa.methods.base import Method
from lejepa.views import Multicrop

T = TypeVar("T")


class Stopwatch:
    """Seconds of an epoch's training, and how many of them went by waiting for data."""

    def __init__(self) -> None:
        self.started, self.waited = time.perf_counter(), 0.0

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, with the time until each of them is there counted as waited."""
        source = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            self.waited += time.perf_counter() - asked
            yield batch

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


def peak_memory(device: torch.device) -> float:
    """MB (10⁶ bytes) at the most since the last call: that tensors took on CUDA, that the process took elsewhere.

    Where the system cannot forget the process's peak (it is not Linux), the most that it ever took.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e6
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    try:
        return _resident_peak()
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _resident_peak() -> float:
    """Linux: the peak of the resident set, forgotten once it is read."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return kilobytes * 1024 / 1e6


def flops_per_image(method: Method, multicrop: Multicrop, images: Tensor) -> float:
    """Floating-point operations of a training step, forward and backward, per image (all its views), as torch counts.

    images: a few of them (n, C, H, W) uint8. Done on a copy: the method and the random state stay as they are.
    """
    method = copy.deepcopy(method).train()
    method.labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    views = multicrop(images, torch.arange(len(images), device=images.device))
    devices = [images.device] if images.is_cuda else []
    with torch.random.fork_rng(devices), FlopCounterMode(display=False) as counter:
        method(views, 0)["loss"].backward()
    return counter.get_total_flops() / len(images)
