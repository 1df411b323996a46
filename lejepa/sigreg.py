"""SIGReg: sketched isotropic Gaussian regularisation (LeJEPA paper, Algorithm 1).

Project embeddings on random unit directions and test each projection against N(0, 1) with the Epps–Pulley statistic

    EP(x) = N · ∫ |φ̂(t) − φ(t)|² w(t) dt,    φ̂(t) = mean_n exp(i·t·x_n),    φ(t) = w(t) = exp(−t²/2),

by the trapezoid rule on [−t_max, t_max]; the integrand is even, so [0, t_max] is integrated and doubled. Readings at
the defaults (t_max 3, 17 knots): 1.0525 in expectation on iid N(0, 1) at any N, 0.402·N where all samples are 0.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lejepa.seeding import generator

# Elements of one block of columns: its working set of a few such arrays stays in a core's L2 cache.
_BLOCK = 1 << 16


class EppsPulley(nn.Module):
    """The Epps–Pulley statistic of each column: x (..., N, M) → (..., M), scaled by N.

    t_max: end of the integration range, in standard deviations under the null. knots: points on [0, t_max].
    Computed in float32 at least, whatever the autocast; float64 in gives float64 out. Differentiable once.
    """

    t: Tensor
    phi: Tensor
    weight: Tensor

    def __init__(self, t_max: float = 3.0, knots: int = 17) -> None:
        super().__init__()
        if t_max <= 0 or knots < 2:
            raise ValueError(f"t_max must be positive and knots at least 2, not {t_max} and {knots}")
        t = torch.linspace(0, t_max, knots, dtype=torch.float64)
        trapezoid = torch.full_like(t, 2 * t_max / (knots - 1))  # doubled: [−t_max, 0] is the mirror image
        trapezoid[[0, -1]] /= 2
        self.register_buffer("t", t, persistent=False)
        self.register_buffer("phi", torch.exp(-t.square() / 2), persistent=False)
        self.register_buffer("weight", trapezoid * torch.exp(-t.square() / 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            x = x.float()
        return _EppsPulleyFunction.apply(x, self.t.tolist(), self.phi.tolist(), self.weight.tolist())


class _EppsPulleyFunction(torch.autograd.Function):
    """Value and closed-form gradient in one sweep over blocks of columns; only the gradient is kept.

    The knots are equally spaced, t_j = j·δ, so with θ = δ·x the cosines and sines of j·θ follow from those of θ by the
    three-term recurrence, and the gradient  Σ_j a_j sin(jθ) + b_j cos(jθ)  is a Clenshaw sum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: list[float], phi: list[float], weight: list[float]) -> Tensor:
        n, m = x.shape[-2:]
        columns = x.reshape(-1, n, m)
        value = torch.empty(columns.shape[0], m, dtype=x.dtype, device=x.device)
        gradient = torch.empty_like(columns) if x.requires_grad else None
        width = m if x.is_cuda else max(16, _BLOCK // n)
        for v in range(columns.shape[0]):
            for start in range(0, m, width):
                block = slice(start, start + width)
                theta = columns[v, :, block] * t[1]
                value[v, block] = _statistic(theta, t, phi, weight, None if gradient is None else gradient[v, :, block])
        if gradient is not None:
            ctx.save_for_backward(gradient.reshape(x.shape))
        return value.reshape(*x.shape[:-2], m)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.unsqueeze(-2), None, None, None


def _statistic(theta: Tensor, t: list[float], phi: list[float], weight: list[float], gradient: Tensor | None) -> Tensor:
    """Epps–Pulley of each column of θ (N, m) → (m,); writes ∂/∂x into `gradient` (N, m) where it is given."""
    n, knots = theta.shape[0], len(t)
    cos1, sin1 = theta.cos(), theta.sin()
    twice = 2 * cos1
    cos_before, cos_now = torch.ones_like(theta), cos1.clone()
    sin_before, sin_now = torch.zeros_like(theta), sin1.clone()
    value = torch.zeros_like(theta[0])
    coefficients = []  # of sin(jθ) and cos(jθ) in the gradient; the knot at 0 adds nothing
    for j in range(1, knots):
        real, imaginary = cos_now.mean(0) - phi[j], sin_now.mean(0)  # φ̂(t_j) − φ(t_j)
        value += (n * weight[j]) * (real.square() + imaginary.square())
        coefficients.append((real * (-2 * weight[j] * t[j]), imaginary * (2 * weight[j] * t[j])))
        if j + 1 < knots:  # f((j+1)θ) = 2cosθ·f(jθ) − f((j−1)θ), in the place of f((j−1)θ)
            cos_before = torch.addcmul(cos_before.neg_(), twice, cos_now, out=cos_before)
            sin_before = torch.addcmul(sin_before.neg_(), twice, sin_now, out=sin_before)
            cos_before, cos_now, sin_before, sin_now = cos_now, cos_before, sin_now, sin_before
    if gradient is not None:
        gradient.copy_(_clenshaw(coefficients, cos1, sin1, twice, (cos_before, cos_now, sin_before, sin_now)))
    return value


def _clenshaw(
    coefficients: list[tuple[Tensor, Tensor]], cos1: Tensor, sin1: Tensor, twice: Tensor, scratch: tuple[Tensor, ...]
) -> Tensor:
    """Σ_j a_j sin(jθ) + b_j cos(jθ) over j = 1, 2, …; (a_j, b_j) are (m,), θ is (N, m). Overwrites `scratch`."""
    a1, a2, b1, b2 = (array.zero_() for array in scratch)
    for a, b in reversed(coefficients):
        a2 = torch.addcmul(a2.neg_(), twice, a1, out=a2).add_(a)
        b2 = torch.addcmul(b2.neg_(), twice, b1, out=b2).add_(b)
        a1, a2, b1, b2 = a2, a1, b2, b1
    return a1.mul_(sin1).addcmul_(b1, cos1).sub_(b2)  # sin(0) = 0 and cos(0) = 1 close the sums


class SIGReg(nn.Module):
    """The mean statistic over random unit directions, new at every step: z (V, N, D) → scalar, averaged over views V.

    slices: number of directions M. statistic: any module (..., N, M) → (..., M). seed: of the directions; with the step
    it decides them, so that every process that agrees on both tests the same directions.
    """

    def __init__(self, slices: int = 1024, statistic: nn.Module | None = None, seed: int = 0) -> None:
        super().__init__()
        if slices < 1:
            raise ValueError(f"slices must be at least 1, not {slices}")
        self.slices, self.seed = slices, seed
        self.statistic = EppsPulley() if statistic is None else statistic

    def directions(self, dim: int, *, step: int, device: torch.device | str = "cpu") -> Tensor:
        """(dim, slices) float32, columns uniform on the unit sphere."""
        gaussian = torch.randn(dim, self.slices, generator=generator(self.seed, step, device=device), device=device)
        return nn.functional.normalize(gaussian, dim=0)

    def forward(self, z: Tensor, *, step: int) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            z = z if z.dtype == torch.float64 else z.float()
            directions = self.directions(z.shape[-1], step=step, device=z.device).to(z.dtype)
            statistic: Tensor = self.statistic(z @ directions)
            return statistic.mean()
