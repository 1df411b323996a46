"""Random numbers as functions of whole numbers: a seed, an epoch, an image, what it is for."""

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2⁶⁴ / golden ratio, odd, as an int64


def generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that equal numbers seed equally and other numbers, of which there are as many, otherwise.

    torch's CPU generator keeps the low 32 bits of its seed only, so the numbers are mixed into 32 bits first. Zeros
    at the end change nothing.
    """
    mixed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)


def sample_keys(seed: int, epoch: int, index: Tensor) -> Tensor:
    """(N,) int64: the key of each image of a batch in an epoch. index: (N,), places in the training split.

    A function of the three numbers alone: equal in any batch and order, on any rank, worker or device.
    """
    of_epoch = _mix(_mix(torch.tensor(seed)) ^ epoch)  # on the CPU: one number
    return _mix(of_epoch ^ index)


def uniform(keys: Tensor, counter: Tensor) -> Tensor:
    """float32 on [0, 1) with 24 random bits each: number `counter` of the stream of `keys`; the two broadcast.

    SplitMix64 (Steele, Lea & Flood 2014): its state after n steps is key + n·golden, so any number of a stream is had
    at once. Whole numbers only until the last division by a power of two: the same bits on every device.
    """
    bits = _mix(keys + counter * _GOLDEN)
    return _shifted(bits, 40).float() * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """Stafford's variant 13 of the 64-bit finaliser of MurmurHash3, as in SplitMix64. int64 products wrap around."""
    x = x + _GOLDEN
    x = (x ^ _shifted(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shifted(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: torch's repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
