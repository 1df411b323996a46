"""Infinite slices against an independent quadrature over the angle, against random slices, and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from lejepa.sigreg import EppsPulley, SIGReg
from lejepa.spherical import sphere_characteristic

EXACT = SIGReg("exact")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_angles(z: torch.Tensor, steps: int = 4000) -> float:
    """The expectation over directions by the midpoint rule over the angle between direction and vector, float64."""
    z = z.double()
    n, dim = z.shape
    angle = (np.arange(steps) + 0.5) * np.pi / steps
    density = np.exp((dim - 2) * np.log(np.sin(angle)))
    u, density = torch.from_numpy(np.cos(angle)), torch.from_numpy(density / density.sum())
    u, density = u[density > 1e-18], density[density > 1e-18]
    t = torch.linspace(-3, 3, 33, dtype=torch.float64)
    phi = torch.exp(-(t**2) / 2)

    def mean_over_knots(r: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        cosines = [torch.cos(part[:, None, None] * t[:, None] * u) @ density for part in r.split(32)]
        return torch.trapezoid(torch.cat(cosines) * weight, t)

    distances = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").flatten()
    pairs, norms = mean_over_knots(distances, phi).mean(), mean_over_knots(z.norm(dim=1), phi**2).mean()
    return n * float(pairs - 2 * norms + torch.trapezoid(phi**3, t))


@pytest.mark.parametrize("dim", [2, 3, 8, 31, 32, 100, 512, 4096])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 6.0])
def test_float32_agrees_with_a_quadrature_over_the_angle_in_any_dimension(dim: int, scale: float) -> None:
    z = normal(10, dim, seed=dim) * scale
    assert EXACT(z.unsqueeze(0), step=0).item() == pytest.approx(by_angles(z), rel=1e-5)


@pytest.mark.parametrize("dim", [2, 5, 64])
def test_embeddings_far_out_agree_too(dim: int) -> None:
    z = normal(6, dim, seed=dim) * 100
    assert EXACT(z.unsqueeze(0), step=0).item() == pytest.approx(by_angles(z, steps=20_000), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e18, 1e30, 7e37])
@pytest.mark.parametrize("dim", [8, 40])
def test_any_finite_scale_gives_a_finite_value_and_gradient(scale: float, dim: int) -> None:
    z = (normal(1, 16, dim) * scale).requires_grad_()
    value = EXACT(z, step=0)
    value.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    t = torch.linspace(-3, 3, 33, dtype=torch.float64)
    phi = torch.exp(-(t**2) / 2)
    collapsed = torch.trapezoid((1 - phi) ** 2 * phi, t).item() * 16
    # far apart, only the knot at 0 is left of K and L: N·[(K(0) + (N−1)·w₀)/N − 2w₀ + Σwφ²]
    w0 = 6 / 32
    scattered = torch.trapezoid(phi, t).item() + 15 * w0 - 32 * w0 + 16 * torch.trapezoid(phi**3, t).item()
    assert value.item() == pytest.approx(collapsed if scale < 1 else scattered, rel=1e-4)


def test_random_slices_scatter_around_the_exact_value() -> None:
    z = normal(2, 64, 48) * torch.tensor([1.0, 1.3]).view(2, 1, 1)
    sliced = torch.stack([SIGReg(2000)(z, step=step) for step in range(50)]).double()  # 10⁵ slices
    error = sliced.std() / math.sqrt(len(sliced))
    assert abs(sliced.mean().item() - EXACT(z, step=0).item()) < 4 * error.item()
    assert error.item() < 0.02


def test_a_large_batch_keeps_its_digits() -> None:
    # the value is of order 1, the sum over pairs of order N: what float32 rounds must not add up
    z = normal(1, 4096, 32)
    assert EXACT(z, step=0).item() == pytest.approx(EXACT(z.double(), step=0).item(), rel=3e-5)


@pytest.mark.parametrize("dim", [2, 7, 40])
def test_the_gradient_matches_finite_differences(dim: int) -> None:
    z = (normal(2, 7, dim, seed=3).double() * 1.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: EXACT(z, step=0), (z,), atol=1e-6)
    far = (normal(1, 5, dim, seed=4).double() * 150).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: EXACT(z, step=0), (far,), atol=1e-6)


def test_the_float32_gradient_is_the_float64_gradient_and_the_mean_of_many_slices() -> None:
    z = normal(2, 50, 24, seed=5)
    gradients = []
    for sample, sigreg in ((z, EXACT), (z.double(), EXACT), (z, SIGReg(60_000))):
        x = sample.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(sigreg(x, step=0), x)
        gradients.append(gradient.double())
    single, double, sliced = gradients
    assert (single - double).norm() < 1e-5 * double.norm()
    assert (sliced - double).norm() < 0.05 * double.norm()


def test_equal_embeddings_pull_in_no_direction() -> None:
    z = normal(2, 30, 12, seed=6)
    z[0, 1] = z[0, 0]
    x = z.requires_grad_()
    (gradient,) = torch.autograd.grad(EXACT(x, step=0), x)
    torch.testing.assert_close(gradient[0, 0], gradient[0, 1])


@pytest.mark.parametrize("pairs", [70, 900, 2000])  # two rows, one view, two views at a time
@pytest.mark.parametrize("dim", [2, 12, 40])
def test_views_count_by_themselves_however_many_pairs_are_looked_at_together(
    pairs: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = normal(3, 30, dim, seed=6).double()
    z[1, :5] *= 1e4  # beyond the table, where few dimensions have an expansion of their own
    monkeypatch.setattr("lejepa.spherical._PAIRS", pairs)
    x = z.requires_grad_()
    value = EXACT(x, step=0)
    (gradient,) = torch.autograd.grad(value, x)
    monkeypatch.undo()
    alone = [EXACT(view.unsqueeze(0), step=0) for view in x]
    torch.testing.assert_close(value, torch.stack(alone).mean())
    torch.testing.assert_close(gradient, torch.autograd.grad(torch.stack(alone).mean(), x)[0])


def test_other_quadratures_have_their_own_limit() -> None:
    z = normal(1, 40, 16, seed=7) * 1.4
    statistic = EppsPulley(t_max=5.0, knots=9)
    sliced = SIGReg(40_000, statistic)(z, step=0).item()
    assert SIGReg("exact", statistic)(z, step=0).item() == pytest.approx(sliced, rel=0.02)
    assert SIGReg("exact", statistic)(z, step=0).item() != pytest.approx(EXACT(z, step=0).item(), rel=1e-5)


@pytest.mark.parametrize("dim", [2, 3, 16, 31, 32, 200])
def test_the_characteristic_function_of_the_sphere_is_a_bessel_function(dim: int) -> None:
    x = np.concatenate([np.linspace(0.1, 300, 500), [1e3, 1e5]])
    nu = dim / 2 - 1
    expected = np.exp(special.gammaln(nu + 1) + nu * np.log(2 / x)) * special.jv(nu, x)
    np.testing.assert_allclose(sphere_characteristic(torch.from_numpy(x), dim).numpy(), expected, atol=1e-10)


def test_one_dimension_and_other_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="2 dims"):
        EXACT(torch.zeros(1, 4, 1), step=0)
    with pytest.raises(ValueError, match="Identity"):
        SIGReg("exact", torch.nn.Identity())
