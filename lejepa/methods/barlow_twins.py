"""Barlow Twins: the cross-correlation of two views' projections as close to the identity as possible."""

from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.heads import projector
from lejepa.joint_config import BarlowTwinsConfig
from lejepa.losses import barlow_twins_parts
from lejepa.methods.base import Method, encode_apart
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class BarlowTwins(Method):
    """Facts from facebookresearch/barlowtwins (main.py). Evaluates the encoder.

    Heuristics: BatchNorm of the projections, decorrelation. The reference's projector is 8192-8192-8192, its last layer
    without bias. Left out: LARS's separate rate for biases and norms.
    """

    target_std = None  # the loss standardises

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, BarlowTwinsConfig)
        self.off_diagonal = config.method.off_diagonal
        self.projector = projector(config.projector, self.embedding_dim)

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 2, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        z1, z2 = (self.project(embedding) for embedding in encode_apart(self, views.globals))
        return barlow_twins_parts(z1, z2, off_diagonal=self.off_diagonal)
