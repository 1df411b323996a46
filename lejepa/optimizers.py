"""The optimiser of a config, and its groups of parameters."""

from typing import Any

import torch
from torch import nn

from lejepa.config import OptimizerConfig
from lejepa.methods.base import Method


def build_optimizer(method: Method, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW, SGD or timm's LARS. No decay on biases and one-dimensional parameters, nor LARS's adaptation.

    A group scales the scheduled rate and decay by its `rate_scale` and `decay_scale`; one with a `constant_rate` learns
    at that. A method that trains nothing gets an optimiser without effect.
    """
    groups = parameter_groups(method, config.lr) or [{"params": [nn.Parameter(torch.zeros(1))], **_SCALES}]
    match config.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
        case "lars":
            from timm.optim import Lars

            lars: torch.optim.Optimizer = Lars(groups, lr=config.lr, momentum=config.momentum)
            return lars


def parameter_groups(method: Method, rate: float) -> list[dict[str, Any]]:
    """The trained parameters by whether they decay, and by whether they learn at the peak `rate` throughout."""
    constant = {id(p) for p in method.at_constant_rate()}
    trained = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in trained if (id(p) in constant) == stays and (p.ndim > 1) == decays],
            **_SCALES,
            "decay_scale": float(decays),
            "constant_rate": rate if stays else None,
        }
        for stays in (False, True)
        for decays in (True, False)
    ]
    return [group for group in groups if group["params"]]


def schedule(optimizer: torch.optim.Optimizer, rate: float, decay: float) -> None:
    """Sets every group's learning rate and weight decay for the next step."""
    for group in optimizer.param_groups:
        own = group["constant_rate"]
        group["lr"] = (rate if own is None else own) * group["rate_scale"]
        group["weight_decay"] = decay * group["decay_scale"]


_SCALES: dict[str, Any] = {"rate_scale": 1.0, "decay_scale": 1.0, "constant_rate": None}
