"""BatchNorm over the images of all ranks."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lejepa import ranks


def synchronized(module: nn.Module) -> nn.Module:
    """The module with every BatchNorm taking its statistics over all ranks; the same module where this rank is alone.

    On CUDA it is torch's SyncBatchNorm; that one refuses CPU tensors, so there it is GlobalBatchNorm.
    """
    if ranks.world_size() == 1:
        return module
    if any(parameter.is_cuda for parameter in module.parameters()):
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, GlobalBatchNorm.taking_over(child))
    return module


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm of (N, C) or (N, C, …) by the mean and variance of all ranks' N together, which must be equal."""

    @classmethod
    def taking_over(cls, norm: _BatchNorm) -> "GlobalBatchNorm":
        """With the parameters and running statistics of another BatchNorm; the tensors are shared."""
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        new._parameters, new._buffers, new.training = norm._parameters, norm._buffers, norm.training
        return new

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"BatchNorm takes (N, C) or (N, C, …), not {tuple(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or ranks.world_size() == 1:
            normalized: Tensor = super().forward(x)
            return normalized
        over = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = x.numel() // x.shape[1] * ranks.world_size()
        values = x if x.dtype == torch.float64 else x.float()
        mean = ranks.total(values.sum(over)) / count
        centred = values - mean.view(shape)
        variance = ranks.total(centred.square().sum(over)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
