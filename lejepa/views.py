"""Multi-crop views as batched tensor operations on the device that trains.

Every image of every view draws its own parameters; nothing loops over images. The order is the paper's: random resized
crop with flip (and rotation) as one affine resampling, colour as one 3×3 matrix and offset per image, blur, solarise,
normalise, cutout. Colour is clamped once at its end, where torchvision clamps after each operation.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lejepa.seeding import uniform
from lejepa.view_config import ViewsConfig

_QUESTIONS = 64  # random numbers kept for a view
_FIRST_LOCAL = 1 << 16  # views are numbered: globals from 0, locals from here
_LUMA = (0.299, 0.587, 0.114)
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@dataclass(frozen=True)
class Views:
    """Normalised views of one batch of N images."""

    globals: Tensor  # (Vg, N, C, S, S)
    locals: Tensor  # (Vl, N, C, s, s); Vl may be 0


class Multicrop:
    """Makes the views of a batch. mean, std: (C,), of the training images on [0, 1]."""

    def __init__(self, config: ViewsConfig, size: int, mean: Tensor, std: Tensor) -> None:
        self.config, self.size = config, size
        self.local_size = config.local_size or size
        self.mean, self.std = mean.view(-1, 1, 1), std.view(-1, 1, 1)

    def __call__(self, images: Tensor, keys: Tensor) -> Views:
        """images: (N, C, H, W) uint8; keys: (N,) int64, on the same device, of `seeding.sample_keys`.

        What happens to an image in a view depends on its key and the view's number alone.
        """
        c = self.config
        pixels = images.float() / 255
        global_views = self._augment(pixels, keys, range(c.global_views), self.size, c.global_scale)
        numbers = range(_FIRST_LOCAL, _FIRST_LOCAL + c.local_views)
        local_views = self._augment(pixels, keys, numbers, self.local_size, c.local_scale)
        return Views(global_views, local_views)

    def normalize(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 → float32 with the training images' mean and deviation: what the probes see."""
        return (images.float() / 255 - self.mean) / self.std

    def _augment(self, pixels: Tensor, keys: Tensor, numbers: range, size: int, scale: tuple[float, float]) -> Tensor:
        n, channels = pixels.shape[:2]
        if not numbers:
            return pixels.new_empty(0, n, channels, size, size)
        draw = _Draws(keys, numbers)
        x = pixels.repeat(len(numbers), 1, 1, 1)
        x = crop(x, size, crop_boxes(draw, scale, self.config.ratio, self.config.flip, self.config.rotate))
        x = self._recolour(x, draw)
        x = self._blur(x, draw)
        if self.config.solarize:
            chosen = draw.chance(self.config.solarize).view(-1, 1, 1, 1)
            x = torch.where(chosen & (x >= 128 / 255), 1 - x, x)
        x = (x - self.mean) / self.std
        if self.config.cutout:
            x = _cutout(x, draw, self.config.cutout)
        return x.view(len(numbers), n, channels, size, size)

    def _recolour(self, x: Tensor, draw: "_Draws") -> Tensor:
        c = self.config
        if not c.jitter and not c.grey:
            return x
        if x.shape[1] == 3:
            matrix, offset = _colour_matrix(x, draw, c)
        else:  # one channel: what is left of jitter is a gain and an offset
            on = draw.chance(c.jitter)
            gain = torch.where(on, draw.around_one(c.brightness), 1.0)
            contrast = torch.where(on, draw.around_one(c.contrast), 1.0)
            matrix = (gain * contrast).view(-1, 1, 1)
            offset = ((1 - contrast) * gain * x.mean((1, 2, 3))).view(-1, 1)
        flat = torch.baddbmm(offset.unsqueeze(-1), matrix, x.flatten(2))
        return flat.clamp_(0, 1).view_as(x)

    def _blur(self, x: Tensor, draw: "_Draws") -> Tensor:
        if not self.config.blur:
            return x
        chosen = draw.chance(self.config.blur)
        sigma = draw.uniform(0.1, 2.0)  # pixels, as in the paper's transform
        radius = max(1, round(x.shape[-1] * 0.05))  # the kernel spans a tenth of the side, as at 224 px
        at = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
        kernel = torch.softmax(-at.square() / (2 * sigma.view(-1, 1).square()), dim=1)  # (B, 2r + 1)
        identity = (at == 0).to(x.dtype).expand_as(kernel)
        kernel = torch.where(chosen.view(-1, 1), kernel, identity)
        return _separable_blur(x, kernel, radius)


class _Draws:
    """One random number per image, view and question. keys: (N,); numbers: of the V views. Asked in a fixed order."""

    def __init__(self, keys: Tensor, numbers: range) -> None:
        views = torch.tensor(list(numbers), device=keys.device).unsqueeze(1)
        self.keys, self.counter, self.asked = keys, views * _QUESTIONS, 0

    def uniform(self, low: float, high: float, tries: int = 1) -> Tensor:
        """(V·N,), or (tries, V·N) for more than one."""
        questions = torch.arange(self.asked, self.asked + tries, device=self.keys.device).view(-1, 1, 1)
        self.asked += tries
        return low + (high - low) * uniform(self.keys, self.counter + questions).flatten(1).squeeze(0)

    def chance(self, probability: float) -> Tensor:
        return self.uniform(0, 1) < probability

    def around_one(self, strength: float) -> Tensor:
        return self.uniform(max(0.0, 1 - strength), 1 + strength)


