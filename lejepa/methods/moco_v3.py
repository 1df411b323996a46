"""MoCo v3: tell the key of an image's other view from all other images' keys, which a momentum encoder gives."""

from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.heads import predictor, projector
from lejepa.joint_config import MocoV3Config
from lejepa.losses import moco_v3
from lejepa.methods.base import encode_apart
from lejepa.methods.teacher import Taught, cosine_to_one
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class MocoV3(Taught):
    """Facts from facebookresearch/moco-v3 (moco/builder.py, main_moco.py). Evaluates the momentum encoder.

    The reference's linear probe reads the base encoder (main_lincls.py); here every method with a teacher is judged by
    its teacher.

    Heuristics: EMA teacher (momentum by a cosine to 1), stop-gradient, predictor, negatives, a ViT's patch embedding
    frozen. Both directions are summed. Projector 4096-4096-256 and predictor 4096-256 without biases, BatchNorm without
    affine on both outputs. The momentum encoder moves before it gives the keys.
    """

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, MocoV3Config)
        self.options = config.method
        hidden = config.method.predictor_hidden or config.projector.hidden
        self.projector = projector(config.projector, self.embedding_dim, output_norm="fixed")
        self.predictor = predictor(config.projector, hidden, output_norm="fixed")
        self.start_teacher()
        if config.method.freeze_patches and hasattr(self.encoder, "patch_embed"):
            self.encoder.patch_embed.requires_grad_(False)

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 2, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        q1, q2 = (self.predictor(self.projector(e)) for e in encode_apart(self, views.globals))
        k1, k2 = self.teach(views.globals)
        temperature = self.options.temperature
        return {"loss": moco_v3(q1, k2, temperature=temperature) + moco_v3(q2, k1, temperature=temperature)}

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        # The reference moves it at the start of the next step, by that step's momentum: 1 after the last step, which
        # has no next one; and its first move, of equal weights, changes nothing.
        momentum = cosine_to_one(self.options.ema, step + 1, steps)
        self.follow(momentum)
        return {"ema": momentum}
