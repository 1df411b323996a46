"""Colour jitter and grey as one affine map of the channels per view.

The order is torchvision's default one (brightness, contrast, saturation, hue, then grey); torchvision draws a new order
for every image and clamps after each operation, here the result is clamped once. Hue turns the colours about the grey
axis, which equals the turn in HSV at multiples of a third and comes close between.
"""

import math

import torch
from torch import Tensor

from lejepa.draws import Ask, Draws, constant
from lejepa.view_config import ViewsConfig

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def colour_map(mean: Tensor, draw: Draws, c: ViewsConfig) -> tuple[Tensor, Tensor]:
    """Matrices (B, C, C) and offsets (B, 1), for pixels on [0, 1]. mean: (B, C), each channel's over the view."""
    on = draw.chance(Ask.JITTER, c.jitter)

    def factor(what: Ask, strength: float) -> Tensor:
        return torch.where(on, draw.around_one(what, strength), 1.0)

    brightness, contrast = factor(Ask.BRIGHTNESS, c.brightness), factor(Ask.CONTRAST, c.contrast)
    luma = mean @ constant(mean.device, *_LUMA) if mean.shape[1] == 3 else mean.mean(1)
    offset = brightness * (1 - contrast) * luma
    gain = (brightness * contrast).view(-1, 1, 1)
    if mean.shape[1] != 3:  # no colours to change
        return gain * torch.eye(mean.shape[1], device=mean.device), offset.unsqueeze(1)
    saturation = factor(Ask.SATURATION, c.saturation).view(-1, 1, 1)
    turns = torch.where(on, draw.uniform(Ask.HUE, -c.hue, c.hue), 0.0)
    to_luma = constant(mean.device, *_LUMA).expand(3, 3)
    matrix = saturation * hue_rotation(turns) + (1 - saturation) * to_luma  # the rotation leaves grey as it is
    greyed = draw.chance(Ask.GREY, c.grey).view(-1, 1, 1)
    return gain * torch.where(greyed, to_luma @ matrix, matrix), offset.unsqueeze(1)


def hue_rotation(turns: Tensor) -> Tensor:
    """(B, 3, 3): rotations about the grey axis by `turns` (B,) of the colour circle, red towards green (Rodrigues)."""
    cos, sin = ((turns * 2 * math.pi).view(-1, 1, 1) for _ in range(2))
    cos, sin = cos.cos(), sin.sin()
    grey = turns.new_full((3, 3), 1 / 3)
    cross = constant(turns.device, 0, -1, 1, 1, 0, -1, -1, 1, 0).view(3, 3) / math.sqrt(3)
    return grey + cos * (torch.eye(3, device=turns.device) - grey) + sin * cross
