"""What every method is: an encoder, a projector, and a loss over the views of a batch."""

import torch
from torch import Tensor, nn

from lejepa.config import TrainConfig
from lejepa.encoders import build_encoder, build_projector
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class Method(nn.Module):
    """`forward(views, step)` gives the losses by name, `loss` among them; `encode(images)` what is evaluated."""

    trains = True
    target_std: float | None = 1.0  # the deviation per dimension that the loss asks of projections, if it asks for one
    seen: Tensor  # (N, D), detached: the first global view of the last forward, for the online probe

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.embedding_dim = build_encoder(config, channels)
        self.projector = build_projector(config.projector, self.embedding_dim)

    def views(self) -> ViewsConfig:
        """The views that the method looks at; no others are made."""
        return self.config.views

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        """Scalars by name: `loss` and its unweighted parts. step: of the whole training, from 0."""
        raise TypeError(f"{type(self).__name__} is not trained")

    def encode(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, S, S) → embeddings (N, D)."""
        embeddings: Tensor = self.encoder(images)
        return embeddings

    def project(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) → projections (N, K)."""
        projections: Tensor = self.projector(embeddings)
        return projections

    def after_step(self, step: int, steps: int) -> None:
        """Called after the optimiser's step number `step` of `steps`; EMA teachers move here."""


def encode_views(method: Method, views: Views) -> Tensor:
    """Embeddings (V, N, D), globals first: one encoder pass per size, so BatchNorm sees one size at a time."""
    passes = [v for v in (views.globals, views.locals) if v.shape[0]]
    embeddings = [method.encoder(v.flatten(0, 1)).unflatten(0, v.shape[:2]) for v in passes]
    method.seen = embeddings[0][0].detach()
    return torch.cat(embeddings)
