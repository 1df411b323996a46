"""The floors: what a method must beat to have learned anything. Nothing is trained."""

from torch import Tensor, nn

from lejepa.config import TrainConfig
from lejepa.methods.base import Method


class Random(Method):
    """The encoder at its initialisation."""

    trains = False


class Pixels(Method):
    """The normalised image, flattened."""

    trains = False

    def __init__(self, config: TrainConfig, channels: int) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.encoder, self.embedding_dim = nn.Flatten(), channels * config.data.size**2
        self.projector = nn.Sequential()

    def layers(self, images: Tensor) -> Tensor:
        return self.encode(images)
