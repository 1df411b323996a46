"""VICReg: variance, invariance and covariance of two views' expanded embeddings."""

from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.heads import projector
from lejepa.joint_config import VicregConfig
from lejepa.losses import vicreg_parts
from lejepa.methods.base import Method, encode_apart
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
        self.projector = projector(config.projector, self.embedding_dim)
        self.weights = config.method.model_dump(exclude={"name"})

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 2, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        z1, z2 = (self.project(embedding) for embedding in encode_apart(self, views.globals))
        return vicreg_parts(z1, z2, **self.weights)
