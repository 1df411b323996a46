"""What a training is: one frozen TrainConfig, by its parts.

Every field has a default, a unit and a source. Unknown keys, wrong types, values out of range and fields that
contradict each other are refused at construction with pydantic's ValidationError, which carries the place (`loc`).
Values left out that depend on others (the recipe of the views, the size of the local crops) are filled in at
construction, so that a dumped config says everything and needs no memory of today's defaults.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

SMALL_ENCODERS = ("small_resnet", "small_vit")

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


# -- method -----------------------------------------------------------------------------------------------------------


Statistic = Literal[
    "epps_pulley", "anderson_darling", "cramer_von_mises", "watson", "extended_jarque_bera", "shapiro_wilk", "vcreg",
    "vicreg", "moments",
]  # fmt: skip


class LejepaConfig(Part):
    """Prediction + λ·SIGReg; the defaults are LeJEPA's Algorithms 1 and 2 as coded.

    λ belongs to its convention: `lejepa/variants.py` has the published ones as values, and converts λ between them.
    """

    name: Literal["lejepa"] = "lejepa"
    weighting: Literal["convex", "additive"] = "convex"  # (1 − λ)·pred + λ·SIGReg, or pred + λ·SIGReg
    lamb: float = Field(0.05, ge=0)  # λ; convex: share of SIGReg, 0.05 at 8 views (paper §6.1), about 0.005·views (T7)
    centre: Literal["globals", "all", "pairs"] = "globals"  # what views predict: a mean, or each other
    teacher: Probability | None = None  # momentum of an EMA teacher that makes the centre; None: no teacher
    statistic: Statistic = "epps_pulley"  # of every projected sample; lejepa/gaussianity.py has the others
    slices: Annotated[int, Field(ge=1)] | Literal["exact"] = 1024  # random directions (paper), or exact: all of them
    directions: Literal["resampled", "fixed"] = "resampled"  # new at every step (paper), or those of step 0
    t_max: Positive = 3.0  # end of the integration range, in standard deviations of the projection (official package)
    knots: int = Field(17, ge=2)  # quadrature points on the interval (official package)
    interval: Literal["half", "whole"] = "half"  # knots on [0, t_max], doubled (official package), or [−t_max, t_max]
    sample: Literal["views", "pooled"] = "views"  # SIGReg of every view, averaged, or of all views as one sample
    scale: Literal["batch", "none"] = "batch"  # the statistic times the size of its sample (paper), or not

    @field_validator("lamb")
    @classmethod
    def _share(cls, lamb: float, info: ValidationInfo) -> float:
        if info.data.get("weighting") == "convex" and lamb > 1:
            raise PydanticKnownError("less_than_equal", {"le": 1})
        return lamb

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.statistic != "epps_pulley":
            for name in ("t_max", "knots", "interval"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} belongs to the statistic epps_pulley, not to {self.statistic}")
            if self.slices == "exact":
                raise ValueError(f"slices: exact is known for the statistic epps_pulley, not for {self.statistic}")
        if self.teacher is not None and self.centre == "pairs":
            raise ValueError("a teacher makes a centre, and centre: pairs has none; leave `teacher` out")
        return self


class VicregConfig(Part):
    """VICReg on the global views; facebookresearch/vicreg, main_vicreg.py."""

    name: Literal["vicreg"] = "vicreg"
    inv: float = Field(25.0, ge=0)  # weight of the invariance term
    std: float = Field(25.0, ge=0)  # weight of the hinge on the standard deviation
    cov: float = Field(1.0, ge=0)  # weight of the off-diagonal covariance


class IjepaConfig(Part):
    """I-JEPA on a ViT without class token; facebookresearch/ijepa, configs/in1k_vith14_ep300.yaml."""

    name: Literal["ijepa"] = "ijepa"
    targets: int = Field(4, ge=1)  # target blocks per image
    target_scale: tuple[Probability, Probability] = (0.15, 0.2)  # area of a target block, share of the patches
    target_aspect: tuple[Positive, Positive] = (0.75, 1.5)  # height / width of a target block
    context_scale: tuple[Probability, Probability] = (0.85, 1.0)  # area of the context block before targets leave it
    min_keep: int = Field(4, ge=1)  # patches that a context must keep; 10 of 256 in the reference
    ema: tuple[Probability, Probability] = (0.996, 1.0)  # momentum of the target encoder, linear over all steps
    predictor_width: int = Field(96, ge=32, multiple_of=32)  # 384 for a ViT-H in the reference; heads of 32 features
    predictor_depth: int = Field(3, ge=1)  # 12 for a ViT-H, 6 for smaller ones


class RandomConfig(Part):
    """Floor: the encoder at its initialisation, frozen."""

    name: Literal["random"] = "random"


class PixelsConfig(Part):
    """Floor: the image itself, flattened, as the embedding."""

    name: Literal["pixels"] = "pixels"


MethodConfig = Annotated[
    LejepaConfig | VicregConfig | IjepaConfig | RandomConfig | PixelsConfig, Field(discriminator="name")
]
METHODS = ("lejepa", "vicreg", "ijepa", "random", "pixels")
FLOORS = frozenset({"random", "pixels"})  # nothing is trained: one evaluation, no epochs


# -- model ------------------------------------------------------------------------------------------------------------


class EncoderConfig(Part):
    """`small_resnet`, `small_vit`, or any model name of timm (always from scratch)."""

    name: str = "small_resnet"
    width: int | None = Field(None, ge=8)  # small_resnet: channels of the first stage (32); small_vit: width (192)
    depth: int | None = Field(None, ge=1)  # small_resnet: blocks per stage (1); small_vit: blocks (4)
    patch: int | None = Field(None, ge=1)  # small_vit: side of a patch, pixels (4)
    drop_path: Probability = 0.0  # stochastic depth; 0.1 in the official MINIMAL example

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SMALL_ENCODERS:
            import timm  # cold import of seconds: only where a timm name must be checked

            if not timm.is_model(name):
                raise ValueError(f"unknown encoder {name!r}{nearest(name, [*SMALL_ENCODERS, *timm.list_models()])}")
        return name

    @model_validator(mode="after")
    def _has_what_is_set(self) -> Self:
        if self.name in SMALL_ENCODERS:
            if self.name == "small_resnet" and self.patch is not None:
                raise ValueError("small_resnet has no patches; leave `patch` out or take small_vit")
            if self.name == "small_resnet" and self.drop_path:
                raise ValueError("small_resnet has no drop path; leave `drop_path` at 0")
            return self
        if (self.width, self.depth, self.patch) != (None, None, None):
            raise ValueError(f"width, depth and patch belong to {' and '.join(SMALL_ENCODERS)}, not to {self.name}")
        return self


class ProjectorConfig(Part):
    """MLP with BatchNorm after every hidden layer; the loss sees its output, the probes by default do not."""

    layers: int = Field(3, ge=1)  # linear layers (paper §6.1)
    hidden: int = Field(512, ge=1)  # features of the hidden layers
    dim: int = Field(64, ge=2)  # features of the projection; 64–128 best in T1d


# -- data -------------------------------------------------------------------------------------------------------------


class DataConfig(Part):
    """`digits` ships with scikit-learn; any other name is a folder under `root` with Parquet or class folders."""

    name: str = Field("digits", min_length=1)
    root: Path | None = None  # where data sets lie; $LEJEPA_DATA, then ./data
    size: int = Field(32, ge=8, le=512)  # side to which images are resized, pixels
    val_fraction: float = Field(0.1, gt=0, lt=0.9)  # share of the training images held out for selection, by class
    limit: int | None = Field(None, ge=2)  # keep so many training images, by class; None: all

    @model_validator(mode="before")
    @classmethod
    def _find_root(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("name", "digits") == "digits":
            return raw
        root = raw.get("root") or os.environ.get("LEJEPA_DATA") or "data"
        return {**raw, "root": str(Path(root).expanduser().absolute())}

    @model_validator(mode="after")
    def _stays_inside_root(self) -> Self:
        if Path(self.name).is_absolute() or ".." in Path(self.name).parts:
            raise ValueError(f"data name {self.name!r} must be a folder inside data.root; set data.root instead")
        return self


# What each recipe sets where the config leaves it out. `paper`: LeJEPA §6.1; `crop`: I-JEPA; `digits`: small grey
# images where a flip or a strong crop changes the class.
VIEW_RECIPES: dict[str, dict[str, Any]] = {
    "paper": dict(
        global_scale=(0.3, 1.0), local_scale=(0.05, 0.3), ratio=(3 / 4, 4 / 3), flip=0.5, jitter=0.8,
        brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=0.5, solarize=0.2,
        rotate=0.0, cutout=0.0,
    ),
    "crop": dict(
        global_scale=(0.3, 1.0), local_scale=(0.05, 0.3), ratio=(3 / 4, 4 / 3), flip=0.0, jitter=0.0,
        brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, blur=0.0, solarize=0.0,
        rotate=0.0, cutout=0.0,
    ),
    "digits": dict(
        global_scale=(0.6, 1.0), local_scale=(0.4, 0.8), ratio=(0.85, 1.18), flip=0.0, jitter=0.8,
        brightness=0.2, contrast=0.4, saturation=0.0, hue=0.0, grey=0.0, blur=0.0, solarize=0.0,
        rotate=12.0, cutout=0.3,
    ),
}  # fmt: skip


class ViewsConfig(Part):
    """Multi-crop: `global_views` large crops and `local_views` small ones per image."""

    recipe: Literal["paper", "crop", "digits"] = "paper"  # TrainConfig takes `digits` for the data set digits
    global_views: int = Field(2, ge=1)  # large crops; they make the centre of the prediction loss
    local_views: int = Field(2, ge=0)  # small crops; 6 in the paper
    local_size: int | None = Field(None, ge=4)  # side of a local crop, pixels; None: 98/224 of the global, 8 at least
    global_scale: tuple[Probability, Probability] = (0.3, 1.0)  # area of a global crop, share of the image
    local_scale: tuple[Probability, Probability] = (0.05, 0.3)  # area of a local crop, share of the image
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)  # width / height of a crop
    flip: Probability = 0.5  # probability of a horizontal flip
    jitter: Probability = 0.8  # probability of colour jitter, with the four strengths below
    brightness: Probability = 0.4
    contrast: Probability = 0.4
    saturation: Probability = 0.2
    hue: float = Field(0.1, ge=0, le=0.5)  # turns of the colour wheel
    grey: Probability = 0.2  # probability of grey
    blur: Probability = 0.5  # probability of a Gaussian blur
    solarize: Probability = 0.2  # probability of inverting all values above one half
    rotate: float = Field(0.0, ge=0, le=180)  # largest rotation either way, degrees
    cutout: Probability = 0.0  # probability of one erased square, up to half the side

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipe(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("recipe", ""), str):
            return raw
        return {**VIEW_RECIPES.get(raw.get("recipe", "paper"), {}), **raw}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("global_scale", "local_scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be [low, high] with 0 < low ≤ high, not [{low}, {high}]")
        return self


# -- training and evaluation ------------------------------------------------------------------------------------------


class OptimizerConfig(Part):
    """AdamW, linear warm-up, cosine to lr/1000 (paper §6.1). No decay on biases and one-dimensional parameters."""

    lr: Positive = 5e-4  # peak learning rate
    weight_decay: float = Field(5e-4, ge=0)  # 5e-4 for ResNets, 5e-2 for ViTs (paper §6.1)
    weight_decay_end: float | None = Field(None, ge=0)  # cosine from weight_decay to this; None: constant
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    warmup: float = Field(1.0, ge=0)  # epochs of linear warm-up


class ProbeConfig(Part):
    """The frozen evaluation; lejepa/probes.py."""

    on: Literal["embedding", "projection"] = "embedding"  # which features the probes see
    every: int = Field(1, ge=1)  # epochs between evaluations; the last epoch is always evaluated
    lr: Positive = 1e-3  # of the online linear probe, AdamW
    weight_decay: float = Field(1e-6, ge=0)
    k: int = Field(20, ge=1)  # neighbours of the weighted k-NN
    temperature: Positive = 0.07  # of the weighted k-NN
    shots: tuple[Annotated[int, Field(ge=1)], ...] = (1,)  # labels per class of the k-shot linear probes
    draws: int = Field(20, ge=1)  # label draws per k-shot probe, the same in every trial


class TrainConfig(Part):
    """One training. Frozen; equal configs (with equal data, threads and torch) train to equal bits on the CPU."""

    method: MethodConfig = LejepaConfig()
    encoder: EncoderConfig = EncoderConfig()
    projector: ProjectorConfig = ProjectorConfig()
    data: DataConfig = DataConfig()
    views: ViewsConfig = ViewsConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    probe: ProbeConfig = ProbeConfig()
    epochs: int = Field(20, ge=1)  # passes over the training images; trial length is never in seconds
    batch_size: int = Field(128, ge=2)  # images a step, all ranks together
    seed: int = Field(0, ge=0, lt=2**31)  # of weights, order of images, views and directions
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast of encoder and projector; losses stay float32
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    threads: int = Field(0, ge=0)  # CPU threads of torch; 0: leave as they are

    @model_validator(mode="before")
    @classmethod
    def _fill_what_depends(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        parts = [raw.get(name, {}) for name in ("method", "data", "views", "optimizer")]
        if not all(isinstance(part, dict) for part in parts):
            return raw  # a part that is built already says everything, one of a wrong type is refused by its field
        method, data, views, optimizer = parts
        if method.get("name") == "ijepa":
            views = {"recipe": "crop", **views}
            optimizer = {"weight_decay": 0.04, "weight_decay_end": 0.4, **optimizer}
        views = {"recipe": "digits" if data.get("name", "digits") == "digits" else "paper", **views}
        size = data.get("size", DataConfig.model_fields["size"].default)
        if views.get("local_size") is None and isinstance(size, int):
            views["local_size"] = max(8, round(size * 98 / 224 / 4) * 4)
        return {**raw, "views": views, "optimizer": optimizer}

    @property
    def length(self) -> int:
        """How many EpochReports a full training yields: the epochs, or 1 where nothing is trained."""
        return 1 if self.method.name in FLOORS else self.epochs

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method.name == "vicreg" and self.views.global_views < 2:
            raise ValueError("vicreg compares two global views; set views.global_views to 2 or more")
        if self.method.name == "ijepa" and self.encoder.name != "small_vit":
            raise ValueError(f"ijepa masks patches and needs the encoder small_vit, not {self.encoder.name}")
        if self.encoder.name == "small_resnet" and self.views.local_views and (self.views.local_size or 8) < 8:
            raise ValueError(
                f"small_resnet halves a view three times; views.local_size must be 8 or more, "
                f"not {self.views.local_size}"
            )
        if self.encoder.name == "small_vit":
            if (self.encoder.width or 192) % 64:
                raise ValueError(
                    f"small_vit has heads of 64 features; encoder.width must be a multiple of 64, "
                    f"not {self.encoder.width}"
                )
            patch = self.encoder.patch or 4
            for what, side in (("data.size", self.data.size), ("views.local_size", self.views.local_size or patch)):
                if side % patch:
                    raise ValueError(f"small_vit cuts images into patches of {patch}; {what} = {side} is no multiple")
        return self


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
