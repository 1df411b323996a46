"""What a training is: one frozen TrainConfig, by its parts.

Every field has a default, a unit and a source. Unknown keys, wrong types, values out of range and fields that
contradict each other are refused at construction with pydantic's ValidationError, which carries the place (`loc`).
Values left out that depend on others (the recipe of the views, the size of the local crops) are filled in at
construction, so that a dumped config says everything and needs no memory of today's defaults.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from lejepa.heuristics_config import check_predictive
from lejepa.joint_config import PAIRED, check_paired
from lejepa.masked_config import MASKED, check_masked
from lejepa.method_config import FLOORS as FLOORS
from lejepa.method_config import METHODS as METHODS
from lejepa.method_config import LejepaConfig, MethodConfig, check_lejepa, implied_by
from lejepa.part import Part, Positive, Probability, nearest
from lejepa.view_config import ViewsConfig

SMALL_ENCODERS = ("small_resnet", "small_vit", "small_convnext")

# What small encoders lack, by the field that asks for it.
_LACKS: dict[str, dict[str, str]] = {
    "small_resnet": {"patch": "patches", "registers": "register tokens", "drop_path": "drop path"},
    "small_convnext": {"patch": "patches of another size", "registers": "register tokens"},
    "small_vit": {},
}

# What says where and how a training runs, not what it is: in no trial's key and no checkpoint's identity.
WHERE: dict[str, Any] = {"device": True, "threads": True, "data": {"root", "decode", "workers", "download"}}

# -- model ------------------------------------------------------------------------------------------------------------


class EncoderConfig(Part):
    """`small_resnet`, `small_vit`, `small_convnext`, or any model name of timm (always from scratch)."""

    name: str = "small_resnet"
    width: int | None = Field(None, ge=8)  # features of the first stage of a small encoder (32), or of small_vit (192)
    depth: int | None = Field(None, ge=1)  # blocks per stage of a small encoder (1), or of small_vit (4)
    patch: int | None = Field(None, ge=1)  # small_vit: side of a patch, pixels (4)
    registers: int = Field(0, ge=0)  # register tokens of a ViT (T1e of the paper); 0: as many as the model has
    dim: int | None = Field(None, ge=2)  # features of the embedding: a linear layer gives them; None: the encoder's own
    drop_path: float = Field(0.0, ge=0, lt=1)  # stochastic depth of the last block; 0.1 in the official MINIMAL example

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
        if self.name not in SMALL_ENCODERS:
            if (self.width, self.depth, self.patch) != (None, None, None):
                raise ValueError(f"width, depth and patch belong to {' and '.join(SMALL_ENCODERS)}, not to {self.name}")
            return self  # what a model of timm has shows when it is built: check_encoder
        for field, what in _LACKS[self.name].items():
            if getattr(self, field):
                raise ValueError(f"{self.name} has no {what}; leave `{field}` out")
        if self.name == "small_vit" and (self.width or 192) % 64:
            raise ValueError(f"small_vit has heads of 64 features; width must be a multiple of 64, not {self.width}")
        if self.name == "small_vit" and self.drop_path and self.depth == 1:
            raise ValueError("drop path grows from 0 in the first block, and depth 1 has no other; leave it at 0")
        return self


class ProjectorConfig(Part):
    """MLP with a norm after every hidden layer; the loss sees its output, the probes by default do not."""

    layers: int = Field(3, ge=1)  # linear layers (paper §6.1)
    hidden: int = Field(512, ge=1)  # features of the hidden layers
    dim: int = Field(64, ge=2)  # features of the projection; 64–128 best in T1d
    norm: Literal["batch", "layer", "none"] = "batch"  # after every hidden layer; collapses are reported without batch


# -- data -------------------------------------------------------------------------------------------------------------


class DataConfig(Part):
    """`digits` ships with scikit-learn; any other name is a folder under `root`, or a data set of torchvision there."""

    name: str = Field("digits", min_length=1)
    root: Path | None = None  # where data sets lie; $LEJEPA_DATA, then ./data
    download: bool = False  # fetch a data set of torchvision that is not under `root`
    size: int = Field(32, ge=8, le=1024)  # side of the images that the encoder sees whole, pixels
    stored: int | None = Field(None, ge=8, le=2048)  # side at which images are kept for the crops, pixels; None: `size`
    decode: Literal["once", "workers"] = "once"  # into a memory map on disk, or again at each use, by `workers`
    workers: int = Field(0, ge=0)  # processes that read ahead; 0: the training reads by itself
    unreadable: Probability = 0.001  # share of images that may be left out, and are named, as nothing can read them
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
    def _stored_in_full(self) -> Self:
        if self.stored is not None and self.stored < self.size:
            raise ValueError(
                f"stored {self.stored} px is less than size {self.size} px; leave `stored` out, or raise it"
            )
        return self

    @model_validator(mode="after")
    def _stays_inside_root(self) -> Self:
        _check_inside(self.name)
        return self


def _check_inside(name: str) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"data name {name!r} must be a folder inside data.root; set data.root instead")


# -- training and evaluation ------------------------------------------------------------------------------------------


class OptimizerConfig(Part):
    """Linear warm-up, cosine to lr/1000 (paper §6.1). No decay on biases and one-dimensional parameters."""

    name: Literal["adamw", "sgd", "lars"] = "adamw"  # timm's LARS
    lr: Positive = 5e-4  # peak learning rate
    weight_decay: float = Field(5e-4, ge=0)  # 5e-4 for ResNets, 5e-2 for ViTs (paper §6.1)
    weight_decay_end: float | None = Field(None, ge=0)  # cosine from weight_decay to this; None: constant
    betas: tuple[Probability, Probability] = (0.9, 0.999)  # adamw
    momentum: Probability = 0.9  # sgd, lars
    clip: Positive | None = None  # largest norm of the whole gradient; None: as it is
    warmup: float = Field(1.0, ge=0)  # epochs of linear warm-up


class ProbeConfig(Part):
    """The frozen evaluation; lejepa/probes.py."""

    on: Literal["embedding", "projection", "layers"] = "embedding"  # layers: the last two layers, pooled (paper §6.1)
    every: int = Field(1, ge=1)  # epochs between evaluations; the last epoch is always evaluated
    lr: Positive = 1e-3  # of the online linear probe, AdamW
    weight_decay: float = Field(1e-6, ge=0)
    k: int = Field(20, ge=1)  # neighbours of the weighted k-NN
    temperature: Positive = 0.07  # of the weighted k-NN
    shots: tuple[Annotated[int, Field(ge=1)], ...] = (1,)  # labels per class of the k-shot linear probes
    draws: int = Field(20, ge=1)  # label draws per k-shot probe, the same in every trial
    finetune: int = Field(0, ge=0)  # epochs of training encoder and linear layer with labels, at the very end
    lidar: int = Field(0, ge=0)  # augmented views per image of the diagnostic LiDAR (50 in its paper); 0: none
    transfer: tuple[str, ...] = ()  # other data sets under data.root, judged by the same probes at the very end

    @field_validator("transfer")
    @classmethod
    def _inside_root(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _check_inside(name)
        return names

    @field_validator("lidar")
    @classmethod
    def _several(cls, lidar: int) -> int:
        if lidar == 1:
            raise ValueError("LiDAR compares views of an image: 2 or more, or 0 for none")
        return lidar


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
    accumulate: int = Field(1, ge=1)  # parts in which a batch goes through the encoder; its statistics stay the batch's
    average: Probability | None = None  # momentum per step of averaged weights, which are then what is evaluated
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast of encoder and projector; losses stay float32
    compile: bool = False  # torch.compile of the encoder: pays on a GPU, costs 10–35 s of a start on a CPU
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    threads: int = Field(0, ge=0)  # CPU threads of torch; 0: leave as they are

    @model_validator(mode="before")
    @classmethod
    def _fill_what_depends(cls, raw: Any) -> Any:
        """What is left open: first the method fills it in, then the data, then the views' recipe and the fields."""
        if not isinstance(raw, dict):
            return raw
        parts = {name: _as_written(raw.get(name, {})) for name in ("method", "projector", "data", "views", "optimizer")}
        if not all(isinstance(part, dict) for part in parts.values()):
            return raw  # each is refused by its field
        implied = implied_by(parts["method"])
        filled = {name: {**implied.get(name, {}), **parts[name]} for name in ("projector", "views", "optimizer")}
        views, data = filled["views"], parts["data"]
        views.setdefault("recipe", "digits" if data.get("name", "digits") == "digits" else "paper")
        if views.get("global_size") is None:
            views["global_size"] = data.get("size", DataConfig.model_fields["size"].default)
        if views.get("local_size") is None and (side := _whole(views["global_size"])) is not None:
            views["local_size"] = max(8, round(side * 98 / 224 / 4) * 4)
        return raw | filled

    @property
    def length(self) -> int:
        """How many EpochReports a full training yields: the epochs, or 1 where nothing is trained."""
        return 1 if self.method.name in FLOORS else self.epochs

    @property
    def elsewhere(self) -> dict[str, DataConfig]:
        """The data sets of `probe.transfer` by name: prepared as the training's, and whole."""
        own = self.data.model_dump() | {"limit": None}
        return {name: DataConfig.model_validate(own | {"name": name}) for name in self.probe.transfer}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method.name in PAIRED:
            check_paired(self)
        if self.method.name in MASKED:
            check_masked(self)
            if self.views.global_size != self.data.size:
                raise ValueError(f"{self.method.name} masks the patches of data.size; leave views.global_size out")
        if self.method.name == "predictive":
            check_predictive(self)
        if self.method.name == "lejepa":
            check_lejepa(self)
        _check_sides(self)
        return self


