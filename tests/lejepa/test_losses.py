"""VICReg against the formula of its reference, written independently in float64."""

import numpy as np
import pytest
import torch

from lejepa.losses import vicreg, vicreg_parts


def reference(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """facebookresearch/vicreg in numpy: invariance, halved standard deviation hinges, summed covariances."""
    d = x.shape[1]
    std = sum(np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)).mean() / 2 for z in (x, y))
    cov = 0.0
    for z in (x, y):
        c = np.cov(z, rowvar=False)
        cov += (c[~np.eye(d, dtype=bool)] ** 2).sum() / d
    return float(((x - y) ** 2).mean()), float(std), float(cov)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_vicreg_agrees_with_its_reference(scale: float) -> None:
    rng = np.random.default_rng(0)
    x, y = (scale * rng.normal(size=(32, 12)) @ rng.normal(size=(12, 12)) for _ in range(2))
    inv, std, cov = reference(x, y)
    z1, z2 = torch.from_numpy(x), torch.from_numpy(y)
    parts = vicreg_parts(z1, z2)
    assert [parts[k].item() for k in ("inv", "std", "cov")] == pytest.approx([inv, std, cov], rel=1e-10)
    assert vicreg(z1, z2).item() == pytest.approx(25 * inv + 25 * std + cov, rel=1e-10)
    assert vicreg(z1, z2, inv=1.0, std=0.0, cov=2.0).item() == pytest.approx(inv + 2 * cov, rel=1e-10)


def test_vicreg_of_identical_spread_uncorrelated_views_is_nearly_zero() -> None:
    n = 64
    hadamard = torch.tensor([[1.0]])
    while len(hadamard) < n:
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    z = 2 * hadamard[:, 1:9]  # columns of mean 0, pairwise orthogonal, deviation above 1
    assert vicreg(z, z).item() == pytest.approx(0, abs=1e-6)


def test_vicreg_gradient_matches_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    z1, z2 = (torch.randn(6, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: vicreg(a, b), (z1, z2))
