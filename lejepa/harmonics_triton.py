"""Epps–Pulley's sums and gradient over the harmonics of angles, on a GPU in float32.

The same as lejepa.harmonics, by two kernels that keep every harmonic in registers: e^{ijθ} follows from e^{i(j−1)θ} by
one complex product, and the gradient Re Σ_j γ_j e^{ijθ} is Horner's rule in e^{iθ}. Both take the angles once and make
nothing of their size. One program, of one warp, takes one row of angles in tiles.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 512  # angles of one warp at a time: 16 a thread


class TritonHarmonics:
    """As lejepa.harmonics.Harmonics, for float32; sums are the cosines of j = 1…J, then the sines: width 2J."""

    def __init__(self, t: Tensor, phi: Tensor, weight: Tensor, batch: int, n: int, like: Tensor) -> None:
        self.batch, self.tile = batch, min(_TILE, triton.next_power_of_2(n))
        knots = [tuple(values.tolist()[1:]) for values in (t, phi, weight)]
        self.phi, self.weight, self.slope = _constants(*knots, like.device)
        self.count = len(self.phi)
        self.width = 2 * self.count

    def value(self, sums: Tensor) -> Tensor:
        """Sums (R, width) of all ranks → statistic (R,)."""
        cosines, sines = sums.div(self.batch).chunk(2, dim=-1)
        return ((cosines - self.phi).square_() + sines.square()).mul_(self.weight).sum(-1).mul_(self.batch)

    def measure(self, theta: Tensor, sums: Tensor) -> None:
        """θ (R, N) → sums (R, width)."""
        rows, n = theta.shape
        with torch.cuda.device_of(theta):
            _measure[(rows,)](theta, sums, n, self.count, triton.next_power_of_2(self.count), self.tile, num_warps=1)

    def differentiate(self, theta: Tensor, sums: Tensor) -> None:
        """Writes ∂ statistic / ∂x over θ (R, N), from the sums (R, width) of all ranks."""
        rows, n = theta.shape
        with torch.cuda.device_of(theta):
            _differentiate[(rows, triton.cdiv(n, self.tile))](
                theta, sums, self.phi, self.slope, self.batch, n, self.count, self.tile, num_warps=1
            )

    def measure_and_differentiate(self, theta: Tensor, sums: Tensor) -> None:
        self.measure(theta, sums)
        self.differentiate(theta, sums)


@lru_cache(maxsize=16)
def _constants(
    t: tuple[float, ...], phi: tuple[float, ...], weight: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    slope = [2 * w * tj for tj, w in zip(t, weight, strict=True)]
    phi_, weight_, slope_ = torch.tensor([phi, weight, slope], dtype=torch.float32, device=device).unbind()
    return phi_, weight_, slope_


@triton.jit
def _measure(theta, sums, n, count, WIDTH: tl.constexpr, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Σ_n cos(jθ_n) and Σ_n sin(jθ_n), j = 1…count ≤ WIDTH, of the program's row."""
    row = tl.program_id(0).to(tl.int64)
    order = tl.arange(0, WIDTH)
    cosines, sines = tl.zeros([WIDTH], tl.float32), tl.zeros([WIDTH], tl.float32)
    for start in range(0, n, TILE):
        place = start + tl.arange(0, TILE)
        angle = tl.load(theta + row * n + place, mask=place < n, other=0.0)
        cos1, sin1 = tl.cos(angle), tl.sin(angle)
        cos, sin = tl.where(place < n, cos1, 0.0), sin1  # beyond the row every harmonic is 0
        for j in range(count):
            cosines += tl.where(order == j, tl.sum(cos), 0.0)
            sines += tl.where(order == j, tl.sum(sin), 0.0)
            cos, sin = cos * cos1 - sin * sin1, sin * cos1 + cos * sin1
    out = sums + row * 2 * count + order
    tl.store(out, cosines, mask=order < count)
    tl.store(out + count, sines, mask=order < count)


@triton.jit
def _differentiate(theta, sums, phi, slope, batch, n, count, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """θ ← Σ_j slope_j · (Im φ̂_j · cos(jθ) − (Re φ̂_j − φ_j) · sin(jθ)) for a tile of the program's row."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * TILE + tl.arange(0, TILE)
    angle = tl.load(theta + row * n + place, mask=place < n, other=0.0)
    cos, sin = tl.cos(angle), tl.sin(angle)
    real, imag = tl.zeros([TILE], tl.float32), tl.zeros([TILE], tl.float32)
    own = sums + row * 2 * count
    for i in range(count):
        j = count - 1 - i
        weight = tl.load(slope + j)
        real += weight * tl.load(own + count + j) / batch
        imag += weight * (tl.load(own + j) / batch - tl.load(phi + j))
        real, imag = real * cos - imag * sin, imag * cos + real * sin
    tl.store(theta + row * n + place, real, mask=place < n)
