"""The memory that a process has freed: kept from step to step, given back between trainings.

torch asks glibc for its tensors on the CPU, and glibc gives what is freed back to the system and asks for it anew: a
step of small_resnet (batch 128, eight views) takes up to some thousand page faults, 3 % of its time. Other C libraries
are left alone.
"""

import ctypes
import gc
import sys
from contextlib import suppress
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's numbers, malloc.h
_MOST = (1 << 31) - 1  # bytes; it takes an int
_MOST_BEFORE = 1 << 25  # bytes, that older releases take as the mmap threshold


def keep() -> None:
    """Let the process keep what it frees, up to 2 GB at the top of its heap; freed memory below is kept anyway."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_TRIM_THRESHOLD, _MOST)
        if not libc.mallopt(_MMAP_THRESHOLD, _MOST):
            libc.mallopt(_MMAP_THRESHOLD, _MOST_BEFORE)


def give_back() -> None:
    """What was freed goes back, to the GPU's neighbours and to the machine: glibc alone keeps a gigabyte after a
    training on CIFAR-10, and more after each that follows it in the same process."""
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        sys.modules["torch"].cuda.empty_cache()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    """None where the C library is another."""
    if sys.platform == "linux":
        with suppress(OSError):
            libc = ctypes.CDLL("libc.so.6")
            return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    return None
