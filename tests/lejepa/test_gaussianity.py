"""The univariate tests against scipy, the textbook's formula written out in numpy, and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lejepa.gaussianity import (
    AndersonDarling,
    CramerVonMises,
    ExtendedJarqueBera,
    Moments,
    ShapiroWilk,
    UnivariateTest,
    VCReg,
    VICReg,
    Watson,
)
from lejepa.sigreg import SIGReg

ALL = [AndersonDarling, CramerVonMises, Watson, ExtendedJarqueBera, ShapiroWilk, VCReg, VICReg, Moments]


def samples(n: int, seed: int = 0) -> np.ndarray:
    """Three columns of n: normal, shifted and wide, skewed."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.normal(size=n), rng.normal(0.4, 1.7, n), rng.exponential(size=n) - 1], axis=1)


def anderson_darling(x: np.ndarray) -> float:
    x, n = np.sort(x), len(x)
    i = np.arange(1, n + 1)
    return float(-n - np.mean((2 * i - 1) * (stats.norm.logcdf(x) + stats.norm.logsf(x[::-1]))))


def watson(x: np.ndarray) -> float:
    # ∫ of the squared gap between the two distribution functions minus its mean, over dΦ, on a fine grid
    n = len(x)
    p = (np.arange(200_000) + 0.5) / 200_000
    gap = np.searchsorted(np.sort(stats.norm.cdf(x)), p) / n - p
    return float(n * np.var(gap))


def extended_jarque_bera(x: np.ndarray) -> float:
    return vcreg(x) + float(stats.jarque_bera(x).statistic)


def vcreg(x: np.ndarray) -> float:
    n = len(x)
    return float(n * x.mean() ** 2 / x.var(ddof=1) + (n - 1) * (x.var(ddof=1) - 1) ** 2 / 2)


def moments(x: np.ndarray) -> float:
    normal = [stats.norm.moment(k) for k in range(2, 5)]
    return float(
        abs(x.mean()) + sum(np.exp(-k) * abs(np.mean(x**k) - m) for k, m in zip(range(2, 5), normal, strict=True))
    )


TEXTBOOK = {
    AndersonDarling: anderson_darling,
    CramerVonMises: lambda x: float(stats.cramervonmises(x, "norm").statistic),
    Watson: watson,
    ExtendedJarqueBera: extended_jarque_bera,
    ShapiroWilk: lambda x: 1 - float(stats.shapiro(x).statistic),
    VCReg: vcreg,
    VICReg: lambda x: float(x.mean() ** 2 + (x.std(ddof=1) - 1) ** 2),
    Moments: moments,
}


@pytest.mark.parametrize("test", ALL)
@pytest.mark.parametrize("n", [5, 12, 200])
def test_each_statistic_is_the_textbook_s(test: type[UnivariateTest], n: int) -> None:
    x = samples(n, seed=n)
    expected = [TEXTBOOK[test](column) for column in x.T]
    tolerance = 1e-4 if test is Watson else 1e-6  # Watson's is a sum over a grid here
    np.testing.assert_allclose(test()(torch.from_numpy(x)).numpy(), expected, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("test", ALL)
def test_leading_dimensions_are_independent_samples(test: type[UnivariateTest]) -> None:
    x = torch.from_numpy(np.stack([samples(20, seed) for seed in range(6)]).reshape(2, 3, 20, 3))
    together = test()(x)
    assert together.shape == (2, 3, 3)
    torch.testing.assert_close(together[1, 2], test()(x[1, 2]))
    assert test()(x.float()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(test()(x), together)


@pytest.mark.parametrize("test", ALL)
def test_the_gradient_matches_finite_differences(test: type[UnivariateTest]) -> None:
    x = torch.from_numpy(samples(9, seed=3)).requires_grad_()
    assert torch.autograd.gradcheck(test(), (x,))


@pytest.mark.parametrize("test", ALL)
def test_a_normal_sample_reads_lower_than_a_two_point_one(test: type[UnivariateTest]) -> None:
    quantiles = torch.special.ndtri((torch.arange(100, dtype=torch.float64) + 0.5) / 100).unsqueeze(1)
    assert test()(quantiles) < test()(quantiles.sign() * 1.5)


def test_far_outliers_and_constant_samples_stay_finite() -> None:
    far = torch.tensor([[-40.0], [0.0], [1.0], [50.0], [0.5]], requires_grad=True)
    constant = torch.full((5, 1), 0.25, requires_grad=True)
    for test in ALL:
        for x in (far, constant):
            value = test()(x)
            (gradient,) = torch.autograd.grad(value.sum(), x)
            assert torch.isfinite(value).all(), test
            assert torch.isfinite(gradient).all(), test


def test_sigreg_with_the_vicreg_test_is_variance_and_covariance_regularisation() -> None:
    # E over directions a of (aᵀμ)² + (√(aᵀΣa) − 1)² is 0 only at μ = 0, Σ = I; to second order in Σ − I = E it is
    # ‖μ‖²/D + E(aᵀEa)²/4 = ‖μ‖²/D + (2‖E‖² + (tr E)²)/(4·D·(D + 2)): off-diagonal covariances and variances, squared
    generator = torch.Generator().manual_seed(0)
    dim, n = 6, 400
    raw = torch.randn(n, dim, dtype=torch.float64, generator=generator)
    white = torch.linalg.svd(raw - raw.mean(0), full_matrices=False).U * math.sqrt(n - 1)
    perturbation = 0.01 * torch.randn(dim, dim, dtype=torch.float64, generator=generator)
    symmetric = (perturbation + perturbation.T) / 2
    mean = 0.02 * torch.randn(dim, dtype=torch.float64, generator=generator)
    z = white @ (torch.eye(dim) + symmetric / 2).double() + mean
    gap = torch.cov(z.T) - torch.eye(dim)
    expected = mean.square().sum() / dim + (2 * gap.square().sum() + gap.trace() ** 2) / (4 * dim * (dim + 2))
    reading = SIGReg(100_000, VICReg())(z.unsqueeze(0), step=0)
    assert reading.item() == pytest.approx(expected.item(), rel=0.03)


@pytest.mark.parametrize(("test", "n"), [(VCReg, 1), (ShapiroWilk, 3), (Watson, 0)])
def test_samples_too_small_are_refused_with_their_shape(test: type[UnivariateTest], n: int) -> None:
    with pytest.raises(ValueError, match=rf"\({n}, 2\)"):
        test()(torch.zeros(n, 2))
    with pytest.raises(ValueError, match="k_max"):
        Moments(0)
