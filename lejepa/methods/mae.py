"""MAE: reconstruct the pixels of masked patches from the few that are seen."""

import torch
from torch import Tensor, nn

from lejepa import ranks
from lejepa.config import TrainConfig
from lejepa.masked_config import MaeConfig
from lejepa.masks import mask_generator, of_rank, random_patches
from lejepa.methods.base import Method
from lejepa.methods.ijepa import Predictor
from lejepa.view_config import ViewsConfig
from lejepa.views import Views
from lejepa.vit import SmallViT, pick


class Mae(Method):
    """Facts from facebookresearch/mae (models_mae.py, main_pretrain.py). Evaluates the encoder on all patches.

    Not a joint embedding: pixels are the target, so nothing can collapse and no heuristic is needed. No projector. The
    online probe learns from the mean of the patches that are seen, a quarter of them; the other probes see all. Left
    out of the reference: its class token and its initialisation, so that every method starts from the same encoder.
    """

    encoder: SmallViT
    target_std = None  # nothing asks the embeddings for unit variance

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, MaeConfig)
        self.options, self.grid = config.method, self.encoder.grid
        self.patch = config.data.size // self.grid
        self.projector = nn.Sequential()
        self.decoder = Predictor(
            self.embedding_dim, config.method.decoder_width, config.method.decoder_depth, self.grid,
            out=channels * self.patch**2,
        )  # fmt: skip

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"global_views": 1, "local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        images, draw = views.globals[0], mask_generator(self.config.seed, step)
        drawn = random_patches(self.options.masked, len(images) * ranks.world_size(), self.grid, draw)
        kept, masked = (of_rank(index, images) for index in drawn)
        tokens = self.in_parts(self.encoder.tokens, images, kept)
        self.seen = tokens.detach().mean(1)
        predicted = self.in_parts(self.decoder, tokens, kept, masked)
        wanted = pick(pixels(images, self.patch, normalize=self.options.normalize), masked)
        return {"loss": (predicted.float() - wanted).square().mean()}


def pixels(images: Tensor, patch: int, *, normalize: bool) -> Tensor:
    """(B, C, S, S) → (B, P, C·patch²) float32, row by row of patches.

    normalize: each patch by its own mean and deviation, sqrt(unbiased variance + 1e-6).
    """
    size = images.shape[-1] // patch
    blocks = images.float().unflatten(3, (size, patch)).unflatten(2, (size, patch))  # (B, C, rows, p, columns, p)
    values = blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    if not normalize:
        return values
    variance, mean = torch.var_mean(values, dim=-1, keepdim=True)
    return (values - mean) / (variance + 1e-6).sqrt()
