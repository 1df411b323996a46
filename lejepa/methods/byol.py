"""BYOL: predict the projection that a moving average of the network gives to the other view."""

from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.heads import predictor, projector
from lejepa.joint_config import ByolConfig
from lejepa.losses import byol
from lejepa.methods.base import encode_apart
from lejepa.methods.teacher import Taught, cosine_to_one
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class Byol(Taught):
    """Facts from deepmind-research (byol/byol_experiment.py, utils/networks.py). Evaluates the target.

    The paper keeps the online encoder (§3.1); here every method with a teacher is judged by its teacher.

    Heuristics: EMA teacher (momentum by a cosine to 1), stop-gradient, predictor, projections of length 1, views drawn
    unlike each other. Both directions are summed. Projector and predictor are 4096-256 in the reference, the last layer
    without bias.
    """

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, ByolConfig)
        self.options = config.method
        self.projector = projector(config.projector, self.embedding_dim)
        self.predictor = predictor(config.projector, config.method.predictor_hidden or config.projector.hidden)
        self.start_teacher()

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 2, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        p1, p2 = (self.predictor(self.projector(e)) for e in encode_apart(self, views.globals))
        z1, z2 = self.teach(views.globals)
        return {"loss": byol(p1, z2) + byol(p2, z1)}

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        momentum = cosine_to_one(self.options.ema, step, steps)
        self.follow(momentum)
        return {"ema": momentum}
