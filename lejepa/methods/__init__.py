"""The methods, one file each, on the same trainer, data, views and probes."""

from lejepa.config import TrainConfig
from lejepa.methods.barlow_twins import BarlowTwins
from lejepa.methods.base import Method
from lejepa.methods.byol import Byol
from lejepa.methods.data2vec import Data2vec
from lejepa.methods.dino import Dino
from lejepa.methods.floors import Pixels, Random
from lejepa.methods.ijepa import Ijepa
from lejepa.methods.lejepa import Lejepa
from lejepa.methods.mae import Mae
from lejepa.methods.moco_v3 import MocoV3
from lejepa.methods.predictive import Predictive
from lejepa.methods.simclr import Simclr
from lejepa.methods.simsiam import Simsiam
from lejepa.methods.supervised import Supervised
from lejepa.methods.vicreg import Vicreg

METHODS: dict[str, type[Method]] = {
    "lejepa": Lejepa, "vicreg": Vicreg, "barlow_twins": BarlowTwins, "simclr": Simclr, "moco_v3": MocoV3, "byol": Byol,
    "simsiam": Simsiam, "dino": Dino, "ijepa": Ijepa, "data2vec": Data2vec, "mae": Mae, "predictive": Predictive,
    "supervised": Supervised, "random": Random, "pixels": Pixels,
}  # fmt: skip


def build_method(config: TrainConfig, channels: int, classes: int = 0) -> Method:
    """The method that a config names, with fresh weights from torch's global generator.

    channels: of the images. classes: of the labels; only methods that read labels need them, ValueError without.
    """
    method = METHODS[config.method.name]
    return method(config, channels, classes) if method.reads_labels else method(config, channels)
