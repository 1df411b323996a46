"""Recipes: for every method a training at two scales, as the parts of a TrainConfig, every default with its source.

    config = TrainConfig.model_validate(recipe("byol", "cpu"))

`cpu`: CIFAR-10 at 32 px, a small encoder, minutes on one core. All methods have the same encoder (those that mask
patches: the same ViT), data, views, optimiser, batch and length, so that they compare; what differs is said at its
place. Where no source is given, the value is this project's own, not tuned.

`gpu`: the reference's own training, as published: encoder, data, views, batch, optimiser, length. Their batches mostly
take several GPUs, and those of ResNets cannot go in parts, as BatchNorm would see the parts. They differ in encoders,
budgets and views, so they reproduce papers and do not compare methods.
"""

import copy
from typing import Any, Literal

Scale = Literal["cpu", "gpu"]
Recipe = dict[str, Any]


def recipe(method: str, scale: Scale) -> Recipe:
    """The parts of a TrainConfig for one method. ValueError for names that are not known."""
    if method not in RECIPES or scale not in RECIPES[method]:
        raise ValueError(f"no recipe {method!r} at scale {scale!r}; known are {', '.join(RECIPES)} at cpu and gpu")
    return copy.deepcopy(RECIPES[method][scale])


def over(base: Recipe, **parts: Any) -> Recipe:
    """A recipe with other values in some of its parts; a part's other keys stay."""
    laid = {k: base[k] | v if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in parts.items()}
    return {**base, **laid}


# -- cpu --------------------------------------------------------------------------------------------------------------

_CIFAR: Recipe = {
    "encoder": {"name": "small_resnet"},
    "projector": {"hidden": 512, "dim": 64, "norm": "batch"},
    "data": {"name": "cifar10", "size": 32, "limit": 16_000},
    "views": {"recipe": "cifar", "global_views": 2, "local_views": 0},  # SimSiam, appendix D
    "optimizer": {
        "name": "adamw", "lr": 2e-3, "weight_decay": 5e-4,  # the decay of ResNets in LeJEPA §6.1
        "weight_decay_end": None, "clip": None, "warmup": 1,
    },
    "probe": {"every": 10},
    "epochs": 10,
    "batch_size": 256,  # the reference batch of every linear scaling rule below
    "precision": "bf16",
}  # fmt: skip
_CIFAR_VIT = over(
    _CIFAR,
    encoder={"name": "small_vit", "width": 128, "depth": 4, "patch": 4},
    views={"recipe": "crop", "global_views": 1},  # crops alone: I-JEPA, MAE
    optimizer={"weight_decay": 0.05},  # of ViTs in LeJEPA §6.1; MAE and data2vec have the same
)

# -- gpu --------------------------------------------------------------------------------------------------------------

_IMAGENET: Recipe = {"data": {"name": "imagenet", "size": 224}, "precision": "bf16"}
_TWO = {"global_views": 2, "local_views": 0}


def _resnet50(base_rate: float, decay: float, batch: int, *, optimizer: str = "lars", warmup: float = 10) -> Recipe:
    """ResNet-50 on ImageNet; base_rate: for 256 images, scaled linearly."""
    rate = base_rate * batch / 256
    return over(
        _IMAGENET,
        encoder={"name": "resnet50"},
        views=_TWO,
        optimizer={"name": optimizer, "lr": rate, "weight_decay": decay, "momentum": 0.9, "warmup": warmup},
        batch_size=batch,
    )


