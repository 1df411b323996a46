"""Whitening of a batch: zero mean, unit variance and no covariance, by construction."""

import torch
from torch import Tensor, nn

from lejepa import ranks

_RIDGE = 1e-4  # share of the identity in the covariance


class Whitening(nn.Module):
    """(N, D) → (N, D) by the inverse Cholesky factor of the covariance, unbiased, over the rows of all ranks.

    In evaluation by running means of mean and covariance, with momentum 0.1 as in BatchNorm. Always float32 or more; a
    covariance that is not positive gives NaN. Source: Ermolov et al. 2021 (W-MSE, arXiv 2007.06346) §3.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("covariance", torch.eye(dim))

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            rows = z if z.dtype == torch.float64 else z.float()
            mean, covariance = self._of_batch(rows) if self.training else (self.mean, self.covariance)
            eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
            factor, failed = torch.linalg.cholesky_ex(torch.lerp(covariance.to(rows.dtype), eye, _RIDGE))
            whitened = torch.linalg.solve_triangular(factor, (rows - mean).T, upper=False).T
            return torch.where(failed == 0, whitened, torch.nan)

    def _of_batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        count = len(rows) * ranks.world_size()
        mean = ranks.total(rows.sum(0)) / count
        centred = rows - mean
        covariance = ranks.total(centred.T @ centred) / (count - 1)
        with torch.no_grad():
            self.mean.lerp_(mean.to(self.mean.dtype), 0.1)
            self.covariance.lerp_(covariance.to(self.mean.dtype), 0.1)
        return mean, covariance
