"""I-JEPA: predict the EMA teacher's patch embeddings of target blocks from one context block."""

import copy

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lejepa import ranks
from lejepa.averaging import follow
from lejepa.config import TrainConfig
from lejepa.losses import masked_smooth_l1
from lejepa.masked_config import IjepaConfig
from lejepa.masks import mask_generator, multiblock, of_rank
from lejepa.methods.base import Method
from lejepa.view_config import ViewsConfig
from lejepa.views import Views
from lejepa.vit import SmallViT, pick, sincos_positions


class Ijepa(Method):
    """Facts from facebookresearch/ijepa (train.py, helper.py, vision_transformer.py). Evaluates the target encoder.

    Heuristics: EMA teacher (momentum linear to 1), stop-gradient, predictor, layer-normalised targets, a weight decay
    that grows. No projector. Left out of the reference: stretching the schedules by a quarter (`ipe_scale`), and its
    rescaled initialisation, so that every method starts from the same encoder.
    """

    encoder: SmallViT  # of the context
    target: SmallViT  # its moving average
    target_std = None  # nothing asks the embeddings for unit variance

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, IjepaConfig)
        self.options, self.grid = config.method, self.encoder.grid
        self.projector = nn.Sequential()
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        self.predictor = Predictor(
            self.embedding_dim, config.method.predictor_width, config.method.predictor_depth, self.grid
        )

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 1, "local_views": 0})

    def train(self, mode: bool = True) -> "Ijepa":
        super().train(mode)
        self.target.eval()  # drops no paths
        return self

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        images = views.globals[0]
        everywhere = len(images) * ranks.world_size()  # the masks of all ranks are cut to one length
        masks = multiblock(self.options, everywhere, self.grid, mask_generator(self.config.seed, step))
        context_index, target_index = of_rank(masks.context, images), of_rank(masks.targets, images, dim=1)
        with torch.no_grad():
            teacher = self.target.tokens(images)
            self.seen = teacher.mean(1)
            normalised = F.layer_norm(teacher.float(), teacher.shape[-1:])
            wanted = torch.stack([pick(normalised, block) for block in target_index])  # (T, B, L, D)
        context = self.in_parts(self.encoder.tokens, images, context_index)
        predicted = torch.stack([self.predictor(context, context_index, block) for block in target_index])
        return {"loss": masked_smooth_l1(predicted, wanted, beta=1.0)}

    @property
    def evaluated(self) -> nn.Module:
        return self.target

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        start, end = self.options.ema
        momentum = start + (end - start) * step / steps
        follow(self.target.parameters(), self.encoder.parameters(), momentum)
        return {"ema": momentum}


class Predictor(nn.Module):
    """A narrow ViT from the tokens that are seen to `out` features at places that are not, (B, K, D) → (B, L, out).

    Of I-JEPA one target block, of MAE (its decoder) all masked patches. out: D where it is left out.
    """

    positions: Tensor

    def __init__(self, dim: int, width: int, depth: int, grid: int, out: int | None = None) -> None:
        super().__init__()
        self.into = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.zeros(1, 1, width), std=0.02))
        self.register_buffer("positions", sincos_positions(grid, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, max(1, width // 32), qkv_bias=True) for _ in range(depth)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, out or dim)

    def forward(self, context: Tensor, context_index: Tensor, target_index: Tensor) -> Tensor:
        """context_index (B, K) and target_index (B, L): where the tokens stand."""
        known = self.into(context) + self.positions[context_index]
        asked = self.mask_token + self.positions[target_index]
        tokens: Tensor = self.norm(self.blocks(torch.cat([known, asked.to(known.dtype)], dim=1)))
        predicted: Tensor = self.out(tokens[:, context.shape[1] :])
        return predicted
