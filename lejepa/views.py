"""Multi-crop views as batched tensor operations on the device that trains.

Every image of every view draws its own parameters; nothing loops over images. Rotation comes first; random resized
crop, flip and blur are one linear map per axis (`resampling`), colour is one affine map of the channels (`colour`);
then clamp, solarise, normalise, cutout. The references blur after the colour: the two commute but for the clamp. In
part (SimCLR, BYOL, DINO) they resample bicubically, and all round to bytes between operations: here it is bilinear with
antialiasing, and nothing is rounded.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lejepa.colour import colour_map
from lejepa.draws import Ask, Draws
from lejepa.replay import Replayed
from lejepa.resampling import blurring, crop_boxes, resampling, turned
from lejepa.view_config import ViewsConfig

_LAUNCHES = 1 << 25  # values in the views, below which a GPU works shorter than its launches take
_FIRST_LOCAL = 1 << 16  # views are numbered: globals from 0, locals from here


@dataclass(frozen=True)
class Views:
    """Normalised views of one batch of N images."""

    globals: Tensor  # (Vg, N, C, S, S)
    locals: Tensor  # (Vl, N, C, s, s); Vl may be 0


@dataclass(frozen=True)
class _Group:
    """Views of one size."""

    numbers: range  # V of them
    size: int  # pixels
    scale: tuple[float, float]
    blur: tuple[float, ...]  # probability in each of the V views
    solarize: tuple[float, ...]


class Multicrop:
    """Makes the views of a batch. mean, std: (C,), of the images on [0, 1].

    size: side of the images that are evaluated, pixels, and of views where the config says nothing else.
    """

    def __init__(self, config: ViewsConfig, size: int, mean: Tensor, std: Tensor) -> None:
        self.config, self.size = config, size
        self.mean, self.std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
        (first_blur, other_blur, local_blur), (first_sol, other_sol, local_sol) = (
            p if isinstance(p, tuple) else (p, p, p) for p in (config.blur, config.solarize)
        )
        others, locals_ = config.global_views - 1, config.local_views
        self._globals = _Group(
            range(config.global_views), config.global_size or size, config.global_scale,
            (first_blur, *[other_blur] * others), (first_sol, *[other_sol] * others),
        )  # fmt: skip
        self._locals = _Group(
            range(_FIRST_LOCAL, _FIRST_LOCAL + locals_), config.local_size or size, config.local_scale,
            (local_blur,) * locals_, (local_sol,) * locals_,
        )  # fmt: skip
        groups = self._globals, self._locals
        self._values = len(mean) * sum(len(group.numbers) * group.size**2 for group in groups)  # an image's views have
        self._replayed = Replayed(self._make)

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: Tensor) -> Views:
        """images: (N, C, S, S) uint8, of any side S; keys: (N,) int64, on the same device, of `seeding.sample_keys`.

        What happens to an image in a view depends on its key and the view's number alone. ValueError for other shapes.
        """
        self._check(images, keys)
        replay = images.is_cuda and len(images) * self._values < _LAUNCHES
        return Views(*(self._replayed(images, keys) if replay else self._make(images, keys)))

    def _make(self, images: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        by_row = images.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return self._views(by_row, keys, self._globals), self._views(by_row, keys, self._locals)

    def normalize(self, images: Tensor) -> Tensor:
        """(N, C, S, S) uint8 → float32 of side `size`, with the views' mean and deviation: what is evaluated."""
        x = images / 255
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return (x - self.mean) / self.std

    def _views(self, by_row: Tensor, keys: Tensor, group: _Group) -> Tensor:
        """Pixels (N, S, C, S) on [0, 1], rows before channels → (V, N, C, size, size)."""
        n, channels, views, size = len(by_row), by_row.shape[2], len(group.numbers), group.size
        if not views:
            return by_row.new_empty(0, n, channels, size, size)
        draw = Draws(keys, group.numbers)
        x = self._resample(by_row, draw, group)  # (B, C, size²), B = N·V
        if self.config.jitter or self.config.grey:
            matrix, offset = colour_map(x.mean(2), draw, self.config)
            x = torch.baddbmm(offset.unsqueeze(2), matrix, x).clamp_(0, 1)
        shift, gain = -self.mean / self.std, 1 / self.std
        if any(group.solarize):
            # v from 128/255 on becomes 1 − v: on bytes the same as ½ − |v − ½|, and 1 − |v − 1| leaves v as it is
            fold = torch.where(draw.chance(Ask.SOLARIZE, group.solarize), 0.5, 1.0)
            x = x.sub_(fold.view(-1, 1, 1)).abs_()
            shift, gain = shift + fold.view(n, views, 1, 1, 1).transpose(0, 1) / self.std, -gain
        x = x.view(n, views, channels, size, size).transpose(0, 1)
        x = torch.addcmul(shift, x, gain, out=torch.empty(x.shape, device=x.device))  # normalised, and in order
        return _cutout(x, draw, self.config.cutout) if self.config.cutout else x

    def _resample(self, by_row: Tensor, draw: Draws, group: _Group) -> Tensor:
        """Rotation, crop, flip and blur: (N, S, C, S) → (B, C, size²)."""
        side, size, c = by_row.shape[-1], group.size, self.config
        if c.rotate:
            planes = by_row.transpose(1, 2).repeat_interleave(len(group.numbers), 0)
            by_row = turned(planes, draw.uniform(Ask.ANGLE, -c.rotate, c.rotate)).transpose(1, 2)
        left, top, width, height = crop_boxes(draw, side, group.scale, c.ratio)
        columns = resampling(left, width, side, size, draw.chance(Ask.FLIP, c.flip))
        rows = resampling(top, height, side, size)
        if any(group.blur):
            sigma = draw.uniform(Ask.SIGMA, 0.1, 2.0)  # pixels, as in SimCLR, BYOL, DINO and LeJEPA
            blur = blurring(sigma, draw.chance(Ask.BLUR, group.blur), size)
            columns, rows = blur @ columns, blur @ rows
        # an image's views are one product of the rows, unless each view turned the image
        x = rows.view(len(by_row), -1, side) @ by_row.flatten(2)
        x = x.view(len(rows), -1, side) @ columns.transpose(1, 2)
        return x.view(len(rows), size, -1, size).transpose(1, 2).flatten(2)

    def _check(self, images: Tensor, keys: Tensor) -> None:
        n, channels, height, width = images.shape if images.ndim == 4 else (-1, -1, 0, 1)
        if images.dtype != torch.uint8 or height != width or channels != len(self.mean):
            wanted = f"uint8 (N, {len(self.mean)}, S, S)"
            raise ValueError(f"images must be {wanted}, not {images.dtype} {tuple(images.shape)}")
        if keys.dtype != torch.int64 or keys.shape != (n,):
            raise ValueError(f"keys must be int64 ({n},), one an image, not {keys.dtype} {tuple(keys.shape)}")


def _cutout(x: Tensor, draw: Draws, probability: float) -> Tensor:
    """Of (V, N, C, S, S), erases one square in each chosen view, with a side from a quarter to half of the view's."""
    views, images, _, side, _ = x.shape
    length = draw.uniform(Ask.CUTOUT_SIDE, side / 4, side / 2)
    at = torch.arange(side, device=x.device) + 0.5

    def inside(what: Ask) -> Tensor:  # (B, side)
        start = (draw.table[what] * (side - length)).unsqueeze(1)
        return (at >= start) & (at < start + length.unsqueeze(1))

    square = inside(Ask.CUTOUT_TOP).unsqueeze(2) & inside(Ask.CUTOUT_LEFT).unsqueeze(1)
    square &= draw.chance(Ask.CUTOUT, probability).view(-1, 1, 1)
    erased = square.view(images, views, 1, side, side).transpose(0, 1)
    return x.masked_fill(erased, 0.0)  # the mean colour
