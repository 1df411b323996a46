"""The losses that are called LeJEPA, as values, and λ carried from one to another.

A LejepaConfig says everything that the published codes disagree about: `PRESETS` has them. λ is not portable between
them: the statistic may be scaled by the batch or not, the two terms weighted (1 − λ, λ) or (1, λ), the prediction
measured to a centre or between pairs. `convert_lambda` does the arithmetic, and measures how far it holds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lejepa import gaussianity
from lejepa.losses import lejepa
from lejepa.method_config import LejepaConfig
from lejepa.seeding import generator
from lejepa.sigreg import EppsPulley, SIGReg

PRESETS: dict[str, LejepaConfig] = {
    # Algorithms 1 and 2 as coded: 17 knots on [−5, 5]; the text has 1,024 slices, the argument's default is 256
    "paper": LejepaConfig(t_max=5.0, knots=17, interval="whole", slices=1024, lamb=0.05),
    # rbalestr-lab/lejepa: EppsPulley in SlicingUnivariateTest, weighted as in its README
    "official": LejepaConfig(),
    # rbalestr-lab/lejepa, MINIMAL.md: equal views, their mean as the centre; each rank tests its own batch there
    "minimal": LejepaConfig(centre="all", slices=256, lamb=0.02),
    # lightly-ai/lightly, LeJEPALoss
    "lightly": LejepaConfig(),
    # rbalestr-lab/stable-pretraining, LeJEPA: all views in one sample
    "stable_pretraining": LejepaConfig(sample="pooled", weighting="additive", lamb=0.02),
    # facebookresearch/eb_jepa, BCS: two views, the mean squared error between them, no factor N
    "eb_jepa": LejepaConfig(
        t_max=3.0, knots=10, interval="whole", slices=256, scale="none", centre="pairs", weighting="additive", lamb=10.0
    ),
}

STATISTICS: dict[str, type[nn.Module]] = {
    "anderson_darling": gaussianity.AndersonDarling,
    "cramer_von_mises": gaussianity.CramerVonMises,
    "watson": gaussianity.Watson,
    "extended_jarque_bera": gaussianity.ExtendedJarqueBera,
    "shapiro_wilk": gaussianity.ShapiroWilk,
    "vcreg": gaussianity.VCReg,
    "vicreg": gaussianity.VICReg,
    "moments": gaussianity.Moments,
}


def regularizer(variant: LejepaConfig, seed: int = 0) -> SIGReg:
    """SIGReg as a variant has it."""
    if variant.statistic == "epps_pulley":
        statistic: nn.Module = EppsPulley(variant.t_max, variant.knots, variant.interval)
    else:
        statistic = STATISTICS[variant.statistic]()
    return SIGReg(
        variant.slices, statistic, seed, sample=variant.sample, directions=variant.directions, scale=variant.scale
    )


@dataclass(frozen=True)
class Conversion:
    """λ in another convention. The two losses are then equal up to a constant factor, but for the quadrature."""

    lamb: float
    factor: float  # the loss of `to` over the loss of `from_`: what a learning rate without Adam would have to follow
    gradient_error: float  # ‖factor·∇from − ∇to‖ / ‖∇to‖, on skewed embeddings of unit variance; see convert_lambda


def convert_lambda(
    value: float,
    *,
    from_: str | LejepaConfig,
    to: str | LejepaConfig,
    batch: int,
    views: int,
    n_global: int | None = None,
) -> Conversion:
    """The λ of `to` that weighs prediction against SIGReg as `value` does in `from_`.

    from_, to: names of PRESETS, or variants (whose own λ is not looked at). batch: images of all ranks together.
    n_global: views that are global; None: all. Slices are taken as many enough, and integration ranges as wide enough:
    what narrow or coarse ones change is in `gradient_error`, and is ten times that where embeddings have more than
    twice the deviation that they should. ValueError with the reason where no λ makes the losses equal, and where
    `value` is no λ of `from_`.
    """
    source, target = (PRESETS[v] if isinstance(v, str) and v in PRESETS else v for v in (from_, to))
    for name in (source, target):
        if isinstance(name, str):
            raise ValueError(f"unknown variant {name!r}; there are {', '.join(PRESETS)}")
    assert isinstance(source, LejepaConfig)
    assert isinstance(target, LejepaConfig)
    n_global = views if n_global is None else n_global
    if batch < 2 or views < 1 or not 1 <= n_global <= views:
        raise ValueError(f"batch must be 2 or more and 1 ≤ n_global ≤ views, not {batch}, {n_global} and {views}")
    _refuse_what_no_factor_joins(source, target, views, n_global)
    if not 0 <= value < (1 if source.weighting == "convex" else float("inf")):
        raise ValueError(f"λ must be in {'[0, 1)' if source.weighting == 'convex' else '[0, ∞)'}, not {value}")

    ratio = value / (1 - value) if source.weighting == "convex" else value
    ratio *= _terms(source, batch, views)[1] / _terms(source, batch, views)[0]  # SIGReg per prediction, bare
    ratio /= _terms(target, batch, views)[1] / _terms(target, batch, views)[0]
    lamb = ratio / (1 + ratio) if target.weighting == "convex" else ratio
    shares = [1 - lamb if v.weighting == "convex" else 1.0 for v, lamb in ((source, value), (target, lamb))]
    factor = shares[1] * _terms(target, batch, views)[0] / (shares[0] * _terms(source, batch, views)[0])
    before = _gradient(source, value, batch, views, n_global)
    after = _gradient(target, lamb, batch, views, n_global)
    return Conversion(lamb, factor, float((factor * before - after).norm() / after.norm()))


def _terms(variant: LejepaConfig, batch: int, views: int) -> tuple[float, float]:
    """How often a variant holds the bare terms: the prediction around a mean, the statistic without factor N."""
    prediction = 2 * views / (views - 1) if variant.centre == "pairs" else 1.0
    sample = batch * views if variant.sample == "pooled" else batch
    return prediction, float(sample) if variant.scale == "batch" else 1.0


def _refuse_what_no_factor_joins(source: LejepaConfig, target: LejepaConfig, views: int, n_global: int) -> None:
    if source.sample != target.sample:
        raise ValueError(
            "a pooled sample and samples per view ask for different things: pooled, only the mixture of all views must "
            "be Gaussian, and its gradient is no multiple of the mean of the views' gradients; no λ joins them"
        )
    if source.statistic != target.statistic:
        raise ValueError(f"no factor joins the statistics {source.statistic} and {target.statistic}")
    if source.statistic != "epps_pulley" and source.scale != target.scale:
        raise ValueError(f"scale is converted for epps_pulley, not for {source.statistic}")
    if source.teacher != target.teacher:
        raise ValueError("a teacher stops the gradient through the centre, and moves slower; no λ makes up for it")
    if "pairs" in (source.centre, target.centre) and views < 2:
        raise ValueError(f"centre: pairs needs two views, not {views}")
    if "globals" in (source.centre, target.centre) and source.centre != target.centre and n_global < views:
        raise ValueError(
            f"the mean of {n_global} global views is another centre than that of all {views}; no factor joins the "
            f"predictions to {source.centre} and to {target.centre} unless all views are global"
        )


def _gradient(variant: LejepaConfig, lamb: float, batch: int, views: int, n_global: int) -> Tensor:
    """∂ loss / ∂ projections, without the noise of slices; float64 (V, N, 16), views of skewed, correlated images."""
    draw = generator(0)
    images = torch.randn(batch, 16, generator=draw, dtype=torch.float64).exp()
    images = (images - images.mean(0)) / images.std(0)
    noise = torch.randn(views, batch, 16, generator=draw, dtype=torch.float64)
    z = (0.9 * images + 0.4 * noise).requires_grad_()
    slices = "exact" if variant.statistic == "epps_pulley" else 512
    sigreg = regularizer(variant.model_copy(update={"slices": slices, "directions": "fixed"}))
    loss = lejepa(
        z, n_global=n_global, lamb=lamb, sigreg=sigreg, step=0, centre=variant.centre, weighting=variant.weighting
    )
    (gradient,) = torch.autograd.grad(loss, z)
    return gradient
