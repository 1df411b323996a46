"""The optimiser of a config, and its groups of parameters."""

import torch
from torch import nn

from lejepa.config import OptimizerConfig


def build_optimizer(method: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW, SGD or timm's LARS. No decay on biases and one-dimensional parameters, nor LARS's adaptation.

    A group scales the scheduled rate and decay by its `rate_scale` and `decay_scale`. A method that trains nothing gets
    an optimiser without effect.
    """
    groups = parameter_groups(method) or [{"params": [nn.Parameter(torch.zeros(1))], **_SCALES}]
    match config.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
        case "lars":
            from timm.optim import Lars

            lars: torch.optim.Optimizer = Lars(groups, lr=config.lr, momentum=config.momentum)
            return lars


def parameter_groups(method: nn.Module) -> list[dict[str, object]]:
    """The trained parameters: those that decay, and those that do not."""
    trained = [p for p in method.parameters() if p.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [p for p in trained if p.ndim > 1], **_SCALES},
        {"params": [p for p in trained if p.ndim <= 1], **_SCALES, "decay_scale": 0.0},
    ]
    return [group for group in groups if group["params"]]


def schedule(optimizer: torch.optim.Optimizer, rate: float, decay: float) -> None:
    """Sets every group's learning rate and weight decay for the next step."""
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = rate * group["rate_scale"], decay * group["decay_scale"]


_SCALES = {"rate_scale": 1.0, "decay_scale": 1.0}
