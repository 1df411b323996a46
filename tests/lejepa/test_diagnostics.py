"""Spread, collapse and Gaussianity of features in cases whose answer is known."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import Tensor

from lejepa import diagnostics
from lejepa.diagnostics import (
    collapse,
    condition,
    describe,
    effective_rank,
    evenly,
    lidar,
    loss_over_lambda,
    rankme,
    sigreg_bounds,
    sigreg_share,
    why,
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthonormal(n: int, dim: int) -> Tensor:
    return torch.linalg.qr(gaussian(n, dim)).Q


# -- how many dimensions ----------------------------------------------------------------------------------------------


def test_ranks_of_known_spectra() -> None:
    isotropic = orthonormal(500, 10)
    isotropic = isotropic - isotropic.mean(0)
    assert rankme(isotropic) == pytest.approx(10, abs=0.05)
    assert effective_rank(isotropic) == pytest.approx(10, abs=0.05)
    line = gaussian(500, 1) * torch.ones(1, 10)
    assert rankme(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    values = torch.tensor([0.5, 0.25, 0.25])
    three = orthonormal(400, 4)[:, :3] * values
    assert rankme(three) == pytest.approx(2**1.5, rel=1e-3)  # exp of the entropy of (1/2, 1/4, 1/4)


@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_rankme_is_the_entropy_of_singular_values(shape: tuple[int, int]) -> None:
    x = gaussian(*shape) * torch.logspace(0, -5, shape[1])
    sigma = scipy.linalg.svdvals(x.double().numpy())
    p = sigma / sigma.sum() + 1e-7
    assert rankme(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)


def test_condition_is_the_spread_of_the_covariances_eigenvalues() -> None:
    base = orthonormal(400, 5)
    white = torch.linalg.qr(base - base.mean(0)).Q  # five exactly uncorrelated, centred dims of equal variance
    white = white - white.mean(0)
    assert condition(white) == pytest.approx(0, abs=1e-3)
    assert condition(white * torch.tensor([10.0, 1, 1, 1, 0.1]) + 3) == pytest.approx(4, abs=1e-2)
    assert condition(white @ torch.ones(5, 7)) == 12
    assert condition(gaussian(6, 20)) == 12
    assert condition(torch.ones(50, 3)) == 12


def test_large_splits_are_read_in_evenly_spaced_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evenly(torch.arange(10), 4).tolist() == [0, 2, 5, 7]
    assert evenly(torch.arange(3), 4).tolist() == [0, 1, 2]
    by_class = torch.eye(8).repeat_interleave(100, 0) + 0.01 * gaussian(800, 8)
    whole = effective_rank(by_class)
    monkeypatch.setattr(diagnostics, "ROWS", 200)
    assert effective_rank(by_class) == pytest.approx(whole, rel=0.01)


# -- LiDAR ------------------------------------------------------------------------------------------------------------


def lidar_by_definition(x: np.ndarray, delta: float) -> float:
    n, _, dim = x.shape
    between = np.cov(x.mean(1), rowvar=False)
    within = sum(np.cov(views, rowvar=False) for views in x) / n + delta * np.eye(dim)
    half = scipy.linalg.inv(scipy.linalg.sqrtm(within).real)
    values = scipy.linalg.eigvalsh(half @ between @ half).clip(min=0)
    return float(np.exp(scipy.stats.entropy(values)))


@pytest.mark.parametrize("shape", [(60, 10, 8), (5, 4, 12)])
@pytest.mark.parametrize("delta", [1e-4, 0.1])
def test_lidar_is_its_definition_in_float64(shape: tuple[int, int, int], delta: float) -> None:
    n, q, dim = shape
    scale = torch.logspace(0, -1.5, dim)
    embeddings = gaussian(n, 1, dim) * scale + 0.3 * gaussian(n, q, dim, seed=1) * scale.flip(0)
    expected = lidar_by_definition(embeddings.double().numpy(), delta)
    assert lidar(embeddings, delta) == pytest.approx(expected, rel=1e-6)


def test_lidar_counts_the_dims_that_tell_images_apart_and_not_views() -> None:
    images = torch.cat([gaussian(2000, 1, 3), torch.zeros(2000, 1, 5)], dim=2)  # three of eight dims know the image
    embeddings = images + 0.01 * gaussian(2000, 6, 8, seed=1)
    assert lidar(embeddings) == pytest.approx(3, abs=0.1)
    assert effective_rank((gaussian(2000, 6, 8, seed=1) + images).flatten(0, 1)) > 7  # which plain rank cannot see


def test_lidar_refuses_what_has_no_views() -> None:
    for shape in ((10, 8), (10, 1, 8), (1, 10, 8)):
        with pytest.raises(ValueError, match=r"LiDAR needs \(n, q, D\)"):
            lidar(torch.zeros(shape))


# -- collapse ---------------------------------------------------------------------------------------------------------


def test_collapse_is_told_from_spread() -> None:
    healthy = gaussian(300, 16)
    line = healthy[:, :1] * torch.ones(1, 16)
    assert collapse(healthy, healthy, 1.0)["collapsed"] == 0.0
    assert collapse(healthy, healthy * 0.01, 1.0)["collapsed"] == 1.0
    assert collapse(line, healthy, 1.0)["collapsed"] == 1.0
    assert collapse(healthy, healthy * 0.01, None)["collapsed"] == 0.0  # small, but not against its own size
    assert collapse(healthy, healthy * 0.01 + 5, None)["collapsed"] == 1.0
    assert collapse(healthy, healthy, 1.0)["std"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("target_std", [1.0, None])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_features_are_collapsed_whatever_the_loss_asks(target_std: float | None, value: float) -> None:
    constant = torch.full((100, 8), value)
    found = describe(constant, constant, target_std=target_std)
    assert (found["collapsed"], found["collapsed_variance"], found["collapsed_rank"]) == (1, 1, 1)
    assert found["dead"] == 1
    assert all(math.isfinite(v) for v in found.values())


def test_dims_that_stand_still_are_counted() -> None:
    projections = gaussian(500, 8)
    projections[:, :2] *= 0.05
    found = collapse(projections, projections, 1.0)
    assert found["dead"] == 0.25
    assert found["std_min"] == pytest.approx(0.05, abs=0.01)
    assert found["collapsed"] == 0


def test_a_collapse_gives_its_reason_in_words() -> None:
    healthy = gaussian(300, 16)
    line = healthy[:, :1] * torch.ones(1, 16)
    assert why(describe(healthy, healthy, target_std=1.0)) is None
    assert why({"val/linear": 90.0}) is None
    still = why(describe(healthy, healthy * 0.012, target_std=1.0))
    assert still == "the projections hardly vary (mean deviation per dimension 0.012)"
    rank = {f"diag/{name}": value for name, value in describe(line, healthy, target_std=1.0).items()}
    assert why(rank) == "the embeddings lie on a line (effective rank 1.00)"
    both = why(describe(line, healthy * 0.01, target_std=1.0))
    assert both is not None
    assert "vary" in both
    assert "line" in both


# -- how far from a Gaussian ------------------------------------------------------------------------------------------


def test_the_bounds_of_sigreg_are_the_integrals_of_the_statistic() -> None:
    floor, ceiling = sigreg_bounds(200)
    t = np.linspace(-3, 3, 20_001)
    weight = np.exp(-(t**2) / 2)
    assert floor == pytest.approx(np.trapezoid((1 - np.exp(-(t**2))) * weight, t), rel=1e-3)
    assert ceiling == pytest.approx(200 * np.trapezoid((1 - np.exp(-(t**2) / 2)) ** 2 * weight, t), rel=1e-3)


def test_the_share_of_sigreg_is_0_for_a_gaussian_and_1_at_the_origin() -> None:
    shares = [describe(x := gaussian(128, 64, seed=s), x, target_std=1.0)["sigreg_share"] for s in range(20)]
    assert np.mean(shares) == pytest.approx(0, abs=2e-3)
    zeros = torch.zeros(400, 64)
    for batch in (64, 256):
        assert describe(zeros, zeros, target_std=1.0, batch=batch)["sigreg_share"] == pytest.approx(1, abs=1e-4)
    far = 1e6 * gaussian(128, 64)
    assert describe(far, far)["sigreg_share"] > 1
    assert sigreg_share(sum(sigreg_bounds(100)) / 2, 100) == pytest.approx(0.5)


def test_what_nothing_trains_is_described_without_projections() -> None:
    assert set(describe(gaussian(50, 4))) == {"rankme", "effective_rank", "condition"}


def test_loss_over_lambda_lets_the_powers_of_lambda_cancel() -> None:
    assert loss_over_lambda(3 * 0.05**0.4, 0.05) == pytest.approx(3)
    assert loss_over_lambda(2.0, 0.05, alpha=0) == 2.0
    with pytest.raises(ValueError, match="no meaning at λ = 0"):
        loss_over_lambda(1.0, 0.0)
