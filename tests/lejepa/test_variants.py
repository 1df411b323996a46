"""Every preset against its source's formula, written out here; λ carried between them; what cannot be carried."""

import math
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.losses import lejepa, lejepa_parts
from lejepa.method_config import LejepaConfig
from lejepa.methods import build_method
from lejepa.sigreg import SIGReg
from lejepa.variants import PRESETS, STATISTICS, convert_lambda, regularizer
from lejepa.views import Views

VIEWS, GLOBAL, BATCH, DIM, STEP = 4, 2, 24, 6, 5


def projections(views: int = VIEWS, batch: int = BATCH) -> Tensor:
    z = torch.randn(views, batch, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return z * 1.2 + z[:1] + 0.3


def ours(name: str, z: Tensor, n_global: int = GLOBAL) -> Tensor:
    v = PRESETS[name]
    sigreg = regularizer(v)
    return lejepa(z, n_global=n_global, lamb=v.lamb, sigreg=sigreg, step=STEP, centre=v.centre, weighting=v.weighting)


def directions(name: str) -> Tensor:
    return SIGReg(PRESETS[name].slices).directions(DIM, step=STEP).double()


# -- the sources, each in its own way of writing ----------------------------------------------------------------------


def paper(z: Tensor) -> Tensor:
    """Algorithm 1: trapezoid of |ecf − φ|²·φ over linspace(−5, 5, 17), times N. Algorithm 2: (1 − λ)·sim + λ·sigreg."""
    t = torch.linspace(-5, 5, 17, dtype=torch.float64)
    exp_f = torch.exp(-0.5 * t**2)
    sigreg = []
    for view in z:
        ecf = (1j * (view @ directions("paper")).unsqueeze(2) * t).exp().mean(0)
        sigreg.append(torch.trapezoid((ecf - exp_f).abs() ** 2 * exp_f, t, dim=1).mul(len(view)).mean())
    centres = z[:GLOBAL].mean(0)
    sim = torch.stack([(centres - view).square().mean() for view in z]).mean()
    return (1 - 0.05) * sim + 0.05 * torch.stack(sigreg).mean()


def half_range(x: Tensor) -> Tensor:
    """The package's EppsPulley on columns (N, M): knots on [0, 3], weights 2·dt with dt at the ends, times φ and N."""
    t = torch.linspace(0, 3, 17, dtype=torch.float64)
    dt = 3 / 16
    weights = torch.full((17,), 2 * dt, dtype=torch.float64)
    weights[[0, -1]] = dt
    phi = (-0.5 * t.square()).exp()
    x_t = x.unsqueeze(-1) * t
    err = (x_t.cos().mean(0) - phi).square() + x_t.sin().mean(0).square()
    return (err @ (weights * phi)) * len(x)


def official(z: Tensor) -> Tensor:
    sigreg = torch.stack([half_range(view @ directions("official")).mean() for view in z]).mean()
    return 0.95 * (z[:GLOBAL].mean(0) - z).square().mean() + 0.05 * sigreg


def minimal(z: Tensor) -> Tensor:
    sigreg = torch.stack([half_range(view @ directions("minimal")).mean() for view in z]).mean()
    return (z.mean(0) - z).square().mean() * (1 - 0.02) + sigreg * 0.02


def stable_pretraining(z: Tensor) -> Tensor:
    pooled = z.reshape(-1, DIM)
    return (z[:GLOBAL].mean(0) - z).square().mean() + 0.02 * half_range(
        pooled @ directions("stable_pretraining")
    ).mean()


def eb_jepa(z: Tensor) -> Tensor:
    t = torch.linspace(-3, 3, 10, dtype=torch.float64)
    exp_f = torch.exp(-0.5 * t**2)

    def epps_pulley(x: Tensor) -> Tensor:
        ecf = (1j * x.unsqueeze(2) * t).exp().mean(0)
        return torch.trapezoid(exp_f * (ecf - exp_f).abs() ** 2, t, dim=1)

    bcs = (epps_pulley(z[0] @ directions("eb_jepa")).mean() + epps_pulley(z[1] @ directions("eb_jepa")).mean()) / 2
    return torch.nn.functional.mse_loss(z[0], z[1]) + 10 * bcs


@pytest.mark.parametrize(
    ("name", "source", "views"),
    [
        ("paper", paper, VIEWS), ("official", official, VIEWS), ("lightly", official, VIEWS),
        ("minimal", minimal, VIEWS), ("stable_pretraining", stable_pretraining, VIEWS), ("eb_jepa", eb_jepa, 2),
    ],
)  # fmt: skip
def test_a_preset_is_the_loss_of_its_source_in_value_and_gradient(
    name: str, source: Callable[[Tensor], Tensor], views: int
) -> None:
    results = []
    for loss in (source, lambda z: ours(name, z)):
        z = projections(views).requires_grad_()
        value = loss(z)
        results.append((value, *torch.autograd.grad(value, z)))
    torch.testing.assert_close(results[0], results[1])


def test_lightly_itself_reads_what_its_preset_reads() -> None:
    loss = pytest.importorskip("lightly.loss", reason="lightly is not installed (extra `bench`)")
    if not hasattr(loss, "LeJEPALoss"):
        pytest.skip("this lightly has no LeJEPALoss")
    z = projections(batch=64).float()
    readings = []
    for seed in range(12):  # its directions are its own, so both are averaged over many
        torch.manual_seed(seed)
        readings.append(loss.LeJEPALoss()(local_proj=z[GLOBAL:], global_proj=z[:GLOBAL]))
    exact = lejepa(z, n_global=GLOBAL, lamb=0.05, sigreg=SIGReg("exact"), step=0)
    assert torch.stack(readings).mean().item() == pytest.approx(exact.item(), rel=0.01)


# -- λ ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "canonical"), [(0.1, 1e-4), (1, 0.00098), (10, 0.0097), (100, 0.089)])
def test_the_grid_of_eb_jepa_at_batch_256_in_the_canonical_convention(theirs: float, canonical: float) -> None:
    found = convert_lambda(theirs, from_="eb_jepa", to="official", batch=256, views=2)
    # pred: ¼ of the pairs' error; SIGReg: N times the unscaled one; λ/(1 − λ) = theirs / (4·256)
    assert found.lamb == pytest.approx(theirs / (1024 + theirs), rel=1e-12)
    assert found.lamb == pytest.approx(canonical, rel=0.03)
    assert found.gradient_error < 0.01  # ten knots for seventeen


@pytest.mark.parametrize("names", [("official", "lightly"), ("minimal", "eb_jepa"), ("paper", "minimal")])
def test_a_conversion_there_and_back_is_no_conversion(names: tuple[str, str]) -> None:
    there = convert_lambda(0.03, from_=names[0], to=names[1], batch=64, views=2)
    back = convert_lambda(there.lamb, from_=names[1], to=names[0], batch=64, views=2)
    assert back.lamb == pytest.approx(0.03, rel=1e-9)
    assert there.factor * back.factor == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(("name", "views"), [("minimal", 4), ("lightly", 3), ("eb_jepa", 2), ("paper", 2)])
@pytest.mark.parametrize("std", [1.0, 2.4])
def test_the_gradients_are_one_up_to_the_factor_and_the_stated_error(name: str, views: int, std: float) -> None:
    z = projections(views, batch=40)
    z = ((z - z.mean((0, 1))) / z.std((0, 1)) * std).requires_grad_()
    found = convert_lambda(0.2, from_="official", to=name, batch=40, views=views)
    gradients = []
    for variant, lamb in ((PRESETS["official"], 0.2), (PRESETS[name], found.lamb)):
        sigreg = regularizer(variant.model_copy(update={"slices": "exact"}))
        loss = lejepa(
            z, n_global=views, lamb=lamb, sigreg=sigreg, step=0, centre=variant.centre, weighting=variant.weighting
        )
        gradients.append(torch.autograd.grad(loss, z)[0])
    error = (found.factor * gradients[0] - gradients[1]).norm() / gradients[1].norm()
    # stated for unit variance; far from it, what the quadratures see of the tails differs more
    assert error.item() < (3 * found.gradient_error + 1e-9 if std == 1 else 0.15)


def test_equal_quadratures_convert_without_any_error() -> None:
    assert convert_lambda(0.02, from_="minimal", to="official", batch=64, views=4).gradient_error < 1e-12
    additive = LejepaConfig(weighting="additive")
    found = convert_lambda(0.5, from_="official", to=additive, batch=64, views=4, n_global=2)
    assert found.lamb == pytest.approx(1)
    assert found.gradient_error < 1e-12


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("official", "stable_pretraining", "mixture of all views"),
        ("stable_pretraining", "eb_jepa", "pooled"),
        ("official", "minimal", "2 global views"),
        ("official", LejepaConfig(statistic="watson"), "watson"),
        ("official", LejepaConfig(teacher=0.99), "teacher"),
        ("official", "lighty", "unknown variant 'lighty'"),
    ],
)
def test_what_no_factor_joins_is_refused_with_the_reason(source: str, target: str | LejepaConfig, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        convert_lambda(0.05, from_=source, to=target, batch=64, views=4, n_global=2)


@pytest.mark.parametrize(("source", "value"), [("official", 1.0), ("official", -0.1), ("eb_jepa", -1.0)])
def test_a_lambda_that_its_convention_does_not_know_is_refused(source: str, value: float) -> None:
    with pytest.raises(ValueError, match=str(value)):
        convert_lambda(value, from_=source, to="minimal", batch=64, views=2)


# -- the parts --------------------------------------------------------------------------------------------------------


def test_pairs_are_the_mean_squared_difference_over_all_pairs_of_views() -> None:
    z = projections(5)
    pairs = [(z[i] - z[j]).square().mean() for i in range(5) for j in range(i)]
    found = lejepa_parts(z, n_global=1, lamb=0.1, sigreg=SIGReg(4), step=0, centre="pairs")["pred"]
    torch.testing.assert_close(found, torch.stack(pairs).mean())


def test_a_teacher_makes_the_centre_and_gets_no_gradient() -> None:
    z, teacher = projections().requires_grad_(), (projections(2) + 1).requires_grad_()
    parts = lejepa_parts(z, n_global=2, lamb=0.0, sigreg=SIGReg(4), step=0, teacher=teacher)
    torch.testing.assert_close(parts["pred"], (teacher.mean(0) - z).square().mean())
    parts["loss"].backward()
    assert teacher.grad is None
    torch.testing.assert_close(z.grad, 2 * (z - teacher.mean(0)).detach() / z.numel())


@pytest.mark.parametrize(("weighting", "lamb"), [("convex", 1.5), ("convex", -0.1), ("additive", -0.1)])
def test_lambda_outside_its_weighting_is_refused_by_loss_and_config(weighting: str, lamb: float) -> None:
    with pytest.raises(ValueError, match=str(lamb)):
        lejepa(projections(), n_global=1, lamb=lamb, sigreg=SIGReg(4), step=0, weighting=weighting)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="lamb"):
        LejepaConfig(weighting=weighting, lamb=lamb)  # type: ignore[arg-type]


