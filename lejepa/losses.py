"""The losses as pure functions: tensors positional, hyperparameters keyword-only; each returns a scalar.

A `*_parts` twin returns the loss with its unweighted parts, for the logs. All are computed in the dtype they are given,
float32 at least, whatever the autocast.

On several processes, `vicreg`, `barlow_twins`, `nt_xent` and the regularisers of `lejepa` are losses over the global
batch, of which every rank must hold as many images as the others: the value is the same on every rank, and the mean of
the ranks' gradients is the gradient for the global batch (see `lejepa.ranks`). The others are means over this rank's
images; `moco_v3` compares them with the keys of all ranks.
"""

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lejepa import ranks
from lejepa.precision import at_least_float32

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
    z = at_least_float32(projections)
    seen = z[:n_global] if centre == "globals" else z
    mean = seen.mean(0) if teacher is None else teacher.detach().to(z.dtype).mean(0)  # (N, D)
    pred = (mean - (z if predictions is None else at_least_float32(predictions))).square().mean()
    if centre == "pairs":
        pred = pred * (2 * views / (views - 1))
    regularization = sigreg(z, step=step)
    kept = 1 - lamb if weighting == "convex" else 1.0
    return {"loss": kept * pred + lamb * regularization, "pred": pred, "sigreg": regularization}


# -- of the statistics of a batch -------------------------------------------------------------------------------------


def vicreg(z1: Tensor, z2: Tensor, *, inv: float = 25.0, std: float = 25.0, cov: float = 1.0) -> Tensor:
    """inv·MSE + std·hinge + cov·covariance of two views' embeddings, each (N, D), over the global batch.

    hinge = mean over dims of relu(1 − sqrt(var + 1e-4)), unbiased variance, averaged over the two views; covariance =
    sum of squared off-diagonal entries / D, denominator N − 1, summed over the views. Source: facebookresearch/vicreg.
    """
    return vicreg_parts(z1, z2, inv=inv, std=std, cov=cov)["loss"]


def vicreg_parts(
    z1: Tensor, z2: Tensor, *, inv: float = 25.0, std: float = 25.0, cov: float = 1.0
) -> dict[str, Tensor]:
    """`loss`, `inv`, `std` and `cov` of `vicreg`."""
    z1, z2 = _pair(z1, z2)
    _global_batch(z1, least=2)
    z1, z2 = ranks.gather(z1, 0), ranks.gather(z2, 0)
    invariance = (z1 - z2).square().mean()
    hinge = (_std_hinge(z1) + _std_hinge(z2)) / 2
    covariance = _off_diagonal_covariance(z1) + _off_diagonal_covariance(z2)
    loss = inv * invariance + std * hinge + cov * covariance
    return {"loss": loss, "inv": invariance, "std": hinge, "cov": covariance}


def _std_hinge(z: Tensor) -> Tensor:
    return torch.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()


def _off_diagonal_covariance(z: Tensor) -> Tensor:
    n, d = z.shape
    centred = z - z.mean(0)
    return _off_diagonal(_product(centred.T, centred) / (n - 1)) / d


def barlow_twins(z1: Tensor, z2: Tensor, *, off_diagonal: float = 0.0051) -> Tensor:
    """Σ (C_ii − 1)² + off_diagonal·Σ_{i≠j} C_ij², C (D, D) the cross-correlation of two views' projections (N, D).

    C = BN(z1)ᵀ·BN(z2) / N over the global batch; BN without affine: biased variance + 1e-5.
    Source: facebookresearch/barlowtwins, main.py.
    """
    return barlow_twins_parts(z1, z2, off_diagonal=off_diagonal)["loss"]


def barlow_twins_parts(z1: Tensor, z2: Tensor, *, off_diagonal: float = 0.0051) -> dict[str, Tensor]:
    """`loss`, `on` (the diagonal's term) and `off` of `barlow_twins`."""
    z1, z2 = _pair(z1, z2)
    n = _global_batch(z1, least=2)
    correlation = ranks.total(_product(_standardised(z1, n).T, _standardised(z2, n))) / n
    on, off = (correlation.diagonal() - 1).square().sum(), _off_diagonal(correlation)
    return {"loss": on + off_diagonal * off, "on": on, "off": off}


def _standardised(z: Tensor, n: int) -> Tensor:
    """Every dim at mean 0 and variance 1 over the n rows of all ranks."""
    centred = z - ranks.total(z.sum(0)) / n
    variance = ranks.total(centred.square().sum(0)) / n
    return centred * (variance + 1e-5).rsqrt()


def _off_diagonal(square: Tensor) -> Tensor:
    """The sum of squares off the diagonal."""
    return square.square().sum() - square.diagonal().square().sum()


