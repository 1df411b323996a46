"""Features without labels: do they vary, in how many dimensions, how far from isotropic, and have they collapsed.

The numbers belong to the evaluation protocol (lejepa/probes.py). They are of val; where there are more than ROWS images
they are of ROWS rows, evenly spaced, as files often come sorted by class.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lejepa.sigreg import EppsPulley, SIGReg

ROWS = 10_000
COLLAPSED_STD = 0.1  # share of the deviation that the loss asks for
CONSTANT_STD = 0.02  # share of the root mean square, where the loss asks for none
COLLAPSED_RANK = 1.2  # a line has 1


def describe(
    embeddings: Tensor, projections: Tensor | None = None, *, target_std: float | None = None, batch: int = 128
) -> dict[str, float]:
    """What an evaluation records: `spread` of embeddings (N, D), `collapse` and `gaussianity` of projections (N, K).

    projections: None where nothing is trained. target_std: the deviation per dimension that the loss asks of them, if
    it asks for one. batch: images whose projections SIGReg tests. Finite features give finite numbers. On several ranks
    all must call it, with the same features.
    """
    if projections is None:
        return spread(embeddings)
    return spread(embeddings) | collapse(embeddings, projections, target_std) | gaussianity(projections, batch)


# -- how many dimensions ----------------------------------------------------------------------------------------------


def spread(embeddings: Tensor) -> dict[str, float]:
    """`rankme`, `effective_rank` and `condition`."""
    return {
        "rankme": rankme(embeddings),
        "effective_rank": effective_rank(embeddings),
        "condition": condition(embeddings),
    }


def rankme(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values, p = σ/Σσ + 1e-7 (RankMe, Eq. 2). From 1 to D.

    The features are not centred: a mean far from 0 counts as one strong dimension.
    """
    sigma = _squared_singular_values(evenly(features, ROWS).double()).sqrt()
    p = sigma / sigma.sum().clamp(min=1e-30) + 1e-7
    return float((-(p * p.log()).sum()).exp())


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised eigenvalues of the covariance: 1 on a line, D when isotropic."""
    return _exp_entropy(_covariance_eigenvalues(features))


def condition(features: Tensor) -> float:
    """log10 of the largest over the smallest eigenvalue of the covariance: 0 when isotropic, 12 at most (singular)."""
    eigenvalues = _covariance_eigenvalues(features)
    largest = float(eigenvalues.max())
    if len(eigenvalues) < features.shape[1] or largest == 0:
        return 12.0
    return math.log10(largest / max(float(eigenvalues.min()), 1e-12 * largest))


def lidar(embeddings: Tensor, delta: float = 1e-4) -> float:
    """Effective rank of what tells images apart, relative to what tells views of one image apart; from 1 to D.

    embeddings: (n, q, D), of q ≥ 2 augmented views of each of n ≥ 2 images; 1,000 and 50 in the paper. exp of the
    entropy of the normalised eigenvalues of Σ_w^-½ Σ_b Σ_w^-½, Σ_b the covariance of the images' means, Σ_w the mean
    covariance within images + delta·I, both unbiased (Thilak et al. 2023, arXiv 2312.04000). At most n − 1. delta is
    absolute: compare encoders whose embeddings have about the same scale. ValueError for other shapes.
    """
    if embeddings.ndim != 3 or min(embeddings.shape[:2]) < 2:
        raise ValueError(f"LiDAR needs (n, q, D), n and q of 2 or more, not {tuple(embeddings.shape)}")
    x = embeddings.double()
    n, q = x.shape[:2]
    means = x.mean(1)
    within = (x - means.unsqueeze(1)).flatten(0, 1)
    values, vectors = torch.linalg.eigh(within.T @ within / (n * (q - 1)))
    whitened = (means - means.mean(0)) @ (vectors * (values.clamp(min=0) + delta).rsqrt())
    return _exp_entropy(_squared_singular_values(whitened))


def _covariance_eigenvalues(features: Tensor) -> Tensor:
    rows = evenly(features, ROWS).double()
    return _squared_singular_values(rows - rows.mean(0)) / len(rows)


def _squared_singular_values(x: Tensor) -> Tensor:
    """Of (N, D) float64: min(N, D) of them, ascending. Of the smaller Gram matrix: an SVD takes much longer."""
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    return torch.linalg.eigvalsh(gram).clamp(min=0)


def _exp_entropy(values: Tensor) -> float:
    """Of values that are not negative, normalised to sum 1; 1 where all are 0."""
    p = values / values.sum().clamp(min=1e-300)
    return float((-torch.special.xlogy(p, p).sum()).exp())


def evenly(features: Tensor, most: int) -> Tensor:
    """At most so many rows of (N, …), evenly spaced, the first among them."""
    n = len(features)
    if n <= most:
        return features
    return features[torch.arange(most, device=features.device) * n // most]


# -- collapse ---------------------------------------------------------------------------------------------------------


def collapse(embeddings: Tensor, projections: Tensor, target_std: float | None) -> dict[str, float]:
    """`std`, `std_min`: mean and least deviation of the projections' dims; `dead`: the share of dims that stand still.

    A dim stands still where it deviates by less than a tenth of `target_std`, or, without one, by less than a fiftieth
    of the projections' root mean square. `collapsed_variance` is 1 where the mean deviation does, `collapsed_rank`
    where the embeddings lie on a line (effective rank below 1.2), `collapsed` where either is; else 0.
    """
    rows = projections.double()
    deviations = rows.std(0)
    still = COLLAPSED_STD * target_std if target_std is not None else CONSTANT_STD * float(rows.square().mean().sqrt())
    std = float(deviations.mean())
    variance, rank = std <= still, effective_rank(embeddings) < COLLAPSED_RANK
    return {
        "std": std,
        "std_min": float(deviations.min()),
        "dead": float((deviations <= still).double().mean()),
        "collapsed": float(variance or rank),
        "collapsed_variance": float(variance),
        "collapsed_rank": float(rank),
    }


def why(metrics: Mapping[str, float]) -> str | None:
    """In words, why metrics (with or without their `diag/`) call a training collapsed; None where they do not."""
    read = {name.removeprefix("diag/"): value for name, value in metrics.items()}
    reasons = []
    if read.get("collapsed_variance"):
        reasons.append(f"the projections hardly vary (mean deviation per dimension {read['std']:.2g})")
    if read.get("collapsed_rank"):
        reasons.append(f"the embeddings lie on a line (effective rank {read['effective_rank']:.2f})")
    if read.get("collapsed_loss"):
        reasons.append("the loss is that of outputs that tell nothing of the images")
    return " and ".join(reasons) or None


# -- how far from a Gaussian ------------------------------------------------------------------------------------------


def gaussianity(projections: Tensor, batch: int) -> dict[str, float]:
    """`sigreg` of `batch` rows of the projections (1,024 slices, always the same) and `sigreg_share` of it."""
    rows = evenly(projections, batch)
    per_image = float(SIGReg(scale="none")(rows.unsqueeze(0), step=0))  # the same on one rank and on several
    return {"sigreg": per_image * len(rows), "sigreg_share": sigreg_share(per_image * len(rows), len(rows))}


def sigreg_share(value: float, n: int) -> float:
    """(value − floor) / (ceiling − floor) of SIGReg on n images: about 0 for N(0, I), 1 where all lie at the origin.

    The floor is the expectation on Gaussian samples, 1.05 whatever n; the ceiling grows with n. Below 0: more regular
    than a sample would be. Above 1: worse than at the origin, as are embeddings far out, or all at another point.
    """
    floor, ceiling = sigreg_bounds(n)
    return (value - floor) / (ceiling - floor)


def sigreg_bounds(n: int) -> tuple[float, float]:
    """What the Epps–Pulley statistic reads on n samples of N(0, 1), in expectation, and on n zeros."""
    test = EppsPulley()
    floor = (test.weight * (1 - test.phi.square())).sum()  # n·E|φ̂ − φ|² = 1 − φ² for independent samples
    ceiling = n * (test.weight * (1 - test.phi).square()).sum()
    return float(floor), float(ceiling)


def loss_over_lambda(loss: float, lamb: float, alpha: float = 0.4) -> float:
    """Training loss / λ^α, which ranks LeJEPA trainings of different λ without labels (paper §4.4; lower is better).

    The paper chose α ≈ 0.4 on the trainings that it ranks. ValueError where λ is not positive.
    """
    if lamb <= 0:
        raise ValueError(f"loss / λ^α has no meaning at λ = {lamb}; λ must be positive")
    return loss / lamb**alpha
