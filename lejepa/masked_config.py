"""The settings of the methods that mask patches, and what they ask of the encoder."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from lejepa.part import Part, Positive, Probability, Ratios, Shares

if TYPE_CHECKING:
    from lejepa.config import TrainConfig

MASKED = frozenset({"ijepa", "data2vec", "mae"})


class IjepaConfig(Part):
    """I-JEPA on a ViT without class token; facebookresearch/ijepa, configs/in1k_vith14_ep300.yaml."""

    name: Literal["ijepa"] = "ijepa"
    targets: int = Field(4, ge=1)  # target blocks per image
    target_scale: Shares = (0.15, 0.2)  # area of a target block, share of the patches
    target_aspect: Ratios = (0.75, 1.5)  # height / width of a target block
    context_scale: Shares = (0.85, 1.0)  # area of the context block before targets leave it
    min_keep: int = Field(4, ge=1)  # patches that a context must keep; 10 of 256 in the reference
    ema: tuple[Probability, Probability] = (0.996, 1.0)  # momentum of the target encoder, linear over all steps
    predictor_width: int = Field(96, ge=32, multiple_of=32)  # 384 for a ViT-H in the reference; heads of 32 features
    predictor_depth: int = Field(3, ge=1)  # 12 for a ViT-H, 6 for smaller ones


class Data2vecConfig(Part):
    """data2vec on images; facebookresearch/data2vec_vision, the README's ViT-B command and run_cyclical.py."""

    name: Literal["data2vec"] = "data2vec"
    masked: float = Field(120 / 196, gt=0, lt=1)  # share of the patches that are masked, at most
    min_block: float = Field(16 / 196, gt=0, lt=1)  # smallest block, share of the patches
    aspect: Ratios = (0.3, 1 / 0.3)  # height / width of a block, log-uniform (masking_generator.py)
    layers: int | None = Field(None, ge=1)  # last blocks whose mean is the target; None: 6, or half if there are fewer
    beta: Positive = 2.0  # where smooth L1 turns from a parabola into a line
    ema: tuple[Probability, Probability] = (0.999, 0.9998)  # momentum of the teacher, linear over all steps


class MaeConfig(Part):
    """Masked autoencoder; facebookresearch/mae, models_mae.py."""

    name: Literal["mae"] = "mae"
    masked: float = Field(0.75, gt=0, lt=1)  # share of the patches that the encoder does not see
    normalize: bool = True  # every patch's pixels by their own mean and deviation (norm_pix_loss, its best setting)
    decoder_width: int = Field(96, ge=32, multiple_of=32)  # 512 for a ViT-B or larger in the reference; heads of 32
    decoder_depth: int = Field(2, ge=1)  # 8 in the reference


# What they ask of other parts of the config where those leave it open.
IMPLIED: dict[str, dict[str, dict[str, Any]]] = {
    "ijepa": {"views": {"recipe": "crop"}, "optimizer": {"weight_decay": 0.04, "weight_decay_end": 0.4}},
    # beit/datasets.py: colour jitter always, without hue
    "data2vec": {
        "views": {
            "recipe": "crop", "global_scale": (0.08, 1.0), "flip": 0.5,
            "jitter": 1.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4,
        },
        "optimizer": {"weight_decay": 0.05, "clip": 3.0},
    },
    # main_pretrain.py
    "mae": {
        "views": {"recipe": "crop", "global_scale": (0.2, 1.0), "flip": 0.5},
        "optimizer": {"weight_decay": 0.05, "betas": (0.9, 0.95)},
    },
}  # fmt: skip


def check_masked(config: "TrainConfig") -> None:
    """ValueError where the encoder has no patches to mask, too few of them, or too few blocks."""
    method, encoder = config.method, config.encoder
    if encoder.name != "small_vit":
        raise ValueError(
            f"{method.name} masks patches and needs the encoder small_vit, not {encoder.name}; "
            "with width 768, depth 12 and patch 16 it is a ViT-B without class token"
        )
    if encoder.dim is not None:
        raise ValueError(f"{method.name} works on the encoder's own tokens; leave encoder.dim out")
    grid, depth = config.data.size // (encoder.patch or 4), encoder.depth or 4
    if grid < 2:
        raise ValueError(
            f"{method.name} masks patches, and {config.data.size} px in patches of {encoder.patch or 4} are one; "
            "take a smaller encoder.patch"
        )
    if isinstance(method, Data2vecConfig) and (method.layers or 1) > depth:
        raise ValueError(f"data2vec averages the last {method.layers} blocks, and the encoder has {depth}")
    if isinstance(method, MaeConfig) and int(grid**2 * (1 - method.masked)) < 1:
        raise ValueError(f"mae: masked {method.masked} leaves none of {grid**2} patches to see; mask fewer")
    if isinstance(method, Data2vecConfig) and round(method.masked * grid**2) < 1:
        raise ValueError(f"data2vec: masked {method.masked} of {grid**2} patches is none; mask more")
