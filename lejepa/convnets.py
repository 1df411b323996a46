"""Small convolutional encoders for 8–64 px: a stem that halves the image, three stages, global average."""

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn


class Staged(nn.Module):
    """Stem, stages, mean over places, norm, and a linear layer where `dim` asks for one.

    Its methods have the names and the meaning that they have in timm, so that `last_layers` reads both alike.
    """

    def __init__(self, stem: nn.Module, stages: list[nn.Module], norm: nn.Module, width: int, dim: int | None) -> None:
        super().__init__()
        self.stem, self.stages, self.norm = stem, nn.ModuleList(stages), norm
        self.head = nn.Identity() if dim is None else nn.Linear(width, dim)
        self.num_features = width

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_intermediates(x, indices=1)[0])

    def forward_intermediates(self, x: Tensor, indices: int) -> tuple[Tensor, list[Tensor]]:
        """(B, C, S, S) → the map of the last stage (B, D, s, s), and those of the last `indices` stages."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[-1], maps[-indices:]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The map of the last stage → embeddings; `pre_logits`: before the linear layer, as timm calls it."""
        pooled: Tensor = self.norm(x.mean((2, 3)))
        return pooled if pre_logits else self.head(pooled)


class SmallResNet(Staged):
    """A pre-activation-free ResNet (He et al. 2016) with a stride-2 stem of 3×3. 0.31 M parameters at width 32."""

    def __init__(self, channels: int = 3, width: int = 32, depth: int = 1, dim: int | None = None) -> None:
        stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages: list[nn.Module] = []
        for stage, stride in enumerate((1, 2, 2)):
            out = width << stage
            first = _BasicBlock(out if stage == 0 else out // 2, out, stride)
            stages.append(nn.Sequential(first, *(_BasicBlock(out, out, 1) for _ in range(depth - 1))))
        super().__init__(stem, stages, nn.Identity(), width * 4, dim)


class _BasicBlock(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(into, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or into != out:
            self.skip = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.body(x) + self.skip(x))


class SmallConvNext(Staged):
    """timm's ConvNeXt blocks (Liu et al. 2022) behind patches of 2 px; no BatchNorm anywhere.

    No layer scale: it starts blocks at 1e-6 for the sake of depth, and three blocks of a short training only lose time.
    """

    def __init__(
        self, channels: int = 3, width: int = 32, depth: int = 1, drop_path: float = 0.0, dim: int | None = None
    ) -> None:
        rates = torch.linspace(0, drop_path, 3 * depth).tolist()  # later blocks are dropped more often
        stem = nn.Sequential(nn.Conv2d(channels, width, 2, 2), _ChannelNorm(width))
        stages: list[nn.Module] = []
        for stage in range(3):
            out = width << stage
            halve = [_ChannelNorm(out // 2), nn.Conv2d(out // 2, out, 2, 2)] if stage else []
            blocks = [
                ConvNeXtBlock(out, ls_init_value=None, drop_path=rate)
                for rate in rates[stage * depth : (stage + 1) * depth]
            ]
            stages.append(nn.Sequential(*halve, *blocks))
        super().__init__(stem, stages, nn.LayerNorm(width * 4, eps=1e-6), width * 4, dim)


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W), at every place by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
