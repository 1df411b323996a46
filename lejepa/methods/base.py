"""What every method is: an encoder, a projector, and a loss over the views of a batch."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lejepa.config import TrainConfig
from lejepa.encoders import build_encoder, build_projector
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class Method(nn.Module):
    """`forward(views, step)` gives the losses by name, `loss` among them; `encode(images)` what is evaluated."""

    trains = True
    reads_labels = False  # True: the trainer sets `labels` before every forward
    target_std: float | None = 1.0  # the deviation per dimension that the loss asks of projections, if it asks for one
    seen: Tensor  # (N, D), detached: the first global view of the last forward, for the online probe
    labels: Tensor  # (N,), of the batch, for methods that read labels

    def __init__(self, config: TrainConfig, channels: int, classes: int = 0) -> None:
        """channels: of the images. classes: of the labels, for methods that read labels."""
        super().__init__()
        self.config = config
        self.encoder, self.embedding_dim = build_encoder(config, channels)
        self.projector = build_projector(config.projector, self.embedding_dim)

    def views(self) -> ViewsConfig:
        """The views that the method looks at; no others are made."""
        return self.config.views

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        """Scalars by name: `loss` and its unweighted parts. step: of the whole training, from 0.

        The loss is the mean over this rank's images, or that of the global batch, the same on every rank: in both
        cases the mean of the ranks' gradients is the gradient for the global batch.
        """
        raise TypeError(f"{type(self).__name__} is not trained")

    @property
    def evaluated(self) -> nn.Module:
        """The encoder whose embeddings are judged and exported: a teacher's, where the reference judges that."""
        return self.encoder

    def encode(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, S, S) → embeddings (N, D)."""
        embeddings: Tensor = self.evaluated(images)
        return embeddings

    def project(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) → projections (N, K)."""
        projections: Tensor = self.projector(embeddings)
        return projections

    def layers(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, S, S) → the pooled features of the last two layers (N, D')."""
        from lejepa.encoders import last_layers

        return last_layers(self.evaluated, images)

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        """Called after the optimiser's step number `step` of `steps`: EMA teachers move here. Gives what is logged."""
        return {}

    def collapsed(self, losses: Mapping[str, float]) -> bool:
        """Whether the mean losses of an epoch, by name, tell of a collapse; features may show others."""
        return False

    def describe(self, projections: Tensor, losses: Mapping[str, float]) -> dict[str, float]:
        """What only the method can tell without labels: of projections (N, K) of val, and of an epoch's mean losses."""
        return {}

    def at_constant_rate(self) -> Iterable[nn.Parameter]:
        """Parameters that learn at the peak rate throughout."""
        return ()

    def in_parts(self, function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
        """function(*batches), in `config.accumulate` parts along the images; only one part's activations are kept.

        The backward pass runs each part again. What comes behind sees the whole batch, so its statistics are exact.
        """
        if self.config.accumulate == 1:
            return function(*batches)
        parts = zip(*(batch.chunk(self.config.accumulate) for batch in batches), strict=True)
        return torch.cat([checkpoint(function, *part, use_reentrant=False) for part in parts])


def encode_views(method: Method, views: Views) -> Tensor:
    """Embeddings (V, N, D), globals first: one encoder pass per size, so BatchNorm sees one size at a time."""
    passes = [v for v in (views.globals, views.locals) if v.shape[0]]
    embeddings = [method.in_parts(method.encoder, v.flatten(0, 1)).unflatten(0, v.shape[:2]) for v in passes]
    method.seen = embeddings[0][0].detach()
    return torch.cat(embeddings)


def encode_apart(method: Method, views: Tensor) -> list[Tensor]:
    """Embeddings (N, D) of each of the views (V, N, C, S, S), a pass each: BatchNorm sees one view at a time."""
    embeddings = [method.in_parts(method.encoder, view) for view in views]
    method.seen = embeddings[0].detach()
    return embeddings
