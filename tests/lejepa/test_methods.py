"""The joint-embedding methods: what they learn, where gradients stop, how teachers follow, what is evaluated."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.data import load
from lejepa.methods import build_method
from lejepa.methods.base import Method
from lejepa.methods.byol import Byol
from lejepa.methods.dino import Dino
from lejepa.methods.moco_v3 import MocoV3
from lejepa.methods.simsiam import Simsiam
from lejepa.methods.supervised import Supervised
from lejepa.methods.teacher import Taught
from lejepa.optimizers import build_optimizer, schedule
from lejepa.seeding import sample_keys
from lejepa.trainer import Trainer
from lejepa.views import Multicrop, Views

PAIRS = ["vicreg", "barlow_twins", "simclr", "moco_v3", "byol", "simsiam"]
TAUGHT = ["moco_v3", "byol", "dino"]
METHODS = [*PAIRS, "dino", "supervised"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(name: str, /, **changes: Any) -> TrainConfig:
    parts: dict[str, Any] = {
        "method": {"name": name},
        "encoder": {"name": "small_resnet", "width": 8},
        "projector": {"hidden": 32, "dim": 16},
        "data": {"name": "digits", "size": 8, "limit": 300},
        "views": {"recipe": "digits", "local_views": 1},
        "optimizer": {"lr": 2e-3},
        "probe": {"draws": 3},
        "epochs": 4,
        "batch_size": 64,
    }
    if name == "dino":
        parts["method"] |= {"prototypes": 32, "ema": 0.9}
    for part, value in changes.items():
        parts[part] = parts[part] | value if isinstance(value, dict) else value
    return TrainConfig.model_validate(parts)


def make(name: str, /, **changes: Any) -> Any:
    torch.manual_seed(0)
    return build_method(config(name, **changes), channels=1, classes=10).train()


def views(method: Method, n: int = 12, seed: int = 3) -> Views:
    """Noise, as many views as the method asks for; and labels."""
    asked, generator = method.views(), torch.Generator().manual_seed(seed)
    shapes = [(asked.global_views, n, 1, 8, 8), (asked.local_views, n, 1, 8, 8)]
    method.labels = torch.arange(n) % 10
    return Views(*(torch.randn(shape, generator=generator) for shape in shapes))


def move(module: torch.nn.Module, by: float = 1.0) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


# -- learning ---------------------------------------------------------------------------------------------------------


def losses_on_digits(method: Method, steps: int = 48) -> list[float]:
    """A training without the trainer: the loss at every step."""
    settings = method.config
    data = load(settings.data)
    multicrop = Multicrop(method.views(), settings.data.size, *data.channel_statistics())
    optimizer = build_optimizer(method, settings.optimizer)
    found = []
    for step in range(steps):
        index = torch.arange(64) + 64 * (step % 4)
        method.labels = data.train.labels[index]
        made = multicrop(data.train.images[index], sample_keys(0, step, index))
        loss = method(made, step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        schedule(optimizer, settings.optimizer.lr, 0.0)
        optimizer.step()
        method.after_step(step, steps)
        found.append(loss.item())
    return found


SETTINGS: dict[str, dict[str, Any]] = {  # of the methods that need others than `config` for a loss that falls at once
    "moco_v3": {"method": {"temperature": 0.2}},
    "dino": {"method": {"prototypes": 256, "ema": 0.99}, "projector": {"norm": "batch"}},
}


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls_on_digits(name: str) -> None:
    losses = losses_on_digits(make(name, optimizer={"lr": 4e-3}, **SETTINGS.get(name, {})))
    first, last = sum(losses[:4]) / 4, sum(losses[-4:]) / 4
    assert math.isfinite(last)
    assert last < first - 0.1 * abs(first)


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_a_resumed_training_with_a_teacher_equals_an_uninterrupted_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    settings = config(name, epochs=2, data={"limit": 150}, batch_size=32)
    whole = Trainer(settings)
    list(whole)
    next(iter(Trainer(settings, tmp_path)))
    torch.rand(7)
    resumed = Trainer(settings, tmp_path)
    assert resumed.load()
    list(resumed)
    assert [r.metrics for r in resumed.reports] == [r.metrics for r in whole.reports]
    ours, theirs = resumed.method.state_dict(), whole.method.state_dict()
    assert {"teacher.0.stem.0.weight", *(["center", "teacher_temp"] if name == "dino" else [])} <= ours.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_methods_start_from_the_same_encoder() -> None:
    expected = make("vicreg").encoder.state_dict()
    for name in METHODS:
        other = make(name).encoder.state_dict()
        assert all(torch.equal(other[key], value) for key, value in expected.items()), name


# -- views ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_two_views_are_compared_and_their_order_does_not_matter(name: str) -> None:
    method = make(name, views={"global_views": 3, "local_views": 2})
    pair = views(method)
    assert (pair.globals.shape[0], pair.locals.shape[0]) == (2, 0)
    swapped = Views(pair.globals.flip(0), pair.locals)
    torch.testing.assert_close(method(pair, 0)["loss"], method(swapped, 0)["loss"])


@pytest.mark.parametrize("name", [*PAIRS, "dino"])
def test_one_global_view_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} compares two global views; set views.global_views to 2 or more"):
        config(name, views={"global_views": 1})


def test_the_methods_with_unlike_views_ask_for_them() -> None:
    recipes = {name: TrainConfig.model_validate({"method": {"name": name}}).views.recipe for name in [*PAIRS, "dino"]}
    assert recipes == {
        "vicreg": "digits", "barlow_twins": "byol", "simclr": "simclr", "moco_v3": "byol", "byol": "byol",
        "simsiam": "cifar", "dino": "dino",
    }  # fmt: skip


# -- teachers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAUGHT)
def test_no_gradient_reaches_a_teacher_and_every_other_part_gets_one(name: str) -> None:
    method: Taught = make(name)
    method(views(method), 0)["loss"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    trained = {key for key, p in method.named_parameters() if not key.startswith("teacher.")}
    assert trained == {key for key, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "ahead"), [("byol", 0), ("dino", 0), ("moco_v3", 1)])
def test_the_teacher_follows_with_a_momentum_on_a_cosine_to_one(name: str, ahead: int) -> None:
    method: Taught = make(name)
    start = {"byol": 0.99, "dino": 0.9, "moco_v3": 0.99}[name]
    move(method.encoder)
    weight = method.teacher[0].stem[0].weight
    before = weight.clone()
    for step in (0, 30, 50, 99):
        with torch.no_grad():
            weight.copy_(before)
        momentum = 1 - (1 - start) * (math.cos(math.pi * (step + ahead) / 100) + 1) / 2
        assert method.after_step(step, 100)["ema"] == pytest.approx(momentum, abs=1e-12)
        assert (weight - before).mean().item() == pytest.approx(1 - momentum, abs=1e-5)


@pytest.mark.parametrize("name", TAUGHT)
def test_the_teacher_is_what_is_evaluated_projected_and_seen_by_the_probe(name: str) -> None:
    method: Taught = make(name)
    images = views(method)
    method(images, 0)
    together = method.teacher[0](images.globals.flatten(0, 1))[:12] if name == "dino" else None
    torch.testing.assert_close(method.seen, method.teacher[0](images.globals[0]) if together is None else together)
    assert not method.seen.requires_grad
    method.eval()
    embeddings = method.encode(images.globals[0])
    projections = method.project(embeddings)
    move(method.encoder)
    move(method.projector)
    assert torch.equal(method.encode(images.globals[0]), embeddings)
    assert torch.equal(method.project(embeddings), projections)
    move(method.teacher)
    assert not torch.equal(method.encode(images.globals[0]), embeddings)
    assert not torch.equal(method.project(embeddings), projections)


def test_a_teachers_norms_keep_statistics_of_their_own_and_normalise_by_the_batch_in_training() -> None:
    method: Byol = make("byol")
    online, target = method.encoder.stem[1], method.teacher[0].stem[1]
    move(method.encoder, 0.5)
    method.after_step(0, 10)
    assert torch.equal(target.running_mean, torch.zeros(8))  # no average of the student's
    batch = views(method)
    loss = method(batch, 0)["loss"]
    assert not torch.allclose(target.running_mean, online.running_mean)
    target.running_mean.add_(100)
    torch.testing.assert_close(method(batch, 0)["loss"], loss)


@pytest.mark.parametrize("name", TAUGHT)
def test_the_student_drops_paths_and_its_teacher_none(name: str) -> None:
    method: Taught = make(name, encoder={"name": "small_vit", "width": 64, "depth": 2, "patch": 4, "drop_path": 0.5})
    images = views(method).globals[0]
    assert torch.equal(method.teacher[0](images), method.teacher[0](images))
    assert not torch.equal(method.encoder(images), method.encoder(images))


def test_moco_moves_its_keys_encoder_before_it_gives_keys_and_not_after_the_last_step() -> None:
    method: MocoV3 = make("moco_v3")
    move(method.encoder)
    before = method.teacher[0].stem[0].weight.clone()
    method.after_step(99, 100)
    assert torch.equal(method.teacher[0].stem[0].weight, before)


def test_moco_freezes_a_vits_patch_embedding_where_asked() -> None:
    vit = {"name": "small_vit", "width": 64, "depth": 1, "patch": 4}
    for freeze in (True, False):
        method = make("moco_v3", method={"freeze_patches": freeze}, encoder=vit)
        assert all(p.requires_grad is not freeze for p in method.encoder.patch_embed.parameters())


# -- BYOL, MoCo v3, SimSiam: the loss is that of the parts ------------------------------------------------------------


def test_byol_sums_the_distances_of_predictions_from_the_other_views_targets() -> None:
    method: Byol = make("byol")
    move(method.teacher, 0.02)
    x1, x2 = (pair := views(method)).globals
    total = 0.0
    for online, target in ((x1, x2), (x2, x1)):
        p = F.normalize(method.predictor(method.projector(method.encoder(online))), dim=1)
        z = F.normalize(method.teacher[1](method.teacher[0](target)), dim=1)
        total += (p - z).square().sum(1).mean().item()
    assert method(pair, 0)["loss"].item() == pytest.approx(total, rel=1e-5)


def test_simsiam_halves_both_sides_and_its_projections_have_unit_variance() -> None:
    method: Simsiam = make("simsiam")
    x1, x2 = (pair := views(method)).globals
    z1, z2 = method.projector(method.encoder(x1)), method.projector(method.encoder(x2))
    torch.testing.assert_close(z1.var(0, unbiased=False), torch.ones(16), atol=0.01, rtol=0)
    cosines = [F.cosine_similarity(method.predictor(a), b).mean() for a, b in ((z1, z2), (z2, z1))]
    assert method(pair, 0)["loss"].item() == pytest.approx(-sum(cosine.item() for cosine in cosines) / 2, rel=1e-5)


def test_simsiams_predictor_learns_at_the_peak_rate_and_the_rest_by_the_schedule() -> None:
    for constant, expected in ((True, 2e-3), (False, 5e-4)):
        method: Simsiam = make("simsiam", method={"constant_rate": constant})
        optimizer = build_optimizer(method, method.config.optimizer)
        schedule(optimizer, 5e-4, 0.1)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert {rates[id(p)] for p in method.predictor.parameters()} == {expected}
        assert {rates[id(p)] for p in method.projector.parameters()} == {5e-4}
        decays = {p.ndim > 1: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert decays == {True: 0.1, False: 0.0}


# -- DINO -------------------------------------------------------------------------------------------------------------


def logits(parts: list[torch.nn.Module], images: Tensor) -> Tensor:
    """(V, N, K), the views of one size in one pass, by the definition of the head."""
    encoder, mlp, last = parts
    x = mlp(encoder(images.flatten(0, 1)))
    weight = last.weight / last.weight.norm(dim=1, keepdim=True)
    return ((x / x.norm(dim=1, keepdim=True)) @ weight.T).unflatten(0, images.shape[:2]).detach()


def test_dino_averages_the_cross_entropies_of_all_pairs_of_different_views() -> None:
    method: Dino = make("dino", views={"local_views": 2})
    move(method.teacher[1], 0.05)
    batch = views(method)
    with torch.no_grad():
        method.center.copy_(torch.linspace(-0.1, 0.1, 32))
    center = method.center.clone()
    students = torch.cat([logits(method.student(), v) for v in (batch.globals, batch.locals)])
    p = ((logits(list(method.teacher), batch.globals) - center) / 0.04).softmax(2)
    log_q = (students / 0.1).log_softmax(2)
    pairs = [-(p[i] * log_q[v]).sum(1).mean() for i in range(2) for v in range(4) if i != v]
    assert len(pairs) == 6
    parts = method(batch, 0)
    assert parts["loss"].item() == pytest.approx(float(sum(pairs)) / 6, rel=1e-4)
    assert (parts["entropy"] + parts["kl"]).item() == pytest.approx(parts["loss"].item(), rel=1e-5)
    assert parts["ln_k_gap"].item() == pytest.approx(math.log(32) - parts["loss"].item(), abs=1e-5)


def test_dinos_center_moves_after_its_use_towards_the_mean_of_the_teachers_outputs() -> None:
    method: Dino = make("dino")
    batch = views(method)
    mean = logits(list(method.teacher), batch.globals).mean((0, 1))
    first, second = method(batch, 0)["loss"], None
    torch.testing.assert_close(method.center, 0.1 * mean)
    method.center.zero_()
    second = method(batch, 0)["loss"]
    assert torch.equal(first, second)  # of the center as it was before
    assert not torch.equal(method(batch, 0)["loss"], first)
    torch.testing.assert_close(method.center, 0.19 * mean)


def test_dinos_last_layer_stands_still_in_the_first_epoch() -> None:
    method: Dino = make("dino")
    start = method.prototypes.weight.clone()
    for step in range(6):  # 2 steps in each of 4 epochs
        move(method.prototypes)
        move(method.encoder)
        method.after_step(step, 8)
        assert torch.equal(method.prototypes.weight, start) == (step < 2)
        assert torch.equal(method.teacher[2].weight, start) == (step < 2)


def test_dinos_teacher_warms_up_on_a_line_over_epochs() -> None:
    method: Dino = make("dino", method={"teacher_temp": (0.04, 0.07), "temp_epochs": 3})
    used = []
    for step in range(8):  # 2 steps in each of 4 epochs
        used.append(method.teacher_temp.item())
        assert method.after_step(step, 8)["teacher_temp"] == pytest.approx(used[-1])
    assert used == pytest.approx([0.04, 0.04, 0.055, 0.055, 0.07, 0.07, 0.07, 0.07])


def test_dinos_prototypes_have_no_length() -> None:
    method: Dino = make("dino")
    x = torch.randn(5, 16)
    expected = method.prototypes(x)
    assert expected.abs().max() <= 1
    with torch.no_grad():
        method.prototypes.weight.mul_(torch.rand(32, 1) + 0.5)
    torch.testing.assert_close(method.prototypes(3 * x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert method.prototypes(x).dtype == torch.float32


def test_a_dino_that_is_the_same_for_all_images_is_called_collapsed_and_one_that_learns_is_not() -> None:
    method: Dino = make("dino", method={"center_momentum": 0.0})
    same = views(method, n=1)
    same = Views(same.globals[:1].expand(2, 12, 1, 8, 8), same.locals.expand(-1, 12, 1, 8, 8))
    method.eval()
    method(same, 0)
    at_ln_k = {name: value.item() for name, value in method(same, 1).items()}
    assert at_ln_k["entropy"] == pytest.approx(math.log(32), abs=1e-4)
    assert at_ln_k["information"] == pytest.approx(0, abs=1e-4)
    assert method.collapsed(at_ln_k)
    one_prototype = {"loss": 0.0, "entropy": 0.0, "kl": 0.0, "information": 0.0, "ln_k_gap": math.log(32)}
    assert method.collapsed(one_prototype)
    uniform_student = {"loss": math.log(32), "entropy": 1.0, "kl": 2.4, "information": 2.0, "ln_k_gap": 0.0}
    assert method.collapsed(uniform_student)
    healthy = {"loss": 2.0, "entropy": 1.2, "kl": 0.8, "information": 1.5, "ln_k_gap": 1.4}
    assert not method.collapsed(healthy)


# -- the ceiling ------------------------------------------------------------------------------------------------------


def test_supervised_is_the_cross_entropy_of_every_global_view_on_its_labels() -> None:
    method: Supervised = make("supervised", views={"global_views": 3})
    batch = views(method)
    assert batch.locals.shape[0] == 0
    loss = method(batch, 0)["loss"].item()
    scores = method.project(method.encoder(batch.globals.flatten(0, 1))).unflatten(0, (3, 12))
    assert scores.shape == (3, 12, 10)
    log_p = scores.log_softmax(2)
    expected = -sum(log_p[v, i, method.labels[i]].item() for v in range(3) for i in range(12)) / 36
    assert loss == pytest.approx(expected, rel=1e-5)


def test_supervised_without_a_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the number of classes, 2 or more, not 0"):
        build_method(config("supervised"), channels=1)


# -- heads ------------------------------------------------------------------------------------------------------------


def test_simclrs_projections_have_no_mean_whatever_their_scale() -> None:
    method = make("simclr")
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1.0)
    batch = views(method)
    before = method.project(method.encoder(batch.globals[0])).std(0)
    method(batch, 0)["loss"].backward()
    optimizer.step()
    after = method.project(method.encoder(batch.globals[0]))
    torch.testing.assert_close(after.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    assert not torch.allclose(after.std(0), before, atol=1e-3)


@pytest.mark.parametrize("name", ["vicreg", "barlow_twins", "byol", "moco_v3", "simclr", "simsiam"])
def test_no_projection_has_a_bias(name: str) -> None:
    projector = make(name).projector
    last = [module for module in projector.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert torch.equal(last(torch.zeros(1, 32)), torch.zeros(1, 16))
