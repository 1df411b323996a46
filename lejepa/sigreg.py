"""SIGReg: sketched isotropic Gaussian regularisation (LeJEPA paper, Algorithm 1).

Project embeddings on random unit directions and test each projection against N(0, 1) with the Epps–Pulley statistic

    EP(x) = N · ∫ |φ̂(t) − φ(t)|² w(t) dt,    φ̂(t) = mean_n exp(i·t·x_n),    φ(t) = w(t) = exp(−t²/2),

by the trapezoid rule on [−t_max, t_max]; the integrand is even, so [0, t_max] is integrated and doubled. Readings at
the defaults (t_max 3, 17 knots): 1.0525 in expectation on iid N(0, 1) at any N, 0.402·N where all samples are 0.

How it is computed. Nothing of size N × M × knots exists, nor of N × M: slices are taken a chunk at a time, and the
gradient with respect to the embeddings is accumulated in the same pass. The knots are multiples j·δ of one spacing, so
with θ = δ·x all cos(jθ), sin(jθ) follow from those of θ by the three-term recurrence. In blocks that fit a core's cache
they are kept (j, m, N), so that their sums over N are one matrix-vector product and the gradient, a combination of them
with other coefficients for every slice, is one batched product.

On several processes N is the global batch: the sums over N are added up between two passes. bf16 and fp16 are computed
in float32, whatever the autocast; float64 stays float64.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lejepa import ranks
from lejepa.seeding import generator
from lejepa.spherical import exact_epps_pulley

_BLOCK = 1 << 13  # samples whose harmonics, about 36 arrays, are kept at a time: 1.2 MB, within a core's L2 cache
_CHUNK = 1 << 17  # samples projected at a time: 0.5 MB
_CUDA_CHUNK = 1 << 22  # on a GPU the launches weigh, not the cache: 0.6 GB of harmonics


class NotFinite(ValueError):
    """Samples are NaN or infinite, or so large that their statistic is."""


class EppsPulley(nn.Module):
    """The Epps–Pulley statistic of each column: x (..., N, M) → (..., M), scaled by N.

    t_max: end of the integration range, in standard deviations under the null. knots: points on [0, t_max], or on
    [−t_max, t_max] where interval is `whole` (an even number then leaves out t = 0). Differentiable once.
    ValueError where N < 2 and where ranks hold unequal numbers of samples; NotFinite where samples are not finite (on
    CUDA the statistic is NaN then: looking would wait for the device).
    """

    def __init__(self, t_max: float = 3.0, knots: int = 17, interval: Literal["half", "whole"] = "half") -> None:
        super().__init__()
        if t_max <= 0 or knots < 2:
            raise ValueError(f"t_max must be positive and knots at least 2, not {t_max} and {knots}")
        self.t_max, self.knots, self.interval = t_max, knots, interval
        self.t, self.weight = _trapezoid(t_max, knots, interval)  # float64 on the CPU; multiples of one spacing, from 0
        self.phi = torch.exp(-self.t.square() / 2)
        self.weight *= self.phi

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[-2] < 2:
            raise ValueError(f"samples must be (..., N, M) with N of 2 or more, not {tuple(x.shape)}")
        with torch.autocast(x.device.type, enabled=False):
            value: Tensor = _EppsPulleyFunction.apply(_at_least_float32(x), self)
        return _finite(value, x)


class SIGReg(nn.Module):
    """The mean statistic over unit directions: z (V, N, D) → scalar.

    slices: random directions M, or `exact` for the expectation over all directions (Epps–Pulley only; O(N²·D)).
    statistic: any module (..., N, M) → (..., M). seed: of the directions; with the step it decides them, so that every
    process that agrees on both tests the same directions, and a resumed training goes on with its own.
    sample: `views` tests the N embeddings of each view and averages over views, `pooled` all V·N as one sample.
    directions: `resampled` at every step, or `fixed` (those of step 0). scale: the statistic as it is (`batch`: Epps–
    Pulley grows with the sample), or divided by the size of the sample of all ranks (`none`).
    ValueError where z is not (V, N ≥ 2, D) or of another N on another rank; NotFinite as in EppsPulley.
    """

    def __init__(
        self,
        slices: int | Literal["exact"] = 1024,
        statistic: nn.Module | None = None,
        seed: int = 0,
        *,
        sample: Literal["views", "pooled"] = "views",
        directions: Literal["resampled", "fixed"] = "resampled",
        scale: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__()
        if slices != "exact" and slices < 1:
            raise ValueError(f"slices must be at least 1 or `exact`, not {slices}")
        self.slices, self.seed, self.sample, self.scale = slices, seed, sample, scale
        self.resampled = directions == "resampled"
        self.statistic = EppsPulley() if statistic is None else statistic
        if slices == "exact" and not isinstance(self.statistic, EppsPulley):
            raise ValueError(f"exact slices are known for EppsPulley, not for {type(self.statistic).__name__}")

    def directions(self, dim: int, *, step: int, device: torch.device | str = "cpu") -> Tensor:
        """(dim, slices) float32, columns uniform on the unit sphere."""
        if self.slices == "exact":
            raise ValueError("exact slices have no directions")
        seeded = generator(self.seed, step if self.resampled else 0, device=device)
        gaussian = torch.randn(dim, self.slices, generator=seeded, device=device)
        return nn.functional.normalize(gaussian, dim=0)

    def forward(self, z: Tensor, *, step: int) -> Tensor:
        if z.ndim != 3 or z.shape[1] < 2:
            raise ValueError(f"embeddings must be (V, N, D) with N of 2 or more, not {tuple(z.shape)}")
        with torch.autocast(z.device.type, enabled=False):
            samples = _at_least_float32(z)
            if self.sample == "pooled":
                samples = samples.flatten(0, 1).unsqueeze(0)
            value = self._mean_statistic(samples, step)
            if self.scale == "none":
                value = value / (samples.shape[1] * ranks.world_size())
            return _finite(value, z)

    def _mean_statistic(self, z: Tensor, step: int) -> Tensor:
        if self.slices == "exact":
            assert isinstance(self.statistic, EppsPulley)
            return exact_epps_pulley(z, self.statistic.t, self.statistic.phi, self.statistic.weight).mean()
        directions = self.directions(z.shape[-1], step=step, device=z.device).to(z.dtype)
        if isinstance(self.statistic, EppsPulley):
            value: Tensor = _SlicedFunction.apply(z, directions, self.statistic)
            return value
        statistic: Tensor = self.statistic(z @ directions)
        return statistic.mean()


def _trapezoid(t_max: float, knots: int, interval: str) -> tuple[Tensor, Tensor]:
    """Knots t_j = j·δ from 0 to t_max and the weights of the doubled trapezoid rule, float64."""
    whole = interval == "whole"
    if whole and knots % 2:  # t = 0 is a knot: the same as half of them on [0, t_max]
        knots, whole = knots // 2 + 1, False
    t = torch.linspace(0, t_max, knots, dtype=torch.float64)
    weight = torch.full_like(t, 2 * t_max / (knots - 1))
    weight[-1] /= 2
    if whole:  # knots at ±δ, ±3δ, …, ±t_max, 2δ apart: the multiples between carry no weight
        weight *= 2
        weight[::2] = 0
    else:
        weight[0] /= 2
    return t, weight


class _Series:
    """The statistic and its gradient as functions of the sums over N of cos(jθ) and sin(jθ), j = 1…J, θ = t_1·x.

    Sums are (2J, M): cos θ, sin θ, cos 2θ, sin 2θ, …; they come with the signs of _Block.
    """

    def __init__(self, test: EppsPulley, batch: int, like: Tensor) -> None:
        self.spacing, self.count, self.batch = float(test.t[1]), len(test.t) - 1, batch
        j = torch.arange(self.count)
        sign = torch.where(j // 4 % 2 == 0, 1.0, -1.0).double()
        target = sign * test.phi[1:]
        slope = 2 * test.weight[1:] * test.t[1:]
        # N·w·|φ̂ − φ|² changes with one x_n by  2·w·t·(Im φ̂ · cos(t·x_n) − (Re φ̂ − φ) · sin(t·x_n)):
        # an affine map from the sums (j, cos | sin) to the coefficients of the harmonics (j, cos | sin)
        matrix = torch.zeros(self.count, 2, self.count, 2, dtype=torch.float64)
        matrix[j, 1, j, 0] = slope / batch
        matrix[j, 0, j, 1] = -slope / batch
        constant = torch.stack([torch.zeros_like(slope), slope * target], 1)
        self.matrix, self.constant = matrix.view(2 * self.count, -1).to(like), constant.view(1, -1).to(like)
        self.target = torch.stack([target, torch.zeros_like(target)], 1).view(-1, 1).to(like)
        self.weight = test.weight[1:].repeat_interleave(2).to(like)

    def value(self, sums: Tensor) -> Tensor:
        """Sums (..., 2J, M) → statistic (..., M)."""
        gap = (sums / self.batch).sub_(self.target)
        return (self.weight @ gap.square_()).mul_(self.batch)

    def coefficients(self, sums: Tensor) -> Tensor:
        """Sums (2J, M) → what each harmonic counts in the gradient (M, 2J)."""
        return torch.addmm(self.constant, sums.t(), self.matrix)


class _Block:
    """cos(jθ) and sin(jθ), j = 1…J, of `rows` rows of N angles, with signs; every view of them made once.

    The recurrence f((j+2)θ) = 2cos(2θ)·f(jθ) − f((j−2)θ) is one fused operation where the minus sign is left to the
    next pair: in pairs of j, (1,2) (3,4) | (5,6) (7,8) | …, the sign changes at every bar.
    """

    def __init__(self, series: _Series, rows: int, n: int, like: Tensor) -> None:
        self.series = series
        even = series.count + series.count % 2  # two are made at a time; a last odd one is left unused
        kept = like.new_empty(even + 2, 2, rows, n)  # harmonic j at place j + 1, from j = −1
        kept[1, 0], kept[1, 1] = -1, 0  # −(cos 0, sin 0)
        self.before, self.zero, self.first, self.second = kept[0], kept[1], kept[2], kept[3]
        (self.cos1, self.sin1), self.cos2 = kept[2], kept[3, 0]
        self.mirror = like.new_tensor([-1.0, 1.0]).view(2, 1, 1)
        signs = (2.0, -2.0)
        self.steps = [
            (kept[k - 4 : k - 2], kept[k - 2 : k], kept[k : k + 2], signs[k // 2 % 2]) for k in range(4, even + 2, 2)
        ]
        features = kept[2 : series.count + 2].flatten(0, 1)  # (2J, rows, N)
        self.lines, self.by_row = features.flatten(0, 1), features.transpose(0, 1)
        self.ones = like.new_ones(n)

    def fill(self, theta: Tensor) -> None:
        """θ (rows, N) → all harmonics."""
        torch.cos(theta, out=self.cos1)
        torch.sin(theta, out=self.sin1)
        torch.mul(self.first, self.mirror, out=self.before)  # −(cos −θ, sin −θ)
        torch.addcmul(self.zero, self.cos1, self.first, value=2, out=self.second)
        for two_before, before, out, twice in self.steps:
            torch.addcmul(two_before, self.cos2, before, value=twice, out=out)

    def sum(self, out: Tensor) -> None:
        """Sums over N → out (2J, rows)."""
        out.copy_(torch.mv(self.lines, self.ones).view(out.shape))

    def combine(self, sums: Tensor, out: Tensor) -> None:
        """∂ statistic / ∂x → out (rows, N), from the sums (2J, rows) of all ranks."""
        torch.bmm(self.series.coefficients(sums).unsqueeze(1), self.by_row, out=out.unsqueeze(1))


class _Harmonics:
    """The sums and the gradient of M columns of N angles, θ (M, N), block by block."""

    def __init__(self, series: _Series, n: int, like: Tensor) -> None:
        rows = max(1, (_CUDA_CHUNK if like.is_cuda else _BLOCK * 4 // like.element_size()) // n)
        self.rows, self.block = rows, lru_cache(2)(lambda rows: _Block(series, rows, n, like))

    def measure(self, theta: Tensor, sums: Tensor) -> None:
        """Sums over N → sums (2J, M)."""
        for part, out in zip(theta.split(self.rows), sums.split(self.rows, -1), strict=True):
            block = self.block(len(part))
            block.fill(part)
            block.sum(out)

    def differentiate(self, theta: Tensor, sums: Tensor) -> Tensor:
        """∂ statistic / ∂x (M, N), from the sums (2J, M) of all ranks."""
        gradient = torch.empty_like(theta)
        for part, known, out in zip(*self._split(theta, sums, gradient), strict=True):
            block = self.block(len(part))
            block.fill(part)
            block.combine(known, out)
        return gradient

    def measure_and_differentiate(self, theta: Tensor, sums: Tensor) -> Tensor:
        """Both in one pass, where no other rank adds to the sums."""
        gradient = torch.empty_like(theta)
        for part, total, out in zip(*self._split(theta, sums, gradient), strict=True):
            block = self.block(len(part))
            block.fill(part)
            block.sum(total)
            block.combine(total, out)
        return gradient

    def _split(self, theta: Tensor, sums: Tensor, gradient: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        return theta.split(self.rows), sums.split(self.rows, -1), gradient.split(self.rows)


_Chunk = tuple[int, slice, Tensor]  # a view, some of its columns M', and their angles θ (M', N)


def _scan(
    harmonics: _Harmonics,
    chunks: Callable[[], Iterator[_Chunk]],
    sums: Tensor,
    take: Callable[[int, slice, Tensor], None] | None,
) -> None:
    """Fills the sums (V, 2J, M) and gives ∂/∂x (M', N) to `take`: one pass on one process, two passes on several."""
    if take and ranks.world_size() == 1:
        for view, columns, theta in chunks():
            take(view, columns, harmonics.measure_and_differentiate(theta, sums[view, :, columns]))
        return
    for view, columns, theta in chunks():
        harmonics.measure(theta, sums[view, :, columns])
    ranks.add(sums)
    if take:
        for view, columns, theta in chunks():
            take(view, columns, harmonics.differentiate(theta, sums[view, :, columns]))


class _EppsPulleyFunction(torch.autograd.Function):
    """x (..., N, M) → (..., M); keeps only the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, test: EppsPulley) -> Tensor:
        n, m = x.shape[-2:]
        columns = x.reshape(-1, n, m)
        series = _Series(test, ranks.global_batch(n, x.device), x)
        sums = x.new_empty(len(columns), 2 * series.count, m)
        gradient = torch.empty_like(columns) if x.requires_grad else columns

        def chunks() -> Iterator[_Chunk]:
            for v, block in product(range(len(columns)), _slices(m, n, x)):
                yield v, block, columns[v, :, block].t().mul(series.spacing).contiguous()

        def take(v: int, block: slice, part: Tensor) -> None:
            gradient[v, :, block] = part.t()

        _scan(_Harmonics(series, n, x), chunks, sums, take if x.requires_grad else None)
        ctx.save_for_backward(gradient.view(x.shape))
        return series.value(sums).view(*x.shape[:-2], m)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream.unsqueeze(-2) * ranks.world_size()), None


class _SlicedFunction(torch.autograd.Function):
    """z (V, N, D), directions (D, M) → mean statistic; keeps only the gradient, and no array of N × M ever."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, directions: Tensor, test: EppsPulley) -> Tensor:
        views, n, _ = z.shape
        slices = directions.shape[1]
        series = _Series(test, ranks.global_batch(n, z.device), z)
        scaled = directions.t().mul(series.spacing).contiguous()
        sums = z.new_empty(views, 2 * series.count, slices)
        gradient = torch.zeros_like(z, memory_format=torch.contiguous_format)

        def chunks() -> Iterator[_Chunk]:
            for v in range(views):
                transposed = z[v].t().contiguous()
                for block in _slices(slices, n, z):
                    yield v, block, scaled[block] @ transposed

        def take(v: int, block: slice, part: Tensor) -> None:
            gradient[v].addmm_(part.t(), scaled[block])

        _scan(_Harmonics(series, n, z), chunks, sums, take if z.requires_grad else None)
        ctx.save_for_backward(gradient.div_(series.spacing * views * slices))
        return series.value(sums).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream * ranks.world_size()), None, None


def _slices(columns: int, n: int, like: Tensor) -> list[slice]:
    """Cuts columns of N samples into chunks; 16 columns at least, for the matrix products."""
    width = max(16, (_CUDA_CHUNK if like.is_cuda else _CHUNK) // n)
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]


def _at_least_float32(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()


def _finite(value: Tensor, samples: Tensor) -> Tensor:
    """The value; NotFinite where it is not, which NaN, infinity and overflow among the samples all bring about."""
    if not value.is_cuda and not value.isfinite().all():
        bad = int((~samples.isfinite()).sum())
        raise NotFinite(f"samples must be finite, and {bad} of {samples.numel()} are not" if bad else
                        f"samples up to {float(samples.abs().max()):.3g} overflow {samples.dtype}")  # fmt: skip
    return value
