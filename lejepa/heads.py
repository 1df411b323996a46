"""Heads between embedding and loss, as the references have them; widths and the norms inside are of `projector`."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lejepa.config import ProjectorConfig
from lejepa.encoders import build_projector

OutputNorm = Literal["none", "fixed", "scaled"]


def projector(
    config: ProjectorConfig, dim: int, *, bias: bool = False, output_norm: OutputNorm = "none"
) -> nn.Sequential:
    """The MLP of `build_projector`, and BatchNorm on its output: `fixed` without affine, `scaled` without shift."""
    mlp = build_projector(config, dim, last_bias=bias)
    if output_norm != "none":
        norm = nn.BatchNorm1d(config.dim, affine=output_norm == "scaled")
        if output_norm == "scaled":
            norm.bias.requires_grad_(False)
        mlp.append(norm)
    return mlp


def predictor(
    config: ProjectorConfig, hidden: int, *, bias: bool = False, output_norm: OutputNorm = "none"
) -> nn.Sequential:
    """An MLP with one hidden layer from projections (N, K) to predictions of them (N, K)."""
    return projector(
        config.model_copy(update={"layers": 2, "hidden": hidden}), config.dim, bias=bias, output_norm=output_norm
    )


def dino_projector(config: ProjectorConfig, dim: int) -> nn.Sequential:
    """As `build_projector`, with GELU instead of ReLU and weights from N(0, 0.02²) cut at 2, biases 0.

    Source: facebookresearch/dino, vision_transformer.py, class DINOHead.
    """
    layers = [nn.GELU() if isinstance(layer, nn.ReLU) else layer for layer in build_projector(config, dim)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class Prototypes(nn.Linear):
    """Cosines of projections (N, D) with K prototypes, (N, K): DINO's last layer, its weights of length 1.

    Not under autocast: divided by a temperature of 0.04, a cosine of bf16 is off by a tenth.
    """

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__(dim, prototypes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(F.normalize(x.to(self.weight.dtype), dim=1), F.normalize(self.weight, dim=1))
