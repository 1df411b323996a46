"""predictive: bare it collapses, with SIGReg alone it is LeJEPA, and every heuristic is one switch."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from lejepa import losses
from lejepa.config import TrainConfig
from lejepa.methods.predictive import Predictive, repulsion, scheduled
from lejepa.trainer import Trainer
from lejepa.views import Views
from lejepa.whitening import Whitening

SWITCHES: dict[str, dict[str, Any]] = {
    "ema_teacher": {"ema_teacher": True},
    "ema_schedule": {"ema_teacher": True, "ema_schedule": "cosine"},
    "stop_gradient": {"stop_gradient": True},
    "predictor": {"predictor": True},
    "batch": {"normalisation": "batch"},
    "layer": {"normalisation": "layer"},
    "whitening": {"normalisation": "whitening"},
    "negatives": {"negatives": True},
    "variance_covariance": {"variance_covariance": True},
    "sigreg": {"sigreg": True},
    "wd_schedule": {"wd_schedule": True},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(method: dict[str, Any], **changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "encoder": {"name": "small_resnet", "width": 8},
        "projector": {"hidden": 32, "dim": 16},
        "data": {"name": "digits", "size": 8, "limit": 200},
        "optimizer": {"lr": 2e-3},
        "probe": {"draws": 2, "every": 9},
        "epochs": 2,
        "batch_size": 64,
    }
    return TrainConfig.model_validate(base | {"method": method} | changes)


def predictive(**heuristics: Any) -> dict[str, Any]:
    return {"name": "predictive", "heuristics": heuristics, "slices": 64}


def trained(method: dict[str, Any], **changes: Any) -> Trainer:
    trainer = Trainer(config(method, **changes))
    list(trainer)
    return trainer


def built(**heuristics: Any) -> Predictive:
    torch.manual_seed(0)
    return Predictive(config(predictive(**heuristics)), channels=1).train()


def views(globals_: int = 2, locals_: int = 0, batch: int = 24) -> Views:
    draw = torch.Generator().manual_seed(3)
    large = torch.randn(globals_, batch, 1, 8, 8, generator=draw)
    return Views(large, torch.randn(locals_, batch, 1, 8, 8, generator=draw))


def projections(method: Predictive, batch: Views) -> torch.Tensor:
    images = torch.cat([batch.globals, batch.locals]).flatten(0, 1)
    return method.project(method.encoder(images)).unflatten(0, (-1, batch.globals.shape[1]))


# -- LeJEPA and the bare objective ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heuristics", "variant"),
    [
        ({"sigreg": 0.05}, {}),
        ({"sigreg": 0.2, "ema_teacher": 0.9}, {"lamb": 0.2, "teacher": 0.9}),
        ({"sigreg": 0.05, "predictor": True}, {"predictor": True}),
    ],
)
def test_with_sigreg_it_is_lejepa_bit_for_bit(heuristics: dict[str, Any], variant: dict[str, Any]) -> None:
    ours, lejepa = trained(predictive(**heuristics)), trained({"name": "lejepa", "slices": 64, **variant})
    assert [r.metrics for r in ours.reports] == [r.metrics for r in lejepa.reports]
    expected = lejepa.method.state_dict()
    assert ours.method.state_dict().keys() == expected.keys()
    for name, value in ours.method.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_bare_it_is_the_prediction_alone_and_collapses() -> None:
    reports = trained(predictive(), epochs=12, optimizer={"lr": 1e-2}).reports
    first, last = reports[0].metrics, reports[-1].metrics
    assert last["train/loss"] == last["train/pred"] < 0.01 * first["train/loss"]
    assert last["diag/collapsed"] == 1
    assert {name for name in last if name.startswith("train/")} >= {"train/loss", "train/pred"}
    assert "train/sigreg" not in last


def test_with_sigreg_it_does_not_collapse() -> None:
    last = trained(predictive(sigreg=True), epochs=12, optimizer={"lr": 1e-2}).reports[-1].metrics
    assert last["diag/collapsed"] == 0


def test_the_bare_loss_is_the_mean_square_to_the_centre_of_the_globals() -> None:
    method, batch = built().eval(), views(2, 2)
    z = projections(method, batch).detach().double()
    distances = [(z[v, n] - z[:2, n].mean(0)).square().mean().item() for v in range(4) for n in range(24)]
    assert method(batch, 0)["loss"].item() == pytest.approx(sum(distances) / len(distances), rel=1e-5)


# -- each heuristic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_alone_trains_and_changes_what_is_learned(switch: str, bare: Trainer) -> None:
    trainer = trained(predictive(**SWITCHES[switch]), epochs=1)
    assert math.isfinite(trainer.reports[-1].metrics["train/loss"])
    ours, theirs = (t.method.encoder.state_dict()["stem.0.weight"] for t in (trainer, bare))
    assert not torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def bare() -> Trainer:
    torch.set_num_threads(1)
    return trained(predictive(), epochs=1)


def test_the_gradient_through_the_centre_is_stopped() -> None:
    method, batch = built(stop_gradient=True).eval(), views()
    z = projections(method, batch).detach().requires_grad_()
    mean = z.mean(0).detach()
    (expected,) = torch.autograd.grad((mean - z).square().mean(), z)
    method.encoder.forward = lambda images: images.flatten(1)  # type: ignore[method-assign]
    method.projector.forward = lambda rows: z.flatten(0, 1)  # type: ignore[method-assign]
    (stopped,) = torch.autograd.grad(method(batch, 0)["loss"], z)
    torch.testing.assert_close(stopped, expected)


def test_the_teacher_takes_no_gradient_and_follows_the_student() -> None:
    method, batch = built(ema_teacher=0.9), views()
    method(batch, 0)["loss"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    student = [*method.encoder.parameters(), *method.projector.parameters()]
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in student:
            p.add_(1.0)
    assert method.after_step(0, 10) == {"ema": 0.9}
    for old, new, own in zip(before, method.teacher.parameters(), student, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * own)


@pytest.mark.parametrize(
    ("schedule", "momenta"), [("constant", (0.9, 0.9, 0.9)), ("linear", (0.9, 0.95, 1.0)), ("cosine", (0.9, 0.95, 1.0))]
)
def test_the_momentum_follows_its_schedule(schedule: str, momenta: tuple[float, ...]) -> None:
    assert [scheduled(schedule, 0.9, p) for p in (0, 0.5, 1)] == pytest.approx(momenta)
    assert scheduled("cosine", 0.9, 0.25) == pytest.approx(1 - 0.1 * (1 + math.cos(math.pi / 4)) / 2)


def test_the_predictor_stands_in_the_prediction_alone() -> None:
    method, batch = built(predictor=True, variance_covariance=True).eval(), views()
    z = projections(method, batch)
    parts = method(batch, 0)
    predicted = method.predictor(z.flatten(0, 1)).view_as(z)
    torch.testing.assert_close(parts["pred"], (z.mean(0) - predicted).square().mean())
    torch.testing.assert_close(parts["variance"], losses.vicreg_parts(z[0], z[1])["std"])


def test_layer_normalisation_makes_the_loss_a_cosine_of_centred_projections() -> None:
    method, batch = built(normalisation="layer"), views()
    z = projections(method, batch)
    torch.testing.assert_close(z.square().mean(-1), torch.ones(2, 24), atol=1e-3, rtol=0)
    expected = (1 - F.cosine_similarity(z[0], z[1])).mean() / 2
    torch.testing.assert_close(method(batch, 0)["loss"], expected, atol=1e-4, rtol=1e-3)


def test_batch_normalisation_makes_every_dim_of_unit_variance() -> None:
    z = projections(built(normalisation="batch"), views()).flatten(0, 1)
    torch.testing.assert_close(z.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.ones(16), atol=0.02, rtol=0)


def test_whitening_leaves_no_covariance_in_training_and_uses_running_means_in_evaluation() -> None:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(16, 16, generator=draw)
    layer = Whitening(16).train()
    for _ in range(100):
        rows = torch.randn(256, 16, generator=draw) @ mixing + 3
        z = layer(rows)
    torch.testing.assert_close(z.T.cov(), torch.eye(16), atol=0.05, rtol=0)
    torch.testing.assert_close(layer.mean, torch.full((16,), 3.0), atol=1.0, rtol=0)
    layer.eval()
    alone = layer(rows[:1])
    torch.testing.assert_close(alone, layer(rows)[:1])
    torch.testing.assert_close(layer(rows).T.cov(), torch.eye(16), atol=0.6, rtol=0)


def test_whitening_of_what_is_not_finite_is_not_finite_and_does_not_raise() -> None:
    assert Whitening(4).train()(torch.full((8, 4), torch.nan)).isnan().all()


def test_with_layer_normalisation_negatives_are_simclr_but_for_a_factor() -> None:
    method, batch = built(normalisation="layer", negatives=True), views()
    z = projections(method, batch)
    expected = losses.nt_xent(z[0], z[1], temperature=0.5)
    loss = method(batch, 0)["loss"]
    torch.testing.assert_close(loss * 2 / 0.5 - 1 / 0.5, expected, atol=1e-3, rtol=1e-3)


def test_repulsion_is_lowest_where_directions_are_spread() -> None:
    together, spread = torch.ones(8, 8), torch.eye(8)
    assert repulsion(together, temperature=0.5).item() == pytest.approx(math.log(7) + 2)
    assert repulsion(spread, temperature=0.5).item() == pytest.approx(math.log(7))
    assert repulsion(5 * spread, temperature=0.5).item() == pytest.approx(math.log(7))


def test_variance_and_covariance_on_two_views_are_vicreg_but_for_a_factor() -> None:
    method, batch = built(variance_covariance=True), views()
    z = projections(method, batch)
    loss = 100 * method(batch, 0)["loss"]
    assert loss.item() == pytest.approx(losses.vicreg(z[0], z[1]).item(), rel=1e-4)


def test_the_weight_decay_grows_to_what_the_switch_says() -> None:
    made = config(predictive(wd_schedule=0.3), optimizer={"weight_decay": 0.03})
    assert made.optimizer.weight_decay_end == 0.3
    assert config(predictive(wd_schedule=True)).optimizer.weight_decay_end == 0.4
    assert config(predictive(wd_schedule=False)).optimizer.weight_decay_end is None
    assert TrainConfig.model_validate_json(made.model_dump_json()) == made


def test_the_encoder_is_evaluated_with_a_teacher_too() -> None:
    method = built(ema_teacher=True)
    assert method.evaluated is method.encoder


# -- combinations -----------------------------------------------------------------------------------------------------


def test_true_stands_for_the_documented_value_and_false_for_none() -> None:
    on = config(predictive(ema_teacher=True, sigreg=True, negatives=True)).method
    assert on.name == "predictive"
    assert (on.heuristics.ema_teacher, on.heuristics.sigreg, on.heuristics.stop_gradient) == (0.99, 0.05, True)
    assert on.heuristics.negatives is not None
    assert on.heuristics.negatives.model_dump() == {"weight": 0.25, "temperature": 0.5}
    off = dict.fromkeys(("ema_teacher", "sigreg", "negatives", "variance_covariance", "wd_schedule"), False)
    assert config(predictive(**off)) == config(predictive())


@pytest.mark.parametrize(
    ("heuristics", "changes", "says"),
    [
        ({"ema_schedule": "cosine"}, {}, "set ema_teacher, too"),
        ({"ema_teacher": 0.9, "stop_gradient": False}, {}, "takes no gradient"),
        ({"normalisation": "layer", "sigreg": 0.05}, {}, "sigreg asks for unit variance in every direction"),
        ({"normalisation": "layer", "variance_covariance": True}, {}, "variance_covariance asks for unit variance"),
        ({"normalisation": "whitening", "variance_covariance": True}, {}, "leave variance_covariance out"),
        ({"normalisation": "whitening"}, {"batch_size": 4}, "larger batch_size"),
        ({}, {"optimizer": {"weight_decay_end": 0.4}}, "set the switch alone"),
        ({"wd_schedule": 0.1}, {"optimizer": {"weight_decay_end": 0.4}}, "set the switch alone"),
        ({}, {"views": {"global_views": 1, "local_views": 0}}, "global_views to 2"),
        ({"ema_teacher": 1.5}, {}, "less than or equal to 1"),
        ({"negatives": {"temperature": 0}}, {}, "greater than 0"),
        ({"normalization": "batch"}, {}, "not permitted"),
    ],
)
def test_contradictions_are_refused(heuristics: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        config(predictive(**heuristics), **changes)


def test_every_combination_is_built_and_has_a_finite_loss_or_is_refused() -> None:
    batch, refused = views(2, 1), 0
    switches = list(SWITCHES.values())
    for chosen in (c for size in (2, 3) for c in itertools.combinations(switches, size)):
        merged = {key: value for switch in chosen for key, value in switch.items()}
        try:
            options = config(predictive(**merged))
        except ValidationError:
            refused += 1
            continue
        if len(chosen) == 2:
            method = Predictive(options, channels=1).train()
            loss = method(batch, 0)["loss"]
            loss.backward()
            assert loss.isfinite(), merged
            assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in method.parameters()), merged
    assert 0 < refused < 60


def test_what_moves_is_in_the_checkpoint(tmp_path: Path) -> None:
    everything = predictive(
        ema_teacher=True, ema_schedule="cosine", predictor=True, normalisation="whitening", negatives=True,
        sigreg=True, wd_schedule=True,
    )  # fmt: skip
    whole = trained(everything)
    next(iter(Trainer(config(everything), tmp_path)))
    torch.rand(7)
    resumed = Trainer(config(everything), tmp_path)
    assert resumed.load()
    list(resumed)
    assert [r.metrics for r in resumed.reports] == [r.metrics for r in whole.reports]
    for name, value in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name], value), name
