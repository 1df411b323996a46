"""SIGReg against its definition, its known readings, and finite differences."""

import math

import pytest
import torch
from scipy import integrate

from lejepa.losses import lejepa, lejepa_parts
from lejepa.sigreg import EppsPulley, NotFinite, SIGReg


def by_definition(x: torch.Tensor, t_max: float, knots: int) -> torch.Tensor:
    """N · trapezoid of |φ̂ − φ|² w over [−t_max, t_max], without using any symmetry: x (N,) → scalar."""
    t = torch.linspace(-t_max, t_max, 2 * knots - 1, dtype=torch.float64)
    phi = torch.exp(-(t**2) / 2)
    empirical = torch.exp(1j * t * x.double().unsqueeze(1)).mean(0)
    return len(x) * torch.trapezoid((empirical - phi).abs() ** 2 * phi, t)


@pytest.mark.parametrize(("t_max", "knots"), [(3.0, 17), (5.0, 9), (1.0, 2), (3.0, 10)])
def test_epps_pulley_is_the_trapezoid_rule_of_its_definition(t_max: float, knots: int) -> None:
    x = torch.randn(2, 40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1.7 + 0.3
    statistic = EppsPulley(t_max, knots)(x)
    assert statistic.shape == (2, 3)
    for v in range(2):
        for m in range(3):
            assert statistic[v, m].item() == pytest.approx(by_definition(x[v, :, m], t_max, knots).item(), rel=1e-10)


def test_the_expectation_on_gaussian_samples_is_1_0525_within_five_standard_errors() -> None:
    # E|φ̂ − φ|² = (1 − φ²)/N, so N cancels; the trapezoid of (1 − e^{−t²})·e^{−t²/2} is derived here, not copied
    t = torch.linspace(-3, 3, 33, dtype=torch.float64)
    expected = torch.trapezoid((1 - torch.exp(-(t**2))) * torch.exp(-(t**2) / 2), t).item()
    assert expected == pytest.approx(1.0525, abs=5e-5)
    generator = torch.Generator().manual_seed(0)
    readings = EppsPulley()(torch.randn(64, 40_000, generator=generator)).double()
    assert abs(readings.mean().item() - expected) < 5 * readings.std().item() / math.sqrt(readings.numel())
    readings = torch.stack([SIGReg(64)(torch.randn(1, 128, 16, generator=generator), step=s) for s in range(400)])
    assert abs(readings.mean().item() - expected) < 5 * readings.std().item() / math.sqrt(len(readings))


def test_total_collapse_reads_0_402_times_the_batch() -> None:
    t = torch.linspace(-3, 3, 33, dtype=torch.float64)
    phi = torch.exp(-(t**2) / 2)
    expected = torch.trapezoid((1 - phi) ** 2 * phi, t).item()
    assert expected == pytest.approx(0.4020, abs=5e-5)
    for n in (8, 128, 1000):
        assert SIGReg(32)(torch.zeros(2, n, 16), step=0).item() == pytest.approx(expected * n, rel=1e-5)


def test_many_knots_approach_the_integral_on_the_whole_line() -> None:
    x = torch.randn(30, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2

    def integrand(t: float) -> float:
        gap = torch.exp(1j * t * x).mean() - math.exp(-t * t / 2)
        return float(gap.abs() ** 2) * math.exp(-t * t / 2)

    exact = 30 * integrate.quad(integrand, -12, 12, limit=200)[0]
    assert EppsPulley(t_max=9.0, knots=400)(x).item() == pytest.approx(exact, rel=1e-6)


def test_the_gradient_matches_finite_differences_in_float64() -> None:
    generator = torch.Generator().manual_seed(5)
    x = (torch.randn(2, 6, 4, dtype=torch.float64, generator=generator) * 2).requires_grad_()
    assert torch.autograd.gradcheck(EppsPulley(t_max=4.0, knots=9), (x,))
    z = torch.randn(2, 6, 5, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: SIGReg(7)(z, step=3), (z,))


def test_blocks_of_columns_do_not_change_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 50, 333, requires_grad=True, generator=torch.Generator().manual_seed(6))
    whole = EppsPulley()(x)
    (gradient,) = torch.autograd.grad(whole.sum(), x)
    monkeypatch.setattr("lejepa.harmonics._BLOCK", 1)
    blocked = EppsPulley()(x)
    (blocked_gradient,) = torch.autograd.grad(blocked.sum(), x)
    torch.testing.assert_close(blocked, whole)
    torch.testing.assert_close(blocked_gradient, gradient)


@pytest.mark.parametrize(("t_max", "knots"), [(3.0, 10), (5.0, 17), (2.0, 2), (4.0, 3)])
def test_knots_on_the_whole_interval_are_the_trapezoid_rule_there(t_max: float, knots: int) -> None:
    x = torch.randn(25, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
    t = torch.linspace(-t_max, t_max, knots, dtype=torch.float64)
    phi = torch.exp(-(t**2) / 2)
    gap = (torch.exp(1j * t * x.unsqueeze(-1)).mean(0) - phi).abs() ** 2
    expected = 25 * torch.trapezoid(gap * phi, t)
    torch.testing.assert_close(EppsPulley(t_max, knots, interval="whole")(x), expected)


@pytest.mark.parametrize("knots", [2, 3, 4, 6, 10, 17, 18])
def test_the_fused_loss_is_the_statistic_of_the_projections_in_value_and_gradient(knots: int) -> None:
    z = torch.randn(3, 37, 11, generator=torch.Generator().manual_seed(11)) * 1.4
    sigreg = SIGReg(53, EppsPulley(2.5, knots))
    results = []
    for loss in (
        lambda x: sigreg(x, step=4),
        lambda x: torch.stack(
            [by_definition(column, 2.5, knots) for view in x @ sigreg.directions(11, step=4) for column in view.T]
        ).mean(),
    ):
        x = z.clone().requires_grad_()
        value = loss(x)
        results.append((value.double(), *torch.autograd.grad(value, x)))
    (value, gradient), (expected, expected_gradient) = results
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (gradient - expected_gradient).norm() < 1e-5 * expected_gradient.norm()


def test_large_batches_and_few_slices_are_cut_into_blocks_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(1, 3000, 8, generator=torch.Generator().manual_seed(12)).requires_grad_()
    whole = SIGReg(75)(z, step=0)
    (gradient,) = torch.autograd.grad(whole, z)
    monkeypatch.setattr("lejepa.sigreg._CHUNK", 1)
    monkeypatch.setattr("lejepa.harmonics._BLOCK", 10_000)
    cut = SIGReg(75)(z, step=0)
    torch.testing.assert_close(cut, whole)
    torch.testing.assert_close(torch.autograd.grad(cut, z)[0], gradient)


def test_pooled_samples_are_one_sample_and_fixed_directions_stay() -> None:
    z = torch.randn(4, 20, 6, generator=torch.Generator().manual_seed(13))
    pooled = SIGReg(30, sample="pooled")(z, step=3)
    torch.testing.assert_close(pooled, SIGReg(30)(z.reshape(1, 80, 6), step=3))
    fixed = SIGReg(30, directions="fixed")
    assert torch.equal(fixed.directions(6, step=9), SIGReg(30).directions(6, step=0))
    assert fixed(z, step=9) == fixed(z, step=0)


def test_directions_are_unit_new_at_every_step_and_the_same_for_the_same_step() -> None:
    sigreg = SIGReg(50, seed=4)
    first = sigreg.directions(8, step=0)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(50))
    assert torch.equal(first, sigreg.directions(8, step=0))
    assert not torch.equal(first, sigreg.directions(8, step=1))
    assert not torch.equal(first, SIGReg(50, seed=5).directions(8, step=0))


def test_views_are_tested_one_by_one_and_averaged() -> None:
    z = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(7)) * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    sigreg = SIGReg(40)
    one_by_one = torch.stack([sigreg(z[v : v + 1], step=2) for v in range(3)])
    torch.testing.assert_close(sigreg(z, step=2), one_by_one.mean())


