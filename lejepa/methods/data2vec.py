"""data2vec: predict the EMA teacher's averaged block outputs of the whole image at the patches that are masked."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lejepa import ranks
from lejepa.averaging import follow
from lejepa.config import TrainConfig
from lejepa.losses import masked_smooth_l1
from lejepa.masked_config import Data2vecConfig
from lejepa.masks import blockwise, mask_generator, of_rank
from lejepa.methods.base import Method
from lejepa.view_config import ViewsConfig
from lejepa.views import Views
from lejepa.vit import SmallViT


class Data2vec(Method):
    """Facts from facebookresearch/data2vec_vision: engine_for_cyclical.py, modeling_cyclical.py. Evaluates the teacher.

    The reference fine-tunes the student (--model_key); here every method with a teacher is judged by its teacher.

    Heuristics: EMA teacher (momentum linear), stop-gradient, a linear predictor, layer-normalised targets. It has no
    projector. Left out of the reference, so that every method trains the same encoder: its class token, relative
    positions, layer scale, dropout of attention and rescaled initialisation. The teacher has no drop path, as there.
    """

    encoder: SmallViT
    teacher: SmallViT
    target_std = None  # nothing asks the embeddings for unit variance

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, Data2vecConfig)
        self.options, self.grid = config.method, self.encoder.grid
        self.projector = nn.Sequential()
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        blocks = len(self.encoder.blocks)
        self.averaged = config.method.layers or min(6, max(1, blocks // 2))
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.zeros(1, 1, 1, self.embedding_dim), std=0.02))
        self.predictor = nn.Linear(self.embedding_dim, self.embedding_dim)

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 1, "local_views": 0})

    def train(self, mode: bool = True) -> "Data2vec":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        images, world = views.globals[0], ranks.world_size()
        everywhere = blockwise(self.options, len(images) * world, self.grid, mask_generator(self.config.seed, step))
        masked = of_rank(everywhere, images)  # (B, P)
        targets = self.targets(images)
        tokens = self.in_parts(self.see, images, masked)
        loss = masked_smooth_l1(self.predictor(tokens[masked]), targets[masked], beta=self.options.beta)
        mine = int(of_rank(everywhere, everywhere).sum()) * world / int(everywhere.sum())
        return {"loss": loss * mine}  # ranks mask unequal numbers of patches

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """(B, C, S, S) → (B, P, D): the mean of the last blocks' layer-normalised outputs, layer-normalised."""
        walk: Any = self.teacher.forward_intermediates
        last, outputs = walk(images, indices=self.averaged, output_fmt="NLC")
        self.seen = self.teacher.forward_head(last, pre_logits=True)
        normalized = torch.stack([F.layer_norm(x.float(), x.shape[-1:]) for x in outputs]).mean(0)
        return F.layer_norm(normalized, normalized.shape[-1:])

    def see(self, images: Tensor, masked: Tensor) -> Tensor:
        """The student's tokens (B, P, D), where the token `mask_token` stands in for the patches masked (B, P)."""
        patches = self.encoder.patch_embed(images)  # (B, H, W, D)
        patches = torch.where(masked.view(*patches.shape[:3], 1), self.mask_token.to(patches.dtype), patches)
        tokens: Tensor = self.encoder.norm(self.encoder.blocks(self.encoder._pos_embed(patches)))
        return tokens[:, self.encoder.num_prefix_tokens :]

    @property
    def evaluated(self) -> nn.Module:
        return self.teacher

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        start, end = self.options.ema
        momentum = start + (end - start) * step / steps
        follow(self.teacher.parameters(), self.encoder.parameters(), momentum)
        return {"ema": momentum}
