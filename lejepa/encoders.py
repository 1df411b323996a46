"""Encoders by name, always from scratch, and the projector. An encoder maps (B, C, S, S) to embeddings (B, D)."""

from typing import Any

import torch
from torch import Tensor, nn

from lejepa.config import ProjectorConfig, TrainConfig


class SmallResNet(nn.Module):
    """A pre-activation-free ResNet for 8–64 px: stride-2 stem, three stages, global average. 0.31 M at width 32."""

    def __init__(self, channels: int = 3, width: int = 32, depth: int = 1) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for stage, stride in enumerate((1, 2, 2)):
            out = width << stage
            for block in range(depth):
                into = out if block or stage == 0 else out // 2
                stages.append(_BasicBlock(into, out, 1 if block else stride))
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.Sequential(*stages)
        self.num_features = width * 4

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.stages(self.stem(x))
        return features.mean((2, 3))


class _BasicBlock(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(into, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or into != out:
            self.skip = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


def build_encoder(config: TrainConfig, channels: int) -> tuple[nn.Module, int]:
    """The encoder of a config and the width of its embeddings, D.

    A ViT of timm takes positions at any size where timm offers `dynamic_img_size`, so local crops may be smaller.
    """
    c = config.encoder
    if c.name == "small_resnet":
        resnet = SmallResNet(channels, c.width or 32, c.depth or 1)
        return resnet, resnet.num_features
    if c.name == "small_vit":
        from lejepa.vit import SmallViT

        vit = SmallViT(config.data.size, channels, c.patch or 4, c.width or 192, c.depth or 4, c.drop_path)
        return vit, vit.num_features
    import timm

    options: dict[str, Any] = dict(pretrained=False, num_classes=0, in_chans=channels, drop_path_rate=c.drop_path)
    sized: dict[str, Any] = dict(img_size=config.data.size)
    for flexible in (sized | dict(dynamic_img_size=True), sized, {}):
        try:
            model: Any = timm.create_model(c.name, **options, **flexible)
        except TypeError:
            continue  # this family does not know the option
        return model, int(model.num_features)
    raise ValueError(f"timm cannot build {c.name} with {options}")


def check_encoder(config: TrainConfig) -> None:
    """Build the encoder and show it one image of every view size; ValueError, ready for users, where it cannot."""
    if config.method.name == "pixels":
        return
    views, name = config.views, config.encoder.name
    sizes = {config.data.size} | ({views.local_size or config.data.size} if views.local_views else set())
    with torch.random.fork_rng(devices=[]):
        encoder, dim = build_encoder(config, channels=3)
        for size in sorted(sizes):
            try:
                with torch.no_grad():
                    shape = tuple(encoder.eval()(torch.zeros(2, 3, size, size)).shape)
            except (RuntimeError, AssertionError, ValueError) as error:
                hint = "; set views.local_views to 0" if size != config.data.size else ""
                raise ValueError(f"encoder {name} cannot take {size} px images: {error}{hint}") from error
            if shape != (2, dim):
                raise ValueError(f"encoder {name} gives {shape} for 2 images, not one embedding each")


def build_projector(config: ProjectorConfig, dim: int, *, last_bias: bool = True) -> nn.Sequential:
    """MLP dim → hidden → … → config.dim, BatchNorm and ReLU after every hidden layer, a plain linear layer last."""
    layers: list[nn.Module] = []
    for _ in range(config.layers - 1):
        layers += [nn.Linear(dim, config.hidden, bias=False), nn.BatchNorm1d(config.hidden), nn.ReLU()]
        dim = config.hidden
    return nn.Sequential(*layers, nn.Linear(dim, config.dim, bias=last_bias))
