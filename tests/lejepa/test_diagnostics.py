"""Collapse and isotropy in cases whose answer is known."""

import pytest
import torch

from lejepa.diagnostics import collapse, effective_rank, rankme


def test_ranks_of_known_spectra() -> None:
    generator = torch.Generator().manual_seed(0)
    isotropic = torch.linalg.qr(torch.randn(500, 10, generator=generator)).Q
    isotropic = isotropic - isotropic.mean(0)
    assert rankme(isotropic) == pytest.approx(10, abs=0.05)
    assert effective_rank(isotropic) == pytest.approx(10, abs=0.05)
    line = torch.randn(500, 1, generator=generator) * torch.ones(1, 10)
    assert rankme(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    values = torch.tensor([0.5, 0.25, 0.25])
    three = torch.linalg.qr(torch.randn(400, 4, generator=generator)).Q[:, :3] * values
    assert rankme(three) == pytest.approx(2**1.5, rel=1e-3)  # exp of the entropy of (1/2, 1/4, 1/4)


def test_collapse_is_told_from_spread() -> None:
    healthy = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    line = healthy[:, :1] * torch.ones(1, 16)
    assert collapse(healthy, healthy, 1.0)["collapsed"] == 0.0
    assert collapse(healthy, healthy * 0.01, 1.0)["collapsed"] == 1.0
    assert collapse(line, healthy, 1.0)["collapsed"] == 1.0
    assert collapse(healthy, healthy * 0.01, None)["collapsed"] == 0.0  # small, but not against its own size
    assert collapse(healthy, healthy * 0.01 + 5, None)["collapsed"] == 1.0
    assert collapse(healthy, healthy, 1.0)["std"] == pytest.approx(1, abs=0.05)
