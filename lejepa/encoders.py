"""Encoders by name, always from scratch, their last layers, and the projector.

An encoder maps images (B, C, S, S) to embeddings (B, D). With `encoder.dim` its last layer is a linear one that gives
embeddings of that many features.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from lejepa.config import SMALL_ENCODERS, ProjectorConfig, TrainConfig


def build_encoder(config: TrainConfig, channels: int) -> tuple[nn.Module, int]:
    """The encoder of a config and the width of its embeddings, D. ValueError where it has not what is asked of it."""
    encoder, _ = construct(config, channels)
    own: Any = getattr(encoder, "head_hidden_size", None) or encoder.num_features  # mobilenets widen in their head
    return encoder, config.encoder.dim or int(own)


def construct(config: TrainConfig, channels: int) -> tuple[nn.Module, dict[str, Any]]:
    """The encoder, and the arguments that its class, or `timm.create_model(name, …)`, was called with."""
    if config.encoder.name in SMALL_ENCODERS:
        options = _small_options(config, channels)
        return small(config.encoder.name, options), options
    return _from_timm(config, channels)


def small(name: str, options: dict[str, Any]) -> nn.Module:
    """A small encoder by its constructor's arguments."""
    from lejepa.convnets import SmallConvNext, SmallResNet
    from lejepa.vit import SmallViT

    classes = {"small_resnet": SmallResNet, "small_convnext": SmallConvNext, "small_vit": SmallViT}
    encoder: nn.Module = classes[name](**options)
    return encoder


def _small_options(config: TrainConfig, channels: int) -> dict[str, Any]:
    c = config.encoder
    common = {"channels": channels, "dim": c.dim}
    if c.name == "small_vit":
        vit = {"size": config.data.size, "patch": c.patch or 4, "width": c.width or 192, "depth": c.depth or 4}
        return common | vit | {"drop_path": c.drop_path, "registers": c.registers}
    convnet = common | {"width": c.width or 32, "depth": c.depth or 1}
    return convnet | {"drop_path": c.drop_path} if c.name == "small_convnext" else convnet


# -- timm -------------------------------------------------------------------------------------------------------------


def _from_timm(config: TrainConfig, channels: int) -> tuple[nn.Module, dict[str, Any]]:
    """A model of timm at the images' size, which takes other sizes too where timm offers `dynamic_img_size`.

    ValueError where it has no drop path, no register tokens, or no single linear layer for `dim`, and one is asked for.
    """
    c = config.encoder
    asked: dict[str, Any] = {"in_chans": channels, "num_classes": c.dim or 0}
    if c.drop_path:
        asked["drop_path_rate"] = c.drop_path
    model: Any = None
    options: dict[str, Any] = {}
    for registers in ("reg_tokens", "num_reg_tokens") if c.registers else (None,):  # the latter in EVA's family
        try:
            model, options = _create(c.name, asked | ({registers: c.registers} if registers else {}), config.data.size)
            break
        except TypeError as error:
            if "drop_path_rate" in str(error):
                raise ValueError(f"encoder {c.name} has no drop path; leave encoder.drop_path at 0") from error
            if "reg_tokens" not in str(error):
                raise ValueError(f"timm cannot build {c.name}: {error}") from error
    if model is None:
        raise ValueError(f"encoder {c.name} has no register tokens; leave encoder.registers at 0, or take a ViT")
    if c.dim is not None:
        _start_afresh(c.name, model.get_classifier())
    return model, options


def _create(name: str, asked: dict[str, Any], size: int) -> tuple[Any, dict[str, Any]]:
    """The model and the options that it took: all that are asked for, and of those on the size what the family knows.

    TypeError names an option that is asked for and unknown.
    """
    import timm  # cold import of seconds

    options = asked | {"img_size": size, "dynamic_img_size": True}
    while True:
        try:
            return timm.create_model(name, pretrained=False, **options), options
        except TypeError as error:
            known = {key: value for key, value in options.items() if key in asked or f"'{key}'" not in str(error)}
            if known == options:
                raise
            options = known