def _vit(width: int, depth: int, patch: int, **parts: Any) -> Recipe:
    """A ViT without class token on ImageNet: heads of 64 features, positions by sines and cosines."""
    views = {"global_views": 1, "local_views": 0, "local_size": 224 // patch // 2 * patch}
    encoder = {"name": "small_vit", "width": width, "depth": depth, "patch": patch}
    return over({**_IMAGENET, "encoder": encoder, "views": views}, **parts)


RECIPES: dict[str, dict[Scale, Recipe]] = {
    "lejepa": {
        # λ: best at two views in T7
        "cpu": over(_CIFAR, method={"name": "lejepa", "lamb": 0.01, "slices": 256}),
        # LeJEPA: T1 (ViT-L/14, 100 epochs, 512 images), §6.1 and README (views, optimiser); width: MINIMAL.md
        "gpu": over(
            _IMAGENET,
            method={"name": "lejepa", "lamb": 0.05, "slices": 1024},
            encoder={"name": "vit_large_patch14_224"},
            projector={"layers": 3, "hidden": 2048, "dim": 64},
            views={"recipe": "paper", "global_views": 2, "local_views": 6, "local_size": 98},
            optimizer={"name": "adamw", "lr": 5e-4, "weight_decay": 5e-2},
            epochs=100,
            batch_size=512,
        ),
    },
    "vicreg": {
        "cpu": over(_CIFAR, method={"name": "vicreg"}),
        # facebookresearch/vicreg, README: 100 epochs on one node of 8 GPUs; main_vicreg.py; augmentations.py: BYOL's
        "gpu": over(
            _resnet50(0.3, 1e-6, 512),
            method={"name": "vicreg", "inv": 25.0, "std": 25.0, "cov": 1.0},
            projector={"layers": 3, "hidden": 8192, "dim": 8192},
            views={"recipe": "byol"},
            epochs=100,
        ),
    },
    "barlow_twins": {
        "cpu": over(_CIFAR, method={"name": "barlow_twins"}),
        # facebookresearch/barlowtwins, main.py (biases and norms have a rate of their own there: 0.0048)
        "gpu": over(
            _resnet50(0.2, 1e-6, 2048),
            method={"name": "barlow_twins", "off_diagonal": 0.0051},
            projector={"layers": 3, "hidden": 8192, "dim": 8192},
            views={"recipe": "byol"},
            epochs=1000,
        ),
    },
    "simclr": {
        # temperature: README, the command for CIFAR-10
        "cpu": over(_CIFAR, method={"name": "simclr", "temperature": 0.5}),
        # google-research/simclr, README, the command for ImageNet; a head as wide as the embedding, then 128
        "gpu": over(
            _resnet50(0.3, 1e-6, 4096),
            method={"name": "simclr", "temperature": 0.1},
            projector={"layers": 3, "hidden": 2048, "dim": 128},
            views={"recipe": "simclr"},
            epochs=100,
        ),
    },
    "moco_v3": {
        # temperature: of the reference's ViTs
        "cpu": over(_CIFAR, method={"name": "moco_v3", "temperature": 0.2, "ema": 0.99}),
        # facebookresearch/moco-v3, CONFIG.md: ResNet-50, 100 epochs; main_moco.py; a ResNet has two layers there
        "gpu": over(
            _resnet50(0.6, 1e-6, 4096),
            method={"name": "moco_v3", "temperature": 1.0, "ema": 0.99, "predictor_hidden": 4096},
            projector={"layers": 2, "hidden": 4096, "dim": 256},
            views={"recipe": "byol", "global_scale": (0.2, 1.0)},
            epochs=100,
        ),
    },
    "byol": {
        # ema: of its shortest training, 40 epochs; projector: two layers and 256 features, as in the reference
        "cpu": over(_CIFAR, method={"name": "byol", "ema": 0.97}, projector={"layers": 2, "dim": 256}),
        # deepmind-research, byol/configs/byol.py: 1000 epochs
        "gpu": over(
            _resnet50(0.2, 1.5e-6, 4096),
            method={"name": "byol", "ema": 0.996, "predictor_hidden": 4096},
            projector={"layers": 2, "hidden": 4096, "dim": 256},
            views={"recipe": "byol"},
            epochs=1000,
        ),
    },
    "simsiam": {
        # predictor: a quarter as wide as the projections, as in the reference; and these wider than elsewhere, for it.
        # Its SGD (appendix D: 0.03 for 256 images) takes longer to learn than this budget has
        "cpu": over(_CIFAR, method={"name": "simsiam"}, projector={"dim": 512}),
        # facebookresearch/simsiam, README and main_simsiam.py
        "gpu": over(
            _resnet50(0.05, 1e-4, 512, optimizer="sgd", warmup=0),
            method={"name": "simsiam", "predictor_hidden": 512, "constant_rate": True},
            projector={"layers": 3, "hidden": 2048, "dim": 2048},
            views={"recipe": "cifar", "blur": 0.5},
            epochs=100,
        ),
    },
    "dino": {
        # BatchNorm in the head (--use_bn_in_head) and a constant decay (README), as for convnets; two local views. A
        # lower ema, fewer prototypes and a last layer that moves at once are for a short training
        "cpu": over(
            _CIFAR,
            method={"name": "dino", "prototypes": 1024, "ema": 0.99, "frozen_epochs": 0},
            views={"local_views": 2, "local_size": 16},
            optimizer={"clip": 3.0},
        ),
        # facebookresearch/dino, main_dino.py: ViT-S/16, 100 epochs, 1024 images as in its paper
        "gpu": over(
            _IMAGENET,
            method={
                "name": "dino", "prototypes": 65_536, "student_temp": 0.1, "teacher_temp": (0.04, 0.04), "ema": 0.996,
                "center_momentum": 0.9, "frozen_epochs": 1,
            },
            encoder={"name": "vit_small_patch16_224", "drop_path": 0.1},
            projector={"layers": 3, "hidden": 2048, "dim": 256, "norm": "none"},
            views={"recipe": "dino", "global_views": 2, "local_views": 8, "local_size": 96},
            optimizer={
                "name": "adamw", "lr": 5e-4 * 1024 / 256, "weight_decay": 0.04, "weight_decay_end": 0.4, "clip": 3.0,
                "warmup": 10,
            },
            epochs=100,
            batch_size=1024,
        ),
    },
    "ijepa": {
        # ema: as in the reference; decay that grows to ten times, as in the reference
        "cpu": over(_CIFAR_VIT, method={"name": "ijepa"}, optimizer={"weight_decay": 0.04, "weight_decay_end": 0.4}),
        # facebookresearch/ijepa, configs/in1k_vith14_ep300.yaml
        "gpu": _vit(
            1280, 32, 14,
            method={
                "name": "ijepa", "ema": (0.996, 1.0), "min_keep": 10, "predictor_width": 384, "predictor_depth": 12,
            },
            views={"recipe": "crop"},
            optimizer={"name": "adamw", "lr": 1e-3, "weight_decay": 0.04, "weight_decay_end": 0.4, "warmup": 40},
            epochs=300,
            batch_size=2048,
        ),
    },
    "data2vec": {
        # ema: from lower, as the training is short
        "cpu": over(
            _CIFAR_VIT, method={"name": "data2vec", "ema": (0.99, 0.9998)}, optimizer={"clip": 3.0}
        ),
        # facebookresearch/data2vec_vision, README: ViT-B, 800 epochs, 16 GPUs of 128 images
        "gpu": _vit(
            768, 12, 16,
            method={"name": "data2vec", "layers": 6, "beta": 2.0, "ema": (0.999, 0.9998)},
            encoder={"drop_path": 0.25},
            optimizer={"name": "adamw", "lr": 2e-3, "weight_decay": 0.05, "clip": 3.0, "warmup": 10},
            epochs=800,
            batch_size=2048,
        ),
    },
    "mae": {
        "cpu": over(_CIFAR_VIT, method={"name": "mae"}, views={"global_scale": (0.2, 1.0), "flip": 0.5}),
        # facebookresearch/mae, PRETRAIN.md: ViT-L/16, 800 epochs, 1.5e-4 for 256 images
        "gpu": _vit(
            1024, 24, 16,
            method={"name": "mae", "masked": 0.75, "normalize": True, "decoder_width": 512, "decoder_depth": 8},
            optimizer={
                "name": "adamw", "lr": 1.5e-4 * 4096 / 256, "weight_decay": 0.05, "betas": (0.9, 0.95), "warmup": 40,
            },
            epochs=800,
            batch_size=4096,
        ),
    },
    "predictive": {
        # the bare objective; the switches are laid over it
        "cpu": over(_CIFAR, method={"name": "predictive"}),
        # LeJEPA's ResNet-50 (§6.1, T7), of which it is a part: views of one size
        "gpu": over(
            _IMAGENET,
            method={"name": "predictive"},
            encoder={"name": "resnet50"},
            projector={"layers": 3, "hidden": 2048, "dim": 64},
            views={"recipe": "paper", "global_views": 8, "local_views": 0},
            optimizer={"name": "adamw", "lr": 5e-4, "weight_decay": 5e-4},
            epochs=100,
            batch_size=512,
        ),
    },
    "supervised": {
        "cpu": over(_CIFAR, method={"name": "supervised"}),
        # pytorch/examples, imagenet/main.py; its rate falls in steps, here on a cosine
        "gpu": over(
            _resnet50(0.1, 1e-4, 256, optimizer="sgd", warmup=0),
            method={"name": "supervised"},
            views={"recipe": "crop", "global_scale": (0.08, 1.0), "flip": 0.5, "global_views": 1},
            epochs=90,
        ),
    },
    "random": {
        "cpu": over(_CIFAR, method={"name": "random"}),
        "gpu": over(_IMAGENET, method={"name": "random"}, encoder={"name": "resnet50"}, views=_TWO),
    },
    "pixels": {
        "cpu": over(_CIFAR, method={"name": "pixels"}),
        "gpu": over(_IMAGENET, method={"name": "pixels"}, views=_TWO),
    },
}  # fmt: skip