def _as_written(part: Any) -> Any:
    """A part that is built already as the dict of what was set in it; its name or recipe always says which it is."""
    if not isinstance(part, Part):
        return part
    which = {key: getattr(part, key) for key in ("name", "recipe") if key in type(part).model_fields}
    return which | part.model_dump(exclude_unset=True)


def _whole(side: Any) -> int | None:
    """As the field will read it; None where the field will refuse it."""
    try:
        return TypeAdapter(int).validate_python(side)
    except ValidationError:
        return None


def _check_sides(config: TrainConfig) -> None:
    """ValueError where a small encoder cannot cut up or halve the views."""
    encoder, views = config.encoder, config.views
    if encoder.name in ("small_resnet", "small_convnext") and views.local_views and (views.local_size or 8) < 8:
        raise ValueError(
            f"{encoder.name} halves a view three times; views.local_size must be 8 or more, not {views.local_size}"
        )
    if encoder.name == "small_vit":
        patch = encoder.patch or 4
        sides = {
            "data.size": config.data.size, "views.global_size": views.global_size, "views.local_size": views.local_size,
        }  # fmt: skip
        for what, side in sides.items():
            if side is not None and side % patch:
                raise ValueError(f"small_vit cuts images into patches of {patch}; {what} = {side} is no multiple")
