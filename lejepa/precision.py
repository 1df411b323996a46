"""bf16 where a config asks for it; float32 at least where a statistic needs it."""

import torch
from torch import Tensor


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of every pass through the encoder. precision: `bf16`, or `fp32`, which changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def at_least_float32(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()
