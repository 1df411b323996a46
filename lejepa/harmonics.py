"""Epps–Pulley's sums and gradient over the harmonics of angles.

The knots are multiples j·δ of one spacing, so a sample x counts only through the harmonics cos(jθ), sin(jθ), j = 1…J,
of its angle θ = δ·x: the statistic is a function of their sums over N, and its gradient a combination of them with
other coefficients for every slice.

Not all 2J of them are made. The product of a head (cosine or sine of order k or 3k) with a feature (the 2k + 1 of
orders 0…k) has orders h − k … h + k; all products together have every order up to 4k ≥ J. So 2k + 3 arrays do for 2J,
11 for the 32 of the default 17 knots. The sums of all products are one batched matrix product, (heads × N) by
(N × features), and so is what every head is multiplied by in the gradient, (heads × features) by (features × N).
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

_BLOCK = 1 << 14  # float32 samples whose arrays, 16 by default, are kept at a time: 1 MB, within a core's L2 cache
_SHARED_BLOCK = 1 << 16  # of several threads: torch gives each 2¹⁵ samples of an operation, or leaves it to one
_CUDA_BLOCK = 1 << 20  # on a GPU the launches weigh, not the cache: 67 MB
_HEADS = 4

_Knots = tuple[float, ...]


class Harmonics:
    """The statistic and its gradient for rows of N angles; `batch` is the N of all ranks together.

    t, phi, weight: (J + 1,) float64 on the CPU, the quadrature, t equally spaced from 0. Sums are (R, width) for R
    rows; those of several ranks add up.
    """

    def __init__(self, t: Tensor, phi: Tensor, weight: Tensor, batch: int, n: int, like: Tensor) -> None:
        knots = [tuple(values.tolist()) for values in (t, phi, weight)]
        self.series, self.batch = _series(*knots, like.dtype, like.device), batch
        self.width = len(self.series.expansion)
        block = _BLOCK if torch.get_num_threads() == 1 else _SHARED_BLOCK
        self.rows = max(1, (_CUDA_BLOCK if like.is_cuda else block * 4 // like.element_size()) // n)
        self.block = lru_cache(2)(lambda rows: _Block(self.series.order, rows, n, like))

    def value(self, sums: Tensor) -> Tensor:
        """Sums (R, width) of all ranks → statistic (R,)."""
        return self.series.value(sums, self.batch)

    def measure(self, theta: Tensor, sums: Tensor) -> None:
        """θ (R, N) → sums (R, width)."""
        for block, angles, out in self._blocks(theta, sums):
            block.fill(angles)
            block.sum(out)

    def differentiate(self, theta: Tensor, sums: Tensor) -> None:
        """Writes ∂ statistic / ∂x over θ (R, N), from the sums (R, width) of all ranks."""
        for block, angles, known in self._blocks(theta, sums):
            block.fill(angles)
            block.combine(self.series.coefficients(known, self.batch), angles)

    def measure_and_differentiate(self, theta: Tensor, sums: Tensor) -> None:
        """Both in one pass, where no other rank adds to the sums."""
        for block, angles, out in self._blocks(theta, sums):
            block.fill(angles)
            block.sum(out)
            block.combine(self.series.coefficients(out, self.batch), angles)

    def _blocks(self, theta: Tensor, sums: Tensor) -> Iterator[tuple["_Block", Tensor, Tensor]]:
        for angles, part in zip(theta.split(self.rows), sums.split(self.rows), strict=True):
            yield self.block(len(angles)), angles, part


class _Block:
    """Features and heads of `rows` rows of N angles; every view of them made once.

    Orders m + 1 … 2m come from those up to m: 2·cos(mθ) times order i is order m + i plus or minus order m − i, which
    serves as order m + i; for i = m, order 0 is taken off. So does cos(2kθ) times order k as the heads' order 3k.
    """

    def __init__(self, order: int, rows: int, n: int, like: Tensor) -> None:
        kept = like.new_empty(2 * order + 3, rows, n)  # 1; cosine and sine of orders 1…k; of 3k
        kept[0] = 1
        self.cos, self.sin = kept[1], kept[2]
        self.doublings = []
        for m in (1 << i for i in range(order.bit_length() - 1)):
            zeroth = like.new_zeros(2 * m, 1, 1)
            zeroth[-2] = -1
            self.doublings.append((zeroth, kept[2 * m - 1], kept[1 : 2 * m + 1], kept[2 * m + 1 : 4 * m + 1]))
        self.minus_one, self.cos_last, self.cos_twice = like.new_tensor(-1.0), kept[-4], like.new_empty(rows, n)
        self.last, self.third = kept[-4:-2], kept[-2:]
        self.heads, self.features = kept[-_HEADS:].transpose(0, 1), kept[:-2].transpose(0, 1)
        self.factors = like.new_empty(rows, _HEADS, n)
        self.products = list(zip(kept[-_HEADS:], self.factors.unbind(1), strict=True))

    def fill(self, theta: Tensor) -> None:
        """θ (rows, N) → all features and heads."""
        torch.cos(theta, out=self.cos)
        torch.sin(theta, out=self.sin)
        for zeroth, cos, lower, upper in self.doublings:
            torch.addcmul(zeroth, cos, lower, value=2, out=upper)
        torch.addcmul(self.minus_one, self.cos_last, self.cos_last, value=2, out=self.cos_twice)
        torch.mul(self.cos_twice, self.last, out=self.third)

    def sum(self, out: Tensor) -> None:
        """Sums over N of head times feature → out (rows, width)."""
        torch.bmm(self.heads, self.features.mT, out=out.view(len(out), _HEADS, -1))

    def combine(self, coefficients: Tensor, out: Tensor) -> None:
        """Σ coefficient · head · feature → out (rows, N), from the coefficients (rows, width)."""
        torch.bmm(coefficients.view(len(out), _HEADS, -1), self.features, out=self.factors)
        (head, factor), *others = self.products
        torch.mul(head, factor, out=out)
        for head, factor in others:
            torch.addcmul(out, head, factor, out=out)


class _Series:
    """The statistic and the gradient's coefficients as functions of the sums, for one quadrature."""

    def __init__(self, t: _Knots, phi: _Knots, weight: _Knots, dtype: torch.dtype, device: torch.device) -> None:
        count = len(t) - 1
        self.order = 1 << ((count - 1) // 4).bit_length()  # the least power of two with 4k ≥ J
        expansion = _expansion(self.order, count)
        rest, target, w = (torch.tensor(values[1:], dtype=torch.float64) for values in (t, phi, weight))
        slope = 2 * w * rest
        # N·w·|φ̂ − φ|² changes with one x_n by  2·w·t·(Im φ̂ · cos(t·x_n) − (Re φ̂ − φ) · sin(t·x_n)):
        # an affine map from the sums (cosines, sines) to the coefficients of (cosines, sines)
        zero = torch.zeros(count, count, dtype=torch.float64)
        matrix = torch.cat([torch.cat([zero, -slope.diag()], 1), torch.cat([slope.diag(), zero], 1)])
        constant = torch.cat([torch.zeros_like(slope), slope * target])
        like = torch.empty(0, dtype=dtype, device=device)
        self.matrix = (expansion @ matrix @ expansion.T).to(like)
        self.constant = (constant @ expansion.T).to(like)
        self.expansion = expansion.to(like)
        self.target = torch.cat([target, torch.zeros_like(target)]).to(like)
        self.weight = torch.cat([w, w]).to(like)

    def value(self, sums: Tensor, batch: int) -> Tensor:
        gap = torch.addmm(self.target, sums, self.expansion, beta=-1, alpha=1 / batch)
        return (gap.square_() @ self.weight).mul_(batch)

    def coefficients(self, sums: Tensor, batch: int) -> Tensor:
        return torch.addmm(self.constant, sums, self.matrix, alpha=1 / batch)


_series = lru_cache(maxsize=16)(_Series)


@lru_cache(maxsize=16)
def _expansion(order: int, count: int) -> Tensor:
    """(width, 2J): cosines and sines of 1…J by the products of heads and features; the smallest such coefficients."""
    angles = torch.arange(8 * order + 4, dtype=torch.float64) * (2 * math.pi / (8 * order + 4))
    block = _Block(order, len(angles), 1, angles)
    block.fill(angles.unsqueeze(1))
    products = angles.new_empty(len(angles), _HEADS * (2 * order + 1))
    block.sum(products)
    multiples = angles.unsqueeze(1) * torch.arange(1, count + 1)
    return torch.linalg.pinv(products, rtol=1e-9) @ torch.cat([multiples.cos(), multiples.sin()], 1)
