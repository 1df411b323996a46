"""Attention of timm's blocks on a CPU."""

from torch import nn


def plain(model: nn.Module) -> None:
    """Attention by plain matrix products, which timm's blocks offer beside torch's fused kernel: the same function.

    On a CPU in bf16 the fused kernel's backward pass takes most of the step at the few tokens of small images: I-JEPA
    at 32 px takes half the time without it (docs/performance.md).
    """
    for module in model.modules():
        if getattr(module, "fused_attn", False):
            vars(module)["fused_attn"] = False
