"""LeJEPA: predict the centre of the global views from every view, and keep every view's projections Gaussian."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lejepa.averaging import follow
from lejepa.config import TrainConfig
from lejepa.diagnostics import loss_over_lambda
from lejepa.encoders import build_projector
from lejepa.losses import lejepa_parts
from lejepa.method_config import LejepaConfig
from lejepa.methods.base import Method, encode_views
from lejepa.sigreg import NotFinite, SIGReg
from lejepa.sketching import sketching
from lejepa.variants import regularizer
from lejepa.views import Views


class Lejepa(Method):
    """No teacher, no stop-gradient, no predictor, no negatives: (1 − λ)·pred + λ·SIGReg. Evaluates the encoder.

    A variant may have a teacher that makes the centres: an EMA of encoder and projector, its norms by the batch; or a
    predictor between a projection and the centre, of the projector's shape.
    """

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, LejepaConfig)
        self.options = config.method
        self.sigreg = regularizer(config.method, config.seed)
        least = getattr(self.sigreg.statistic, "least", 2)
        if config.batch_size < least:
            raise ValueError(
                f"{config.method.statistic} tests {least} images at least, and batch_size is {config.batch_size}"
            )
        if config.method.predictor:
            self.predictor = build_projector(config.projector, config.projector.dim)
        if config.method.teacher is not None:
            self.teacher = nn.Sequential(copy.deepcopy(self.encoder), copy.deepcopy(self.projector))
            self.teacher.requires_grad_(False)

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        embeddings = encode_views(self, views)
        projections = self.project(embeddings.flatten(0, 1)).unflatten(0, embeddings.shape[:2])
        try:
            return lejepa_parts(
                projections,
                n_global=views.globals.shape[0],
                lamb=self.options.lamb,
                sigreg=self.sigreg,
                step=step,
                centre=self.options.centre,
                weighting=self.options.weighting,
                teacher=None if self.options.teacher is None else self._teach(views),
                predictions=self._predict(projections) if self.options.predictor else None,
            )
        except NotFinite:  # the trainer tells a training that diverged by its loss
            return dict.fromkeys(("loss", "pred", "sigreg"), projections.sum() * torch.nan)

    @torch.no_grad()
    def _teach(self, views: Views) -> Tensor:
        """The teacher's projections of the views that make the centre (Vc, N, K)."""
        passes = [views.globals, views.locals] if self.options.centre == "all" else [views.globals]
        return torch.cat([self.teacher(v.flatten(0, 1)).unflatten(0, v.shape[:2]) for v in passes if v.shape[0]])

    def _predict(self, projections: Tensor) -> Tensor:
        predicted: Tensor = self.predictor(projections.flatten(0, 1))
        return predicted.view_as(projections)

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        if self.options.teacher is None:
            return {}
        student = nn.ModuleList([self.encoder, self.projector])
        follow(self.teacher.parameters(), student.parameters(), self.options.teacher)
        return {"ema": self.options.teacher}

    def describe(self, projections: Tensor, losses: Mapping[str, float]) -> dict[str, float]:
        return regularized(self.sigreg, self.options.lamb, projections, losses["loss"], self.config.batch_size)


def regularized(sigreg: SIGReg, lamb: float, projections: Tensor, loss: float, batch: int) -> dict[str, float]:
    """`loss_over_lambda`, and how much the slices lose; nothing without SIGReg."""
    return {"loss_over_lambda": loss_over_lambda(loss, lamb), **sketching(sigreg, projections, batch)} if lamb else {}
