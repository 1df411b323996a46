"""Crop, flip and blur as one linear map per axis and view: a view is rows @ image @ columnsᵀ in every channel.

With antialiasing (a triangle as wide as the step between two output pixels, never narrower than two input pixels) as
torchvision's resize has it, which bilinear sampling at points lacks: a large crop on a small view would alias.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lejepa.draws import Ask, Draws


def crop_boxes(
    draw: Draws, side: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """left, top, width, height (B,) in pixels of a square image: torchvision's RandomResizedCrop but for its rounding.

    Area uniform in `scale`, aspect log-uniform in `ratio`, the first of ten draws that fits into the image (else the
    largest box with the aspect nearest to 1), position uniform. Whole pixels would leave an 8 px image four sides.
    """
    area = draw.tries(Ask.AREA, *scale)
    aspect = draw.tries(Ask.ASPECT, math.log(ratio[0]), math.log(ratio[1])).exp()
    widths, heights = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    last = min(max(1.0, ratio[0]), ratio[1])
    widths = F.pad(widths, (0, 0, 0, 1), value=min(1.0, last))
    heights = F.pad(heights, (0, 0, 0, 1), value=min(1.0, 1 / last))
    first = F.pad(fits.to(torch.uint8), (0, 0, 0, 1), value=1).argmax(0, keepdim=True)
    width, height = (sides.gather(0, first).squeeze(0).mul(side).clamp(min=1) for sides in (widths, heights))
    return draw.table[Ask.LEFT] * (side - width), draw.table[Ask.TOP] * (side - height), width, height


def resampling(start: Tensor, length: Tensor, side: int, size: int, mirror: Tensor | None = None) -> Tensor:
    """(B, size, side): each output pixel's weights on the input's inside the crop [start, start + length].

    start, length: (B,), in pixels, length ≥ 1; mirror: (B,) bool, whose output is reversed.
    """
    step = (length / size).unsqueeze(1)
    reach = step.clamp(min=1)
    at = torch.arange(side, device=start.device) + 0.5 - start.unsqueeze(1)
    outside = (at < 0) | (at > length.unsqueeze(1))
    taps = (at / reach).masked_fill_(outside, 1e9)  # so far away that its weight is 0
    centres = (torch.arange(size, device=start.device) + 0.5) * (step / reach)
    if mirror is not None:
        centres = torch.where(mirror.unsqueeze(1), centres.flip(1), centres)
    weights = (taps.unsqueeze(1) - centres.unsqueeze(2)).abs_().neg_().add_(1).relu_()
    return weights.mul_(1 / weights.sum(2, keepdim=True))


def blurring(sigma: Tensor, chosen: Tensor, size: int) -> Tensor:
    """(B, size, size): Gaussian filters with deviations `sigma` (B,) in pixels, edges mirrored; identity where not
    chosen. The kernel spans a tenth of the side, as SimCLR's and BYOL's (23 at 224 px)."""
    radius = max(1, round(size * 0.05))
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = (-offset.square() / (2 * sigma.unsqueeze(1).square())).exp()  # (B, 2r + 1)
    kernel = torch.where(chosen.unsqueeze(1), kernel, (offset == 0).to(kernel.dtype))
    at = torch.arange(size, device=sigma.device)
    reflected = (at.unsqueeze(1) + offset).abs()  # (size, 2r + 1): the pixel under each tap
    reflected = size - 1 - (size - 1 - reflected).abs()
    taps = F.one_hot(reflected, size).to(kernel.dtype)  # (size, 2r + 1, size)
    return (kernel / kernel.sum(1, keepdim=True) @ taps.transpose(0, 1).flatten(1)).view(-1, size, size)


def turned(x: Tensor, degrees: Tensor) -> Tensor:
    """(B, C, S, S), each turned clockwise about its centre by `degrees` (B,), bilinearly; the border is repeated."""
    angle = degrees * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = torch.stack([cos, sin, zero, -sin, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(rows, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
