"""VICReg: variance, invariance and covariance of two views' expanded embeddings."""

from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.encoders import build_projector
from lejepa.losses import vicreg_parts
from lejepa.method_config import VicregConfig
from lejepa.methods.base import Method
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class Vicreg(Method):
    """Facts from facebookresearch/vicreg. Two global views; local views are not made. Evaluates the encoder.

    The reference's expander is 8192-8192-8192; here its width follows `projector`, as for every method, and its last
    layer has neither bias nor BatchNorm. Each view goes through encoder and expander alone, with its own statistics.
    """

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, VicregConfig)
        self.projector = build_projector(config.projector, self.embedding_dim, last_bias=False)
        self.weights = config.method.model_dump(exclude={"name"})

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 2, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        embeddings = [self.encoder(view) for view in views.globals]
        z1, z2 = (self.project(embedding) for embedding in embeddings)
        self.seen = embeddings[0].detach()
        return vicreg_parts(z1, z2, **self.weights)
