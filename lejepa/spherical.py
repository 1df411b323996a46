"""SIGReg in the limit of infinitely many slices, in closed form.

For a unit vector a uniform on the sphere in R^D, E cos(t·aᵀx) = ₀F₁(; D/2; −t²‖x‖²/4) =: Φ(t‖x‖), so the expectation
of the Epps–Pulley statistic over all directions needs only distances and norms:

    N·[mean_nm K(‖z_n − z_m‖) − 2·mean_n L(‖z_n‖) + Σ_j w_j φ_j²],
    K(r) = Σ_j w_j Φ(t_j r),   L(r) = Σ_j w_j φ_j Φ(t_j r).

The power series of ₀F₁ overflows. Φ is the mean of cos(x·u) over the density (1 − u²)^((D−3)/2): a Gauss–Gegenbauer
quadrature gives it in float64, and K, L and their slopes are tabulated once for every dimension as cubic pieces. The
gradient is a product of the N × N matrix of slopes with z, so a step costs O(N²·D); rows go block by block.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor
from torch.autograd.function import once_differentiable

from lejepa import ranks

_NODES = 512  # of the quadrature: exact to degree 1023
_ASYMPTOTIC_DIM = 32  # from here on Φ is below 1e-10 where its quadrature ends, below it has an expansion
_PAIRS = 1 << 17  # distances at a time on the CPU: 0.5 MB an array, and enough for two threads or more to share
_CUDA_PAIRS = 1 << 25

_Knots = tuple[float, ...]


def exact_epps_pulley(z: Tensor, t: Tensor, phi: Tensor, weight: Tensor) -> Tensor:
    """Expectation of the statistic over all directions: z (V, N, D ≥ 2) → (V,); N is the batch of all ranks.

    t, phi, weight: (J,) float64 on the CPU, the quadrature, with t from 0. Differentiable once. NaN and infinite
    embeddings give NaN.
    """
    if z.shape[-1] < 2:
        raise ValueError(f"exact slices need embeddings of 2 dims or more, not {z.shape[-1]}")
    value: Tensor = _ExactFunction.apply(z, tuple(t.tolist()), tuple(phi.tolist()), tuple(weight.tolist()))
    return value


class _ExactFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, t: _Knots, phi: _Knots, weight: _Knots) -> Tensor:
        n, dim = z.shape[1:]
        batch = ranks.global_batch(n, z.device)
        everyone = ranks.gather(z, 1)
        # a power of two, exact to divide by, that keeps squares finite
        scale = torch.exp2(everyone.abs().amax().clamp(min=1e-30).log2().floor())
        local, everyone = z / scale, everyone / scale
        mean = everyone.mean(1, keepdim=True)
        rows, columns = local - mean, everyone - mean  # distances do not mind, and lose fewer digits
        pairs = _radial(dim, t, weight, z.dtype, z.device)
        norms = _radial(dim, t, tuple(w * p for w, p in zip(weight, phi, strict=True)), z.dtype, z.device)
        value, gradient = z.new_zeros(len(z), dtype=torch.float64), torch.zeros_like(local)
        own = ranks.rank() * n  # the column of the first row
        for views, part in _blocks(len(z), n, batch, _CUDA_PAIRS if z.is_cuda else _PAIRS):
            some = rows[views, part]
            total, slope = pairs(_distances(some, columns[views], own + part.start).mul_(scale))
            value[views] += total / batch
            gradient[views, part] = (2 / batch) * (slope.sum(2, keepdim=True) * some - slope @ columns[views])
        total, slope = norms(local.norm(dim=2).mul_(scale))
        value -= 2 * total
        gradient.addcmul_(slope.unsqueeze(2), local, value=-2)
        value = ranks.add(value) + batch * sum(w * p * p for w, p in zip(weight, phi, strict=True))
        ctx.save_for_backward(gradient.mul_(scale))
        return value.add_(0 * local.sum()).to(z.dtype)  # NaN where an embedding is not finite

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream.view(-1, 1, 1) * ranks.world_size()), None, None, None


def _blocks(views: int, n: int, batch: int, pairs: int) -> Iterator[tuple[slice, slice]]:
    """Views and rows with about so many pairs at a time: some rows of one view, or several views in full."""
    height = min(n, max(1, pairs // batch))
    wide = max(1, pairs // (batch * height))
    for view, row in product(range(0, views, wide), range(0, n, height)):
        yield slice(view, view + wide), slice(row, row + height)


def _distances(rows: Tensor, columns: Tensor, own: int) -> Tensor:
    """(v, n, D), (v, N, D) → (v, n, N); row i is column own + i itself, at distance 0."""
    squares = torch.baddbmm(columns.square().sum(2).unsqueeze(1), rows, columns.mT, alpha=-2)
    squares.add_(rows.square().sum(2, keepdim=True)).diagonal(own, 1, 2).zero_()
    return squares.clamp_(min=0).sqrt_()


class _Radial:
    """f(r) = Σ_j w_j Φ(t_j r) of distances in R^dim, in cubic pieces of equal width: error 1e-9 in any dimension."""

    def __init__(self, dim: int, t: _Knots, weight: _Knots, dtype: torch.dtype, device: torch.device) -> None:
        used = [(tj, wj) for tj, wj in zip(t, weight, strict=True) if tj > 0 and wj > 0]
        self.dim = dim
        self.t, self.weight = torch.tensor(used, dtype=torch.float64, device=device).unbind(1)
        self.limit = weight[0]  # f(∞): only the knot at 0 is left
        # the fourth derivative falls with dim as E u⁴ = 3/(dim·(dim + 2)); 1/64 of a radian at t_max suffices for dim 2
        width = (dim * (dim + 2) / 8) ** 0.25 * 3 / (64 * max(t))
        self.per_unit = 1 / width
        self.pieces = math.ceil(_quadrature_end(dim) / used[0][0] / width)
        r = torch.arange(self.pieces + 1, dtype=torch.float64, device=device) * width
        value, slope = self._exactly(r)
        v0, v1 = value[:-1], value[1:]
        d0, d1 = (slope * r * width).unfold(0, 2, 1).unbind(1)  # Hermite: values and slopes at both ends of a piece
        powers = d0, 3 * (v1 - v0) - 2 * d0 - d1, 2 * (v0 - v1) + d0 + d1
        self.powers = [power.to(dtype).contiguous() for power in powers]
        self.base, self.end = v0.contiguous(), v1[-1]  # float64: an error that all pairs share would count N times

    def __call__(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """r (v, …) → Σ f(r) of each of the v, float64 (v,), and f′(r)/r, finite at 0, of r's shape and dtype."""
        place = (r * self.per_unit).nan_to_num_(0.0).clamp_(max=self.pieces)
        piece = place.long().clamp_(max=self.pieces - 1)
        at = place.sub_(piece)
        first, second, third = (power.take(piece) for power in self.powers)
        slope = torch.addcmul(second.mul(2), third, at, value=3).mul_(at).add_(first)
        slope.mul_(self.per_unit).div_(r.clamp(min=torch.finfo(r.dtype).tiny))
        rise = third.mul_(at).add_(second).mul_(at).add_(first).mul_(at)
        total = self.base.take(piece).flatten(1).sum(1) + rise.flatten(1).sum(1, dtype=torch.float64)
        if self.dim < _ASYMPTOTIC_DIM:  # in few dimensions f goes on to oscillate
            beyond = r * self.per_unit > self.pieces
            exact = [self._exactly(far) for far in r[beyond].double().clamp(max=1e30).split(4096)]
            if exact:
                values, slopes = (torch.cat(part) for part in zip(*exact, strict=True))
                total.index_add_(0, beyond.nonzero()[:, 0], values - self.end)
                slope[beyond] = slopes.to(slope.dtype)
        return total, slope

    def _exactly(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """f and f′/r at r (P,) in float64: Φ′(x) in dimension D is −x/D times Φ(x) in dimension D + 2."""
        x = r.unsqueeze(1) * self.t
        value = sphere_characteristic(x, self.dim) @ self.weight
        slope = sphere_characteristic(x, self.dim + 2) @ (self.weight * self.t.square())
        return value + self.limit, slope / -self.dim


_radial = lru_cache(maxsize=16)(_Radial)


def sphere_characteristic(x: Tensor, dim: int) -> Tensor:
    """Φ(x) = E cos(x·u), u one coordinate of a uniform unit vector in R^dim; x ≥ 0 of any shape, in float64.

    Quadrature up to an x that grows with the dimension; beyond, Hankel's expansion of the Bessel function in
    Φ(x) = Γ(ν+1)·(2/x)^ν·J_ν(x), ν = dim/2 − 1, or zero where Φ is below 1e-10.
    """
    u, weight = (part.to(x.device) for part in _gegenbauer(dim))
    end = _quadrature_end(dim)
    near = (x < end).nonzero(as_tuple=True)
    value = torch.zeros_like(x)
    if dim < _ASYMPTOTIC_DIM:
        value = _hankel(x.clamp(min=end), dim)
    value[near] = torch.cat([(p.unsqueeze(1) * u).cos_() @ weight for p in x[near].split(4096)] or [x[near]])
    return value


def _quadrature_end(dim: int) -> float:
    nu = dim / 2 - 1
    return max(25.0, nu * nu) if dim < _ASYMPTOTIC_DIM else 10 * math.sqrt(dim)


@lru_cache(maxsize=16)
def _gegenbauer(dim: int) -> tuple[Tensor, Tensor]:
    """Nodes in [0, 1] and weights of sum 1 for the density ∝ (1 − u²)^((dim−3)/2), by Golub and Welsch."""
    alpha = dim / 2 - 1
    k = torch.arange(2, _NODES, dtype=torch.float64)
    squares = torch.cat([
        torch.tensor([1 / (2 * (1 + alpha))], dtype=torch.float64),
        k * (k + 2 * alpha - 1) / (4 * (k + alpha) * (k + alpha - 1)),
    ])  # fmt: skip
    nodes, vectors = eigh_tridiagonal(torch.zeros(_NODES, dtype=torch.float64).numpy(), squares.sqrt().numpy())
    half = slice(_NODES // 2, None)  # symmetric
    return torch.from_numpy(nodes[half].copy()), torch.from_numpy(2 * vectors[0, half] ** 2)


def _hankel(x: Tensor, dim: int) -> Tensor:
    nu = dim / 2 - 1
    terms = [torch.ones_like(x)]
    for k in range(1, 10):
        terms.append(terms[-1] * (4 * nu * nu - (2 * k - 1) ** 2) / (8 * k * x))
    even = sum((-1) ** i * term for i, term in enumerate(terms[::2]))
    odd = sum((-1) ** i * term for i, term in enumerate(terms[1::2]))
    angle = x - (nu / 2 + 0.25) * math.pi
    bessel = (2 / (math.pi * x)).sqrt() * (even * angle.cos() - odd * angle.sin())
    return math.exp(math.lgamma(nu + 1)) * (2 / x) ** nu * bessel
