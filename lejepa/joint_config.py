"""The settings of the joint-embedding methods with heuristics, and what they ask of views, projector and optimiser.

Widths are not here: `projector` has them, the same for every method. The published ones are in lejepa/recipes.py.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from lejepa.part import Part, Positive, Probability

if TYPE_CHECKING:
    from lejepa.config import TrainConfig


class VicregConfig(Part):
    """VICReg on two global views; facebookresearch/vicreg, main_vicreg.py."""

    name: Literal["vicreg"] = "vicreg"
    inv: float = Field(25.0, ge=0)  # weight of the invariance term
    std: float = Field(25.0, ge=0)  # weight of the hinge on the standard deviation
    cov: float = Field(1.0, ge=0)  # weight of the off-diagonal covariance


class BarlowTwinsConfig(Part):
    """Barlow Twins on two global views; facebookresearch/barlowtwins, main.py."""

    name: Literal["barlow_twins"] = "barlow_twins"
    off_diagonal: float = Field(0.0051, ge=0)  # weight of the off-diagonal entries (--lambd)


class SimclrConfig(Part):
    """SimCLR on two global views; google-research/simclr."""

    name: Literal["simclr"] = "simclr"
    temperature: Positive = 0.5  # best on CIFAR-10 (arXiv 2002.05709, appendix B.9); 0.1 on ImageNet (run.py)


class MocoV3Config(Part):
    """MoCo v3 on two global views; facebookresearch/moco-v3, main_moco.py."""

    name: Literal["moco_v3"] = "moco_v3"
    temperature: Positive = 1.0  # of a ResNet (--moco-t); 0.2 of a ViT (CONFIG.md)
    ema: Probability = 0.99  # momentum of the key encoder at the start (--moco-m); a cosine takes it to 1
    predictor_hidden: int | None = Field(None, ge=1)  # 4096 (builder.py), the projector's width; None: that
    freeze_patches: bool = True  # a ViT's patch embedding stays as it starts (--stop-grad-conv1)


class ByolConfig(Part):
    """BYOL on two global views; deepmind-research, byol/configs/byol.py."""

    name: Literal["byol"] = "byol"
    ema: Probability = 0.99  # τ0 of 100 and 300 epochs; 0.97 of 40, 0.996 of 1000; a cosine takes it to 1
    predictor_hidden: int | None = Field(None, ge=1)  # 4096, the projector's width; None: that


class SimsiamConfig(Part):
    """SimSiam on two global views; facebookresearch/simsiam, main_simsiam.py."""

    name: Literal["simsiam"] = "simsiam"
    predictor_hidden: int | None = Field(None, ge=1)  # 512 between 2048 and 2048 (--pred-dim); None: projector.dim / 4
    constant_rate: bool = True  # the predictor learns at the peak rate throughout (--fix-pred-lr)


class DinoConfig(Part):
    """DINO on global and local views; facebookresearch/dino, main_dino.py."""

    name: Literal["dino"] = "dino"
    prototypes: int = Field(1024, ge=2)  # K, the outputs of the head; 65,536 for ImageNet (--out_dim)
    student_temp: Positive = 0.1  # class DINOLoss
    teacher_temp: tuple[Positive, Positive] = (0.04, 0.04)  # first and last; up to 0.07 where that is stable (its help)
    temp_epochs: int = Field(30, ge=0)  # epochs of the line between the two (--warmup_teacher_temp_epochs' help)
    ema: Probability = (
        0.996  # momentum of the teacher at the start, 0.9995 at batch 256 (its help); a cosine takes it to 1
    )
    center_momentum: Probability = 0.9  # of the running mean of the teacher's outputs; class DINOLoss
    frozen_epochs: int = Field(1, ge=0)  # in which the last layer stands still (--freeze_last_layer)


class SupervisedConfig(Part):
    """The ceiling: cross-entropy on the labels of every global view, by a linear layer on the embedding."""

    name: Literal["supervised"] = "supervised"


PAIRED = frozenset({"vicreg", "barlow_twins", "simclr", "moco_v3", "byol", "simsiam", "dino"})

# What they ask of other parts of the config where those leave it open. All these recipes flip images: on digits, where
# a flip changes the class, say `recipe: digits`.
IMPLIED: dict[str, dict[str, dict[str, Any]]] = {
    "simclr": {"views": {"recipe": "simclr"}},
    "barlow_twins": {"views": {"recipe": "byol"}},  # main.py: BYOL's views
    "moco_v3": {"views": {"recipe": "byol"}},  # main_moco.py: BYOL's views
    "byol": {"views": {"recipe": "byol"}, "projector": {"layers": 2}},  # byol/utils/networks.py: class MLP
    "simsiam": {"views": {"recipe": "cifar", "blur": 0.5}},  # main_simsiam.py: MoCo v2's views, with blur
    # utils.py, class MultiCropWrapper; vision_transformer.py, class DINOHead: no BatchNorm in the head
    "dino": {
        "views": {"recipe": "dino"},
        "projector": {"norm": "none"},
        "optimizer": {"weight_decay": 0.04, "weight_decay_end": 0.4, "clip": 3.0},
    },
}


def check_paired(config: "TrainConfig") -> None:
    """ValueError where there are not the two views of an image that the method compares."""
    if config.views.global_views < 2:
        raise ValueError(f"{config.method.name} compares two global views; set views.global_views to 2 or more")