def test_an_additive_lambda_may_be_large_and_an_unscaled_statistic_does_not_grow_with_the_batch() -> None:
    assert LejepaConfig(weighting="additive", lamb=100).lamb == 100
    z = projections(2, batch=50)
    scaled, unscaled = SIGReg(20)(z, step=0), SIGReg(20, scale="none")(z, step=0)
    torch.testing.assert_close(unscaled * 50, scaled)


@pytest.mark.parametrize(
    "wrong",
    [
        {"statistic": "watson", "slices": "exact"}, {"statistic": "vcreg", "knots": 5},
        {"teacher": 0.9, "centre": "pairs"}, {"slices": "all"}, {"slices": 0},
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        LejepaConfig(**wrong)


# -- in training ------------------------------------------------------------------------------------------------------


def images(config: TrainConfig, fill: float = 0.0) -> Views:
    generator = torch.Generator().manual_seed(2)
    sizes = (config.data.size, config.views.local_size)
    return Views(*(torch.randn(2, 8, 1, size, size, generator=generator) + fill for size in sizes if size))


@pytest.mark.parametrize(
    "method",
    [{"slices": "exact"}, {"sample": "pooled", "weighting": "additive"}, {"teacher": 0.9}]
    + [{"teacher": 0.9, "centre": "all"}, {"centre": "pairs", "scale": "none"}]
    + [{"statistic": name, "slices": 16} for name in STATISTICS],
)
def test_every_variant_trains_a_step(method: dict) -> None:
    config = TrainConfig.model_validate({"method": {"name": "lejepa", **method}, "data": {"size": 16}})
    torch.manual_seed(0)
    model = build_method(config, channels=1)
    losses = model(images(config), 0)
    assert set(losses) == {"loss", "pred", "sigreg"}
    losses["loss"].backward()
    gradients = [p.grad for p in model.encoder.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients if g is not None)


def test_the_teacher_follows_the_student_with_its_momentum_and_is_not_trained() -> None:
    config = TrainConfig.model_validate({"method": {"name": "lejepa", "teacher": 0.9}, "data": {"size": 16}})
    model = build_method(config, channels=1)
    teacher = list(model.teacher.parameters())
    student = [*model.encoder.parameters(), *model.projector.parameters()]
    before = [p.clone() for p in teacher]
    with torch.no_grad():
        for p in student:
            p.add_(1.0)
    model.after_step(0, 10)
    for old, now in zip(before, teacher, strict=True):
        torch.testing.assert_close(now, old + 0.1)
        assert not now.requires_grad


def test_embeddings_that_are_not_finite_end_in_a_loss_that_is_not() -> None:
    config = TrainConfig.model_validate({"method": {"name": "lejepa", "slices": 8}, "data": {"size": 16}})
    losses = build_method(config, channels=1)(images(config, fill=math.inf), 0)
    assert all(value.isnan() for value in losses.values())
