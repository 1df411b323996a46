"""Collapse and isotropy of features (N, D), without labels."""

import torch
from torch import Tensor

COLLAPSED_STD = 0.1  # share of the deviation that the loss asks for
CONSTANT_STD = 0.02  # share of the root mean square, where the loss asks for none
COLLAPSED_RANK = 1.2  # a line has 1


def rankme(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values, p = σ/Σσ + ε (RankMe, Eq. 2). From 1 to D."""
    sigma = torch.linalg.svdvals(features.double())
    p = sigma / sigma.sum().clamp(min=1e-30) + 1e-7
    return float((-(p * p.log()).sum()).exp())


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised eigenvalues of the covariance: 1 on a line, D when isotropic."""
    centred = features.double() - features.double().mean(0)
    eigenvalues = torch.linalg.eigvalsh(centred.T @ centred / len(centred)).clamp(min=0)
    p = eigenvalues / eigenvalues.sum().clamp(min=1e-300)
    return float((-torch.special.xlogy(p, p).sum()).exp())


def spread(embeddings: Tensor) -> dict[str, float]:
    """`rankme` and `effective_rank`."""
    return {"rankme": rankme(embeddings), "effective_rank": effective_rank(embeddings)}


def collapse(embeddings: Tensor, projections: Tensor, target_std: float | None) -> dict[str, float]:
    """`std`, the mean per-dim deviation of the projections, and `collapsed`.

    collapsed is 1 where the projections have all but stopped varying (deviation below a tenth of `target_std`, or below
    a fiftieth of their root mean square where the loss asks for no deviation) or the embeddings lie on a line.
    """
    std = float(projections.double().std(0).mean())
    if target_std is None:
        still = std < CONSTANT_STD * float(projections.double().square().mean().sqrt())
    else:
        still = std < COLLAPSED_STD * target_std
    return {"std": std, "collapsed": float(still or effective_rank(embeddings) < COLLAPSED_RANK)}