def _start_afresh(name: str, head: Any) -> None:
    """torch's own initialisation: some families start a classifier at zero, and embeddings at zero have no gradient."""
    if not isinstance(head, nn.Linear | nn.Conv2d):
        raise ValueError(f"encoder {name} ends in more than one linear layer; leave encoder.dim out")
    head.reset_parameters()


# -- layers -----------------------------------------------------------------------------------------------------------


def last_layers(encoder: nn.Module, x: Tensor) -> Tensor:
    """(B, C, S, S) → the pooled features of the last two layers (B, D′), what LeJEPA's probe reads (paper §6.1).

    The second part is the encoder's own embedding, before the linear layer of `dim`. The first part comes from a ViT's
    last block but one, through the final norm and pooled as the model pools: the class token, or the mean of the
    patches where a model pools that or has no class token. From a hierarchical or convolutional net it is the mean map
    of the last stage but one. Raises ValueError where a model does not show its layers.
    """
    walk = getattr(encoder, "forward_intermediates", None)
    if walk is None:
        raise ValueError(f"{type(encoder).__name__} does not show its layers; set probe.on to embedding")
    known = inspect.signature(walk).parameters
    of_tokens = "return_prefix_tokens" in known
    options: dict[str, Any] = {"output_fmt": "NLC"} if of_tokens else {}
    if of_tokens and getattr(encoder, "num_prefix_tokens", True):
        options["return_prefix_tokens"] = True
    if "norm" in known:
        options["norm"] = True
    head: Any = encoder.forward_head
    try:
        last, (before, _) = walk(x, indices=2, **options)
    except AssertionError as error:  # a family that leaves its layers without the norm, such as Hiera
        raise ValueError(f"{type(encoder).__name__} does not show its layers: {error}") from error
    if isinstance(before, tuple):  # (patches, class and register tokens): the order of timm
        before = torch.cat([before[1], before[0]], dim=1)
    pooled = head(before, pre_logits=True) if of_tokens else before.mean((2, 3))
    return torch.cat([pooled, head(last, pre_logits=True)], dim=1)


# -- projector --------------------------------------------------------------------------------------------------------


def build_projector(config: ProjectorConfig, dim: int, *, last_bias: bool = True) -> nn.Sequential:
    """MLP dim → hidden → … → config.dim, norm and ReLU after every hidden layer, a plain linear layer last."""
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}
    layers: list[nn.Module] = []
    for _ in range(config.layers - 1):
        layers += [nn.Linear(dim, config.hidden, bias=config.norm == "none"), norms[config.norm](config.hidden)]
        layers.append(nn.ReLU())
        dim = config.hidden
    return nn.Sequential(*layers, nn.Linear(dim, config.dim, bias=last_bias))


# -- check ------------------------------------------------------------------------------------------------------------


def check_encoder(config: TrainConfig) -> None:
    """Build the encoder and show it one image of every view size; ValueError, ready for users, where it cannot."""
    if config.method.name == "pixels":
        return
    views, name = config.views, config.encoder.name
    sizes = {config.data.size, views.global_size or config.data.size}
    sizes |= {views.local_size or config.data.size} if views.local_views else set()
    with torch.random.fork_rng(devices=[]):
        try:
            encoder, dim = build_encoder(config, channels=3)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"encoder {name} cannot be built for {config.data.size} px images: {error}") from error
        for size in sorted(sizes):
            try:
                with torch.no_grad():
                    shape = tuple(encoder.eval()(torch.zeros(2, 3, size, size)).shape)
            except (RuntimeError, AssertionError, ValueError) as error:
                hint = "; set views.local_views to 0" if size != config.data.size else ""
                raise ValueError(f"encoder {name} cannot take {size} px images: {error}{hint}") from error
            if shape != (2, dim):
                raise ValueError(f"encoder {name} gives {shape} for 2 images, not one embedding each")
        if config.probe.on == "layers":
            with torch.no_grad():
                last_layers(encoder, torch.zeros(2, 3, config.data.size, config.data.size))
