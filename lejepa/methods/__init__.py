"""The methods, one file each, on the same trainer, data, views and probes."""

from lejepa.config import TrainConfig
from lejepa.methods.base import Method
from lejepa.methods.data2vec import Data2vec
from lejepa.methods.floors import Pixels, Random
from lejepa.methods.ijepa import Ijepa
from lejepa.methods.lejepa import Lejepa
from lejepa.methods.mae import Mae
from lejepa.methods.vicreg import Vicreg

METHODS: dict[str, type[Method]] = {
    "lejepa": Lejepa, "vicreg": Vicreg, "ijepa": Ijepa, "data2vec": Data2vec, "mae": Mae, "random": Random,
    "pixels": Pixels,
}  # fmt: skip


def build_method(config: TrainConfig, channels: int) -> Method:
    """The method that a config names, with fresh weights from torch's global generator."""
    return METHODS[config.method.name](config, channels)
