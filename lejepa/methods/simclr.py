"""SimCLR: tell an image's other view from all other images' views."""

from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.heads import projector
from lejepa.joint_config import SimclrConfig
from lejepa.losses import nt_xent
from lejepa.methods.base import Method, encode_views
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class Simclr(Method):
    """Facts from google-research/simclr (model.py, model_util.py, objective.py). Evaluates the encoder.

    Heuristic: negatives, the views of all other images of the global batch. Both views go through encoder and projector
    together. The projector is 2048-2048-128 in the reference, with BatchNorm without shift on its output.
    """

    target_std = None

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, SimclrConfig)
        self.temperature = config.method.temperature
        self.projector = projector(config.projector, self.embedding_dim, output_norm="scaled")

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 2, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        z1, z2 = self.project(encode_views(self, views).flatten(0, 1)).chunk(2)
        return {"loss": nt_xent(z1, z2, temperature=self.temperature)}
