"""Many small operations on a GPU as one launch: a CUDA graph, recorded once for each shape."""

from collections.abc import Callable

import torch
from torch import Tensor

_Recording = tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]  # what it reads, and what it writes


class Replayed:
    """A function of CUDA tensors that waits for nothing and whose result depends on nothing else.

    Of a shape that is new it runs as it is; from the second call on it is replayed: the same kernels, without the time
    that a processor takes to launch each of them. Its result is the caller's own. Memory for all that it makes in
    between stays reserved for each shape.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self._function = function
        self._seen: dict[tuple[torch.Size, ...], _Recording | None] = {}

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        shapes = tuple(tensor.shape for tensor in given)
        if shapes not in self._seen:
            self._seen[shapes] = None
            return self._function(*given)
        recording = self._seen[shapes] or self._record(given)
        self._seen[shapes] = recording
        graph, read, written = recording
        for ours, theirs in zip(read, given, strict=True):
            ours.copy_(theirs)
        graph.replay()
        return tuple(tensor.clone() for tensor in written)

    def _record(self, given: tuple[Tensor, ...]) -> _Recording:
        read = [tensor.clone() for tensor in given]
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._function(*read)  # libraries set themselves up, which cannot be recorded
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # loaders have threads
            written = self._function(*read)
        return graph, read, written
