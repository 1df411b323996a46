"""The losses as pure functions: tensors positional, hyperparameters keyword-only; each returns a scalar.

A `*_parts` twin returns the loss with its unweighted parts, for the logs. All are computed in the dtype they are given,
float32 at least.
"""

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Centre = Literal["globals", "all", "pairs"]
Weighting = Literal["convex", "additive"]


class Regularizer(Protocol):
    def __call__(self, z: Tensor, *, step: int) -> Tensor: ...


def lejepa(
    projections: Tensor,
    *,
    n_global: int,
    lamb: float,
    sigreg: Regularizer,
    step: int,
    centre: Centre = "globals",
    weighting: Weighting = "convex",
    teacher: Tensor | None = None,
    predictions: Tensor | None = None,
) -> Tensor:
    """Prediction and SIGReg of projections (V, N, D) whose first `n_global` views are the global ones.

    weighting: convex, (1 − λ)·pred + λ·SIGReg, or additive, pred + λ·SIGReg. pred = mean over views, images and dims of
    (μ_n − z_{v,n})², where μ_n is the mean of image n over its global views (`globals`) or over all (`all`); or the
    mean squared difference over all pairs of views (`pairs`), 2V/(V − 1) times pred around the mean of all. teacher:
    (Vc, N, D), the views that make μ_n instead, without gradient. predictions: (V, N, D), a predictor's outputs, which
    take the place of z against the centre. No other stop-gradient. Source: LeJEPA paper, Algorithm 2 and Eq. 6 (Eq. 5
    adds a term that the code does not have).
    """
    return lejepa_parts(
        projections, n_global=n_global, lamb=lamb, sigreg=sigreg, step=step, centre=centre, weighting=weighting,
        teacher=teacher, predictions=predictions,
    )["loss"]  # fmt: skip


def lejepa_parts(
    projections: Tensor,
    *,
    n_global: int,
    lamb: float,
    sigreg: Regularizer,
    step: int,
    centre: Centre = "globals",
    weighting: Weighting = "convex",
    teacher: Tensor | None = None,
    predictions: Tensor | None = None,
) -> dict[str, Tensor]:
    """`loss`, `pred` and `sigreg` of `lejepa`.

    ValueError where n_global is not in 1..V, λ not in [0, 1] (convex) or negative (additive), or pairs lack views or
    come with a teacher or predictions.
    """
    views = projections.shape[0]
    if not 1 <= n_global <= views:
        raise ValueError(f"n_global must be between 1 and the {views} views, not {n_global}")
    if not 0 <= lamb <= (1 if weighting == "convex" else float("inf")):
        raise ValueError(f"λ must be in {'[0, 1]' if weighting == 'convex' else '[0, ∞)'}, not {lamb}")
    if centre == "pairs" and (views < 2 or teacher is not None or predictions is not None):
        raise ValueError(f"pairs need two views and neither teacher nor predictor, not {views} view(s)")
    z = _at_least_float32(projections)
    seen = z[:n_global] if centre == "globals" else z
    mean = seen.mean(0) if teacher is None else teacher.detach().to(z.dtype).mean(0)  # (N, D)
    pred = (mean - (z if predictions is None else _at_least_float32(predictions))).square().mean()
    if centre == "pairs":
        pred = pred * (2 * views / (views - 1))
    regularization = sigreg(z, step=step)
    kept = 1 - lamb if weighting == "convex" else 1.0
    return {"loss": kept * pred + lamb * regularization, "pred": pred, "sigreg": regularization}


def vicreg(z1: Tensor, z2: Tensor, *, inv: float = 25.0, std: float = 25.0, cov: float = 1.0) -> Tensor:
    """inv·MSE + std·hinge + cov·covariance of two views' embeddings, each (N, D).

    hinge = mean over dims of relu(1 − sqrt(var + 1e-4)), unbiased variance, averaged over the two views; covariance =
    sum of squared off-diagonal entries / D, denominator N − 1, summed over the views. Source: facebookresearch/vicreg.
    """
    return vicreg_parts(z1, z2, inv=inv, std=std, cov=cov)["loss"]


def vicreg_parts(
    z1: Tensor, z2: Tensor, *, inv: float = 25.0, std: float = 25.0, cov: float = 1.0
) -> dict[str, Tensor]:
    """`loss`, `inv`, `std` and `cov` of `vicreg`."""
    z1, z2 = _at_least_float32(z1), _at_least_float32(z2)
    invariance = (z1 - z2).square().mean()
    hinge = (_std_hinge(z1) + _std_hinge(z2)) / 2
    covariance = _off_diagonal_covariance(z1) + _off_diagonal_covariance(z2)
    loss = inv * invariance + std * hinge + cov * covariance
    return {"loss": loss, "inv": invariance, "std": hinge, "cov": covariance}


def masked_smooth_l1(pred: Tensor, target: Tensor, *, beta: float) -> Tensor:
    """Mean smooth L1 of predicted against target patch embeddings, any shape (…, D).

    ½·d²/β where |d| < β, else |d| − β/2. Sources: facebookresearch/ijepa (β = 1), data2vec_vision (β = 2).
    """
    return F.smooth_l1_loss(_at_least_float32(pred), _at_least_float32(target), beta=beta)


def _std_hinge(z: Tensor) -> Tensor:
    return torch.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()


def _off_diagonal_covariance(z: Tensor) -> Tensor:
    n, d = z.shape
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (n - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / d


def _at_least_float32(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()