def crop_boxes(
    draw: _Draws, scale: tuple[float, float], ratio: tuple[float, float], flip: float, rotate: float
) -> Tensor:
    """Affine maps (B, 2, 3) from the crop's [−1, 1]² to the image's: torchvision's RandomResizedCrop, batched.

    Area uniform in `scale`, aspect log-uniform in `ratio`, the first of ten draws that fits into the image (else the
    last, cut to it), position uniform.
    """
    area = draw.uniform(*scale, tries=10)
    aspect = draw.uniform(math.log(ratio[0]), math.log(ratio[1]), tries=10).exp()
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (width <= 1) & (height <= 1)
    fits[-1] = True
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    width, height = (side.gather(0, first).squeeze(0).clamp(max=1) for side in (width, height))
    x = draw.uniform(-1, 1) * (1 - width)
    y = draw.uniform(-1, 1) * (1 - height)
    mirror = torch.where(draw.chance(flip), -1.0, 1.0)
    angle = draw.uniform(-rotate, rotate) * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack([width * mirror * cos, -height * sin, x, width * mirror * sin, height * cos, y], dim=1)
    return rows.view(-1, 2, 3)


def crop(x: Tensor, size: int, boxes: Tensor) -> Tensor:
    """(B, C, H, W) resampled bilinearly to (B, C, size, size) by `boxes` (B, 2, 3); the border is repeated."""
    grid = F.affine_grid(boxes, [x.shape[0], x.shape[1], size, size], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _colour_matrix(x: Tensor, draw: _Draws, c: ViewsConfig) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, saturation, hue, grey as one map per image: matrices (B, 3, 3) and offsets (B, 3)."""
    b = x.shape[0]
    luma = x.new_tensor(_LUMA)
    identity = torch.eye(3, device=x.device, dtype=x.dtype)
    to_grey = luma.expand(3, 3)  # every channel becomes the luma
    on = draw.chance(c.jitter)
    brightness = torch.where(on, draw.around_one(c.brightness), 1.0)
    contrast = torch.where(on, draw.around_one(c.contrast), 1.0)
    saturation = torch.where(on, draw.around_one(c.saturation), 1.0).view(b, 1, 1)
    hue = torch.where(on, draw.uniform(-c.hue, c.hue), 0.0)
    greyed = draw.chance(c.grey).view(b, 1, 1)
    mean_luma = torch.einsum("bchw,c->b", x, luma) / x[0, 0].numel()
    gain = (brightness * contrast).view(b, 1, 1)
    offset = (brightness * (1 - contrast) * mean_luma).view(b, 1, 1).expand(b, 3, 1)
    matrix = _hue_rotation(hue) @ (saturation * identity + (1 - saturation) * to_grey)
    matrix = torch.where(greyed, to_grey @ matrix, matrix)
    return matrix * gain, (matrix @ offset).squeeze(-1)


def _hue_rotation(turns: Tensor) -> Tensor:
    """Rotations by `turns` (B,) of the colour circle, in YIQ: (B, 3, 3)."""
    yiq = turns.new_tensor(_YIQ)
    cos, sin = (turns * 2 * math.pi).cos(), (turns * 2 * math.pi).sin()
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    return torch.linalg.inv(yiq) @ rotation @ yiq


def _separable_blur(x: Tensor, kernel: Tensor, radius: int) -> Tensor:
    """Blur each image of (B, C, H, W) with its own kernel (B, 2r + 1), along both axes, edges mirrored."""
    padded = F.pad(x, [radius] * 4, mode="reflect")
    height, width = x.shape[-2:]
    rows = torch.zeros_like(padded[..., :height, :])
    for i in range(kernel.shape[1]):
        rows.addcmul_(padded[..., i : i + height, :], kernel[:, i].view(-1, 1, 1, 1))
    out = torch.zeros_like(x)
    for i in range(kernel.shape[1]):
        out.addcmul_(rows[..., i : i + width], kernel[:, i].view(-1, 1, 1, 1))
    return out


def _cutout(x: Tensor, draw: _Draws, probability: float) -> Tensor:
    """Set one square per chosen image, with a side from a quarter to half of the image's, to the mean colour (0)."""
    side = x.shape[-1]
    chosen = draw.chance(probability)
    length = draw.uniform(side / 4, side / 2)
    top, left = draw.uniform(0, 1) * (side - length), draw.uniform(0, 1) * (side - length)
    at = torch.arange(side, device=x.device, dtype=x.dtype) + 0.5

    def inside(start: Tensor) -> Tensor:  # (B, side)
        return (at >= start.view(-1, 1)) & (at < (start + length).view(-1, 1))

    square = inside(top).unsqueeze(2) & inside(left).unsqueeze(1) & chosen.view(-1, 1, 1)
    return x.masked_fill(square.unsqueeze(1), 0.0)
