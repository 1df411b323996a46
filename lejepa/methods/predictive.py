"""Predictive: LeJEPA's prediction with no regulariser at all, and each heuristic as a switch."""

import copy
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lejepa import ranks
from lejepa.averaging import follow
from lejepa.config import TrainConfig
from lejepa.encoders import build_projector
from lejepa.heuristics_config import Heuristics, PredictiveConfig
from lejepa.losses import lejepa_parts, vicreg_parts
from lejepa.method_config import LejepaConfig
from lejepa.methods.base import Method, encode_views
from lejepa.methods.lejepa import regularized
from lejepa.sigreg import NotFinite
from lejepa.variants import regularizer
from lejepa.views import Views
from lejepa.whitening import Whitening


class Predictive(Method):
    """pred = mean over views, images and dims of (μ_n − z_{v,n})², μ_n the mean over the global views of image n.

    Without heuristics it collapses; with `sigreg` alone it is `lejepa`, bit for bit. Each heuristic changes one thing:

    - stop_gradient: none flows through μ. ema_teacher: μ is of a moving average of encoder and projector instead.
    - predictor: an MLP's output takes the place of z in pred, and there alone.
    - normalisation: of the projections, over the rows of all views and ranks (batch, whitening) or in each (layer).
    - negatives, variance_covariance, sigreg: terms on the student's projections, added with their weights.
    - wd_schedule: the trainer's, by `optimizer.weight_decay_end`.

    Evaluates the encoder, with a teacher, too, so that what is compared differs by the heuristic alone.
    """

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, PredictiveConfig)
        self.options: Heuristics = config.method.heuristics
        self.sigreg = regularizer(LejepaConfig(slices=config.method.slices), config.seed)
        if self.options.negatives and self.options.normalisation == "none":
            self.target_std = None  # cosines leave the scale open; elsewhere 1, as for LeJEPA without SIGReg
        self.projector.extend(_normalisation(self.options.normalisation, config.projector.dim))
        if self.options.predictor:
            self.predictor = build_projector(config.projector, config.projector.dim)
        if self.options.ema_teacher is not None:
            self.teacher = nn.Sequential(copy.deepcopy(self.encoder), copy.deepcopy(self.projector))
            self.teacher.requires_grad_(False)

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        embeddings = encode_views(self, views)
        z = self.project(embeddings.flatten(0, 1)).unflatten(0, embeddings.shape[:2])  # (V, N, K)
        try:
            parts = lejepa_parts(
                z,
                n_global=views.globals.shape[0],
                lamb=self.options.sigreg or 0.0,
                sigreg=_nothing if self.options.sigreg is None else self.sigreg,
                step=step,
                teacher=self._centre(z, views),
                predictions=self.predictor(z.flatten(0, 1)).view_as(z) if self.options.predictor else None,
            )
        except NotFinite:  # the trainer tells a training that diverged by its loss
            parts = dict.fromkeys(("loss", "pred", "sigreg"), z.sum() * torch.nan)
        if self.options.sigreg is None:
            del parts["sigreg"]
        return self._with_terms(parts, z, views.globals.shape[0])

    def _centre(self, z: Tensor, views: Views) -> Tensor | None:
        """The projections (Vg, N, K) whose mean is the centre, without gradient; None: the student's, with it."""
        if self.options.ema_teacher is not None:
            with torch.no_grad():
                taught: Tensor = self.teacher(views.globals.flatten(0, 1))
            return taught.unflatten(0, views.globals.shape[:2])
        return z[: views.globals.shape[0]].detach() if self.options.stop_gradient else None

    def _with_terms(self, parts: dict[str, Tensor], z: Tensor, n_global: int) -> dict[str, Tensor]:
        if negatives := self.options.negatives:
            parts["negatives"] = repulsion(z[:n_global].flatten(0, 1), temperature=negatives.temperature)
            parts["loss"] = parts["loss"] + negatives.weight * parts["negatives"]
        if weights := self.options.variance_covariance:
            each = [vicreg_parts(view, view) for view in z]  # std of one view, cov twice that of one view
            parts["variance"] = torch.stack([part["std"] for part in each]).mean()
            parts["covariance"] = torch.stack([part["cov"] for part in each]).mean()
            parts["loss"] = parts["loss"] + weights.variance * parts["variance"]
            parts["loss"] = parts["loss"] + weights.covariance * parts["covariance"]
        return parts

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        if self.options.ema_teacher is None:
            return {}
        momentum = scheduled(self.options.ema_schedule, self.options.ema_teacher, step / steps)
        student = nn.ModuleList([self.encoder, self.projector])
        follow(self.teacher.parameters(), student.parameters(), momentum)
        return {"ema": momentum}

    def describe(self, projections: Tensor, losses: Mapping[str, float]) -> dict[str, float]:
        return regularized(self.sigreg, self.options.sigreg or 0.0, projections, losses["loss"], self.config.batch_size)


def repulsion(z: Tensor, *, temperature: float) -> Tensor:
    """Mean over rows of log Σ exp(cos / temperature) over all other rows; z (M, K), of all ranks together.

    The second half of NT-Xent: with − cos / temperature of the two views of an image it is that loss.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(ranks.gather(z if z.dtype == torch.float64 else z.float(), 0))
        cosines = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
        return cosines.logsumexp(1).mean()


def scheduled(schedule: str, start: float, progress: float) -> float:
    """The momentum after a share of the training: `start`, or on a line or a cosine from there to 1."""
    match schedule:
        case "linear":
            return start + (1 - start) * progress
        case "cosine":
            return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2
        case _:
            return start


def _normalisation(name: str, dim: int) -> list[nn.Module]:
    match name:
        case "batch":
            return [nn.BatchNorm1d(dim, affine=False)]
        case "layer":
            return [nn.LayerNorm(dim, elementwise_affine=False)]
        case "whitening":
            return [Whitening(dim)]
        case _:
            return []


def _nothing(z: Tensor, *, step: int) -> Tensor:
    return z.new_zeros(())
