"""LeJEPA: predict the centre of the global views from every view, and keep every view's projections Gaussian."""

import torch
from torch import Tensor

from lejepa.config import LejepaConfig, TrainConfig
from lejepa.losses import lejepa_parts
from lejepa.methods.base import Method, encode_views
from lejepa.sigreg import EppsPulley, NotFinite, SIGReg
from lejepa.views import Views


class Lejepa(Method):
    """No teacher, no stop-gradient, no predictor, no negatives: (1 − λ)·pred + λ·SIGReg. Evaluates the encoder."""

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, LejepaConfig)
        self.lamb = config.method.lamb
        statistic = EppsPulley(config.method.t_max, config.method.knots)
        self.sigreg = SIGReg(config.method.slices, statistic, seed=config.seed)

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        embeddings = encode_views(self, views)
        projections = self.project(embeddings.flatten(0, 1)).unflatten(0, embeddings.shape[:2])
        try:
            return lejepa_parts(
                projections, n_global=views.globals.shape[0], lamb=self.lamb, sigreg=self.sigreg, step=step
            )
        except NotFinite:  # the trainer tells a training that diverged by its loss
            return dict.fromkeys(("loss", "pred", "sigreg"), projections.sum() * torch.nan)
