"""SIGReg: sketched isotropic Gaussian regularisation (LeJEPA paper, Algorithm 1).

Project embeddings on random unit directions and test each projection against N(0, 1) with the Epps–Pulley statistic

    EP(x) = N · ∫ |φ̂(t) − φ(t)|² w(t) dt,    φ̂(t) = mean_n exp(i·t·x_n),    φ(t) = w(t) = exp(−t²/2),

by the trapezoid rule on [−t_max, t_max]; the integrand is even, so [0, t_max] is integrated and doubled. Readings at
the defaults (t_max 3, 17 knots): 1.0525 in expectation on iid N(0, 1) at any N, 0.402·N where all samples are 0.

How it is computed. Nothing of size N × M × knots exists, nor of N × M: slices are projected a chunk at a time, and the
gradient with respect to the embeddings is accumulated in the same pass. The knots are multiples j·δ of one spacing, so
all that is needed is harmonics of the angles θ = δ·x: see lejepa.harmonics for the CPU, harmonics_triton for a GPU.

On several processes N is the global batch: the sums over N are added up between two passes. bf16 and fp16 are computed
in float32, whatever the autocast; float64 stays float64.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lejepa import ranks
from lejepa.harmonics import Harmonics
from lejepa.precision import at_least_float32
from lejepa.seeding import generator
from lejepa.spherical import exact_epps_pulley

if TYPE_CHECKING:
    from lejepa.harmonics_triton import TritonHarmonics

_TRITON = find_spec("triton") is not None
_CHUNK = 1 << 17  # samples projected at a time: 0.5 MB
_CUDA_CHUNK = 1 << 24  # on a GPU the launches weigh, not the cache: 67 MB


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
        self.spacing = float(self.t[1])

    @torch.compiler.disable  # it is fused already: tracing its blocks takes minutes, and their code is slower
    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[-2] < 2:
            raise ValueError(f"samples must be (..., N, M) with N of 2 or more, not {tuple(x.shape)}")
        with torch.autocast(x.device.type, enabled=False):
            value: Tensor = _EppsPulleyFunction.apply(at_least_float32(x), self)
        return _finite(value, x)

    def harmonics(self, n: int, like: Tensor) -> "Harmonics | TritonHarmonics":
        """What evaluates the statistic for rows of n samples; ValueError where ranks hold unequal numbers of them."""
        return _engine(like)(self.t, self.phi, self.weight, ranks.global_batch(n, like.device), n, like)


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
        return gaussian * gaussian.square().sum(0).rsqrt()  # ten times as quick as normalize along dim 0

    @torch.compiler.disable
    def forward(self, z: Tensor, *, step: int) -> Tensor:
        if z.ndim != 3 or z.shape[1] < 2:
            raise ValueError(f"embeddings must be (V, N, D) with N of 2 or more, not {tuple(z.shape)}")
        with torch.autocast(z.device.type, enabled=False):
            samples = at_least_float32(z)
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


_Part = tuple[slice, slice]  # some of the views and some of the slices
_Chunk = tuple[_Part, Tensor, Tensor]  # a part, its angles (R, N) and the place of their sums (R, width)


def _engine(like: Tensor) -> "type[Harmonics | TritonHarmonics]":
    if like.is_cuda and like.dtype == torch.float32 and _TRITON:
        from lejepa.harmonics_triton import TritonHarmonics  # Triton is not loaded where there is no GPU

        return TritonHarmonics
    return Harmonics


def _scan(
    harmonics: "Harmonics | TritonHarmonics", sums: Tensor, chunks: Callable[[], Iterator[_Chunk]], differentiate: bool
) -> Iterator[tuple[_Part, Tensor]]:
    """Fills the sums and gives every chunk's ∂ statistic / ∂x: one pass on one process, two passes on several."""
    alone = ranks.world_size() == 1
    if not (alone and differentiate):
        for _, angles, own in chunks():
            harmonics.measure(angles, own)
        ranks.add(sums)
    if differentiate:
        for part, angles, own in chunks():
            (harmonics.measure_and_differentiate if alone else harmonics.differentiate)(angles, own)
            yield part, angles


class _EppsPulleyFunction(torch.autograd.Function):
    """x (..., N, M) → (..., M); keeps only the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, test: EppsPulley) -> Tensor:
        n = x.shape[-2]
        harmonics = test.harmonics(n, x)
        columns = x.mT.clone(memory_format=torch.contiguous_format)
        angles = columns.view(-1, n).mul_(test.spacing)
        sums = x.new_empty(len(angles), harmonics.width)
        whole = slice(None), slice(None)
        for _ in _scan(harmonics, sums, lambda: iter([(whole, angles, sums)]), x.requires_grad):
            pass  # the angles have become the gradient
        ctx.save_for_backward(columns)
        return harmonics.value(sums).view(columns.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * (upstream.unsqueeze(-1) * ranks.world_size())).mT, None


class _SlicedFunction(torch.autograd.Function):
    """z (V, N, D), directions (D, M) → mean statistic; keeps only the gradient, and no array of N × M ever."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, directions: Tensor, test: EppsPulley) -> Tensor:
        views, n, dim = z.shape
        slices = directions.shape[1]
        harmonics = test.harmonics(n, z)
        z = z.contiguous()
        scaled = directions.t().mul(test.spacing).contiguous()
        sums = z.new_empty(views * slices, harmonics.width)
        gradient = torch.zeros_like(z)

        def chunks() -> Iterator[_Chunk]:
            done = 0
            for part in _parts(views, slices, n, z):
                angles = (scaled[part[1]] @ z[part[0]].flatten(0, 1).t()).view(-1, n)
                yield part, angles, sums[done : done + len(angles)]
                done += len(angles)

        for (group, block), slope in _scan(harmonics, sums, chunks, z.requires_grad):
            directed = scaled[block]
            gradient[group].view(-1, dim).addmm_(slope.view(len(directed), -1).t(), directed)
        ctx.save_for_backward(gradient.div_(test.spacing * views * slices))
        return harmonics.value(sums).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream * ranks.world_size()), None, None


def _parts(views: int, slices: int, n: int, like: Tensor) -> list[_Part]:
    """Cuts views and slices into chunks; 16 slices at least, for the matrix products."""
    samples = _CUDA_CHUNK if like.is_cuda else _CHUNK
    wide = min(slices, max(16, samples // n))
    high = max(1, samples // (n * wide))
    return [(slice(v, v + high), slice(m, m + wide)) for v in range(0, views, high) for m in range(0, slices, wide)]


def _finite(value: Tensor, samples: Tensor) -> Tensor:
    """The value; NotFinite where it is not, which NaN, infinity and overflow among the samples all bring about."""
    if not value.is_cuda and not value.isfinite().all():
        samples = samples.detach()
        bad = int((~samples.isfinite()).sum())
        raise NotFinite(f"samples must be finite, and {bad} of {samples.numel()} are not" if bad else
                        f"samples up to {float(samples.abs().max()):.3g} overflow {samples.dtype}")  # fmt: skip
    return value