def test_autocast_does_not_touch_the_statistic_and_float64_stays_float64() -> None:
    z = torch.randn(1, 32, 8, generator=torch.Generator().manual_seed(8))
    plain = SIGReg(16)(z, step=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(SIGReg(16)(z, step=0), plain)
    assert SIGReg(16)(z.double(), step=0).dtype == torch.float64


def test_the_compiler_of_a_training_step_leaves_the_loss_alone() -> None:
    traced: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        traced.append(graph.code)
        return graph

    z = torch.randn(1, 32, 8, generator=torch.Generator().manual_seed(15))
    sigreg = SIGReg(16)
    step = torch.compile(lambda z: sigreg(z * 2, step=0) * 3, backend=backend)
    torch.testing.assert_close(step(z), sigreg(z * 2, step=0) * 3)
    assert len(traced) == 2  # what is before it and what is after
    assert not any("cos" in code for code in traced)


def test_lambda_zero_is_the_prediction_loss_and_lambda_one_is_sigreg() -> None:
    z = torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(9))
    sigreg = SIGReg(32)
    centre = (z[0] + z[1]) / 2
    prediction = sum((centre - z[v]).square().sum() for v in range(4)) / z.numel()
    torch.testing.assert_close(lejepa(z, n_global=2, lamb=0.0, sigreg=sigreg, step=5), prediction)
    torch.testing.assert_close(lejepa(z, n_global=2, lamb=1.0, sigreg=sigreg, step=5), sigreg(z, step=5))
    parts = lejepa_parts(z, n_global=2, lamb=0.3, sigreg=sigreg, step=5)
    torch.testing.assert_close(parts["loss"], 0.7 * parts["pred"] + 0.3 * parts["sigreg"])


def test_the_loss_has_no_stop_gradient_anywhere() -> None:
    z = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(10)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: lejepa(z, n_global=2, lamb=0.05, sigreg=SIGReg(6), step=1), (z,))


@pytest.mark.parametrize(("n_global", "lamb"), [(0, 0.1), (4, 0.1), (1, -0.1), (1, 1.1)])
def test_impossible_arguments_are_refused(n_global: int, lamb: float) -> None:
    with pytest.raises(ValueError, match=r"n_global|λ"):
        lejepa(torch.zeros(3, 2, 2), n_global=n_global, lamb=lamb, sigreg=SIGReg(2), step=0)


@pytest.mark.parametrize("slices", [64, "exact"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_refused_with_their_number(slices: int | str, bad: float) -> None:
    z = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(14))
    z[1, 3, 2] = bad
    with pytest.raises(NotFinite, match="1 of 64"):
        SIGReg(slices)(z, step=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("slices", [64, "exact"])
@pytest.mark.parametrize("shape", [(2, 1, 4), (8, 4), (2, 3, 4, 5)])
def test_embeddings_of_a_wrong_shape_are_refused_with_it(slices: int | str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        SIGReg(slices)(torch.zeros(shape), step=0)  # type: ignore[arg-type]


def test_no_slices_one_knot_and_single_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="slices must be at least 1 or `exact`, not 0"):
        SIGReg(0)
    with pytest.raises(ValueError, match=r"knots at least 2, not 3\.0 and 1"):
        EppsPulley(knots=1)
    with pytest.raises(ValueError, match=r"\(1, 7\)"):
        EppsPulley()(torch.zeros(1, 7))
