"""SimSiam: predict the other view's projection, which gets no gradient."""

from collections.abc import Iterable

from torch import Tensor, nn

from lejepa.config import TrainConfig
from lejepa.heads import predictor, projector
from lejepa.joint_config import SimsiamConfig
from lejepa.losses import simsiam
from lejepa.methods.base import Method, encode_apart
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class Simsiam(Method):
    """Facts from facebookresearch/simsiam (simsiam/builder.py, main_simsiam.py). Evaluates the encoder.

    Heuristics: stop-gradient, a predictor that learns at a constant rate, projections of length 1. The projector is
    2048-2048-2048 in the reference, with BatchNorm without affine on its output, the predictor 512-2048 without.
    """

    target_std = None

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, SimsiamConfig)
        self.options = config.method
        hidden = config.method.predictor_hidden or max(1, config.projector.dim // 4)
        self.projector = projector(config.projector, self.embedding_dim, output_norm="fixed")
        self.predictor = predictor(config.projector, hidden, bias=True)

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 2, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        z1, z2 = (self.project(embedding) for embedding in encode_apart(self, views.globals))
        return {"loss": (simsiam(self.predictor(z1), z2) + simsiam(self.predictor(z2), z1)) / 2}

    def at_constant_rate(self) -> Iterable[nn.Parameter]:
        return self.predictor.parameters() if self.options.constant_rate else ()