# -- with negatives ---------------------------------------------------------------------------------------------------


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of telling a row's other view from all other rows, by cosine / temperature, mean over the 2N rows.

    z1, z2: (N, D) on each rank; the rows of all ranks are negatives, with gradient; a row is not compared with itself.
    Source: google-research/simclr, objective.py, which sums the two directions: twice this mean.
    """
    z1, z2 = _pair(z1, z2)
    _check_positive(temperature=temperature)
    n, everywhere = len(z1), _global_batch(z1)
    z = F.normalize(torch.stack([z1, z2]), dim=2)  # (2, n, D)
    first = torch.arange(n, device=z.device) + n * ranks.rank()
    own = torch.cat([first, first + everywhere])  # where this rank's rows stand among the 2N
    logits = _product(z.flatten(0, 1), ranks.gather(z, 1).flatten(0, 1).T) / temperature  # (2n, 2N)
    logits = logits.scatter(1, own.unsqueeze(1), -torch.inf)
    return ranks.total(F.cross_entropy(logits, own.roll(n), reduction="sum")) / (2 * everywhere)


def moco_v3(q: Tensor, k: Tensor, *, temperature: float) -> Tensor:
    """2·temperature times the cross-entropy of telling a query's key from the keys of all ranks; one side.

    q, k: (N, D), predictions and the momentum encoder's projections; cosine / temperature; no gradient to the keys.
    Source: facebookresearch/moco-v3, moco/builder.py.
    """
    q, k = _pair(q, k.detach())
    _check_positive(temperature=temperature)
    _global_batch(q)
    keys = ranks.gather(F.normalize(k, dim=1), 0)  # (N of all ranks, D)
    wanted = torch.arange(len(q), device=q.device) + len(q) * ranks.rank()
    logits = _product(F.normalize(q, dim=1), keys.T) / temperature
    return 2 * temperature * F.cross_entropy(logits, wanted)


# -- without negatives ------------------------------------------------------------------------------------------------


def byol(p: Tensor, z: Tensor) -> Tensor:
    """Mean of 2 − 2·cos(p, z) over (N, D): the squared distance on the sphere; one side. z gets a gradient, if it asks.

    Source: deepmind-research, byol/byol_experiment.py, which stops the gradient of z before.
    """
    p, z = _pair(p, z)
    return (2 - 2 * F.cosine_similarity(p, z, dim=1)).mean()


def simsiam(p: Tensor, z: Tensor) -> Tensor:
    """−cos(p, z), mean over (N, D); one side. No gradient to z. Source: facebookresearch/simsiam, main_simsiam.py."""
    p, z = _pair(p, z.detach())
    return -F.cosine_similarity(p, z, dim=1).mean()


def dino(
    student: Tensor, teacher: Tensor, *, center: Tensor, student_temp: float, teacher_temp: float | Tensor
) -> Tensor:
    """Cross-entropy of the student's distribution against the teacher's, mean over one pair of views' logits (N, K).

    They are softmax((teacher − center) / teacher_temp), without gradient, and softmax(student / student_temp); center:
    (K,) or (1, K). Source: facebookresearch/dino, main_dino.py.
    """
    return dino_parts(student, teacher, center=center, student_temp=student_temp, teacher_temp=teacher_temp)["loss"]


def dino_parts(
    student: Tensor, teacher: Tensor, *, center: Tensor, student_temp: float, teacher_temp: float | Tensor
) -> dict[str, Tensor]:
    """`loss` = `entropy` + `kl`, and `information`, all in nats.

    entropy: of the teacher's distributions, mean; ln K where they are uniform. kl: from the teacher's to the student's.
    information: what the teacher's distribution tells about which of the N images it is of, from 0 to the least of ln N
    and ln K; 0 where it is the same for all, uniform or not.
    """
    student, teacher = _pair(student, teacher.detach())
    _check_positive(student_temp=student_temp)
    target = (teacher - center.detach()) / teacher_temp
    p, log_p, log_q = target.softmax(1), target.log_softmax(1), (student / student_temp).log_softmax(1)
    loss = -(p * log_q).sum(1).mean()
    entropy = -(p * log_p).sum(1).mean()
    mean = p.mean(0)
    information = -torch.special.xlogy(mean, mean).sum() - entropy
    return {"loss": loss, "entropy": entropy, "kl": loss.detach() - entropy, "information": information}


def masked_smooth_l1(pred: Tensor, target: Tensor, *, beta: float) -> Tensor:
    """Mean smooth L1 of predicted against target patch embeddings, any shape (…, D).

    ½·d²/β where |d| < β, else |d| − β/2. Sources: facebookresearch/ijepa (β = 1), data2vec_vision (β = 2).
    """
    return F.smooth_l1_loss(at_least_float32(pred), at_least_float32(target), beta=beta)


# -- what all share ---------------------------------------------------------------------------------------------------


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 at least. ValueError unless they are of one shape (N, D)."""
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"the loss takes two tensors of one shape (N, D), not {tuple(a.shape)} and {tuple(b.shape)}")
    return at_least_float32(a), at_least_float32(b)


def _global_batch(z: Tensor, least: int = 1) -> int:
    """The rows of all ranks. ValueError where there are fewer than `least`, or ranks hold unequal numbers."""
    n = ranks.global_batch(len(z), z.device)
    if n < least:
        raise ValueError(f"the loss takes the statistics of {least} images at least, not of {n}")
    return n


def _check_positive(**temperatures: float) -> None:
    for name, value in temperatures.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a·b in their own dtype: autocast would take a matrix product to bf16."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
