"""data2vec and MAE keep the invariants of their references: masks, targets, losses, teacher, what is evaluated."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from lejepa.config import TrainConfig
from lejepa.masks import blockwise, mask_generator, random_patches
from lejepa.methods import build_method
from lejepa.methods.data2vec import Data2vec
from lejepa.methods.mae import Mae, pixels
from lejepa.trainer import Trainer
from lejepa.views import Views

ENCODER = {"name": "small_vit", "width": 64, "depth": 2, "patch": 2}
MAE = {"name": "mae", "decoder_width": 32, "decoder_depth": 1}
TINY: dict[str, dict[str, Any]] = {"data2vec": {"name": "data2vec"}, "mae": MAE}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(method: dict[str, Any], **changes: Any) -> TrainConfig:
    base = {"method": method, "encoder": ENCODER, "data": {"name": "digits", "size": 16, "limit": 200}}
    return TrainConfig.model_validate(base | {"batch_size": 32, "probe": {"draws": 2, "every": 9}} | changes)


def data2vec(**changes: Any) -> Data2vec:
    torch.manual_seed(0)
    return Data2vec(config({"name": "data2vec"} | changes), channels=1)


def mae(**changes: Any) -> Mae:
    torch.manual_seed(0)
    return Mae(config(MAE | changes), channels=1)


def views(batch: int = 6) -> Views:
    images = torch.randn(1, batch, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    return Views(images, images[:0])


# -- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_the_loss_falls_on_digits(name: str) -> None:
    encoder = ENCODER | {"patch": 4}
    reports = list(Trainer(config(TINY[name], encoder=encoder, epochs=6, optimizer={"lr": 3e-3})))
    losses = [report.metrics["train/loss"] for report in reports]
    assert losses[-1] < 0.8 * losses[0]
    assert reports[-1].metrics["diag/collapsed"] == 0


@pytest.mark.parametrize("name", TINY)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    encoder = ENCODER | {"patch": 4, "drop_path": 0.2}
    short = config(TINY[name], encoder=encoder, epochs=2)
    whole = Trainer(short)
    list(whole)
    next(iter(Trainer(short, tmp_path)))
    torch.rand(7)
    resumed = Trainer(short, tmp_path)
    assert resumed.load()
    list(resumed)
    assert [r.metrics for r in resumed.reports] == [r.metrics for r in whole.reports]
    for key, value in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[key], value), key


@pytest.mark.parametrize("name", TINY)
def test_it_looks_at_one_view_and_starts_from_the_encoder_of_all_methods(name: str) -> None:
    torch.manual_seed(0)
    method = build_method(config(TINY[name]), channels=1)
    torch.manual_seed(0)
    other = build_method(config({"name": "lejepa"}), channels=1)
    assert (method.views().global_views, method.views().local_views) == (1, 0)
    for key, value in other.encoder.state_dict().items():
        assert torch.equal(method.encoder.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": {"name": "data2vec"}, "encoder": {"name": "vit_tiny_patch16_224"}}, "needs the encoder small_vit"),
        ({"method": MAE, "encoder": {"name": "small_resnet"}}, "needs the encoder small_vit"),
        ({"method": MAE, "encoder": ENCODER | {"dim": 32}}, "leave encoder.dim out"),
        ({"method": MAE, "encoder": ENCODER | {"patch": 16}}, "take a smaller encoder.patch"),
        ({"method": {"name": "data2vec", "layers": 3}, "encoder": ENCODER}, "the encoder has 2"),
        ({"method": MAE | {"masked": 0.99}, "encoder": ENCODER}, "leaves none of 64 patches"),
    ],
)
def test_an_encoder_that_cannot_be_masked_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TrainConfig.model_validate({"data": {"name": "digits", "size": 16}} | changes)


@pytest.mark.parametrize(("world", "name"), [(2, "data2vec"), (2, "mae")])
def test_the_mean_of_the_ranks_losses_is_the_loss_of_the_global_batch(
    world: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    method, batch = build_method(config(TINY[name]), channels=1), views(8)
    alone = method(batch, 3)["loss"].item()
    parts = []
    for rank in range(world):
        monkeypatch.setattr("lejepa.ranks.world_size", lambda: world)
        monkeypatch.setattr("lejepa.ranks.rank", lambda rank=rank: rank)
        mine = Views(batch.globals.chunk(world, 1)[rank], batch.locals.chunk(world, 1)[rank])
        parts.append(method(mine, 3)["loss"].item())
    assert parts[0] != parts[1]
    assert sum(parts) / world == pytest.approx(alone, rel=1e-5)


# -- data2vec ---------------------------------------------------------------------------------------------------------


def test_data2vec_targets_are_the_mean_of_the_last_blocks_normalised_before_and_after() -> None:
    method, images = data2vec(layers=2), views().globals[0]
    method.eval()
    x = method.teacher._pos_embed(method.teacher.patch_embed(images))
    total = torch.zeros(())
    for block in method.teacher.blocks:
        x = block(x)
        total = total + (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    mean = total / 2
    expected = (mean - mean.mean(-1, keepdim=True)) / (mean.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(method.targets(images), expected)


def test_data2vec_averages_half_of_a_shallow_encoder_and_six_blocks_of_a_deep_one() -> None:
    assert data2vec().averaged == 1
    deep = config({"name": "data2vec"}, encoder=ENCODER | {"depth": 13})
    assert Data2vec(deep, channels=1).averaged == 6


def test_data2vec_is_smooth_l1_on_the_masked_patches_alone() -> None:
    method, batch = data2vec(), views()
    images = batch.globals[0]
    masked = blockwise(method.options, 6, 8, mask_generator(0, 7))
    predicted, wanted = method.predictor(method.see(images, masked)), method.targets(images)
    values = []
    for i, patch in masked.nonzero().tolist():
        d = (predicted[i, patch] - wanted[i, patch]).abs()
        values.append(torch.where(d < 2, d**2 / 4, d - 1).mean())
    assert method(batch, 7)["loss"].item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-5)


def test_the_student_sees_nothing_of_the_masked_patches_and_the_teacher_all() -> None:
    method, image = data2vec(), views(1).globals[0]
    masked = torch.zeros(1, 8, 8, dtype=torch.bool)
    masked[:, 2:7, 2:7] = True
    changed = image.clone()
    changed[..., 4:14, 4:14] += 5
    masked = masked.flatten(1)
    torch.testing.assert_close(method.see(image, masked), method.see(changed, masked))
    assert not torch.allclose(method.targets(image)[:, 0], method.targets(changed)[:, 0])


def test_where_nothing_is_masked_the_student_is_the_encoder() -> None:
    method, images = data2vec(), views().globals[0]
    nothing = torch.zeros(6, 64, dtype=torch.bool)
    torch.testing.assert_close(method.see(images, nothing), method.encoder.tokens(images))


def test_no_gradient_reaches_the_teacher_and_the_mask_token_learns() -> None:
    method = data2vec()
    method(views(), step=0)["loss"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert method.mask_token.grad is not None
    assert method.mask_token.grad.abs().sum() > 0
    assert method.predictor.weight.grad is not None


def test_the_teacher_drops_no_paths_while_the_student_does() -> None:
    method = Data2vec(config({"name": "data2vec"}, encoder=ENCODER | {"drop_path": 0.9}), channels=1).train()
    images = views(32).globals[0]
    nothing = torch.zeros(32, 64, dtype=torch.bool)
    assert torch.equal(method.targets(images), method.targets(images))
    assert not torch.equal(method.see(images, nothing), method.see(images, nothing))


def test_the_teacher_follows_from_0_999_to_0_9998_and_is_evaluated() -> None:
    method, images = data2vec(), views().globals[0]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    name = "blocks.0.attn.qkv.weight"
    before = method.teacher.get_parameter(name).clone()
    for step, momentum in ((0, 0.999), (50, 0.9994), (100, 0.9998)):
        with torch.no_grad():
            method.teacher.get_parameter(name).copy_(before)
        assert method.after_step(step, 100)["ema"] == pytest.approx(momentum)
        moved = (method.teacher.get_parameter(name) - before).mean().item()
        assert moved == pytest.approx(1 - momentum, abs=1e-6), step
    torch.testing.assert_close(method.encode(images), method.teacher.forward_features(images).mean(1))
    assert not torch.allclose(method.encode(images), method.encoder(images))


# -- MAE --------------------------------------------------------------------------------------------------------------


def test_pixels_are_the_patches_row_by_row_and_normalised_each_by_itself() -> None:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, normal = (pixels(images, 4, normalize=n) for n in (False, True))
    assert plain.shape == normal.shape == (2, 4, 48)
    corner = images[1, :, 0:4, 4:8]  # row 0, column 1
    assert torch.equal(plain[1, 1], corner.flatten())
    expected = (corner - corner.mean()) / (corner.var() + 1e-6).sqrt()
    torch.testing.assert_close(normal[1, 1], expected.flatten())


@pytest.mark.parametrize("normalize", [True, False])
def test_mae_is_the_mean_square_on_the_masked_patches_alone(normalize: bool) -> None:
    method, batch = mae(normalize=normalize), views()
    images = batch.globals[0]
    kept, masked = random_patches(0.75, 6, 8, mask_generator(0, 7))
    assert kept.shape[1] == 16
    predicted = method.decoder(method.encoder.tokens(images, kept), kept, masked)
    wanted = pixels(images, 2, normalize=normalize)
    total = torch.stack([(predicted[i] - wanted[i, masked[i]]).square().mean() for i in range(6)]).sum()
    assert method(batch, 7)["loss"].item() == pytest.approx(total.item() / 6, rel=1e-5)


def test_the_order_in_which_masked_patches_are_asked_for_does_not_matter() -> None:
    method, images = mae().eval(), views().globals[0]
    kept, masked = random_patches(0.75, 6, 8, mask_generator(0, 7))
    tokens = method.encoder.tokens(images, kept)
    forwards, backwards = method.decoder(tokens, kept, masked), method.decoder(tokens, kept, masked.flip(1))
    torch.testing.assert_close(forwards, backwards.flip(1), atol=1e-5, rtol=1e-4)


def test_mae_evaluates_the_encoder_on_all_patches() -> None:
    method, images = mae(), views().globals[0]
    torch.testing.assert_close(method.encode(images), method.encoder.forward_features(images).mean(1))
    assert method.evaluated is method.encoder


def test_a_decoder_that_knew_the_pixels_would_have_no_loss() -> None:
    method, batch = mae(), views()
    wanted = pixels(batch.globals[0], 2, normalize=True)
    method.decoder.forward = lambda tokens, kept, masked: wanted[torch.arange(6).unsqueeze(1), masked]  # type: ignore
    assert method(batch, 7)["loss"].item() == 0
    assert F.mse_loss(wanted, torch.zeros_like(wanted)).item() == pytest.approx(0.75, rel=1e-2)  # of 4 pixels, 3/4


def test_their_defaults_are_the_references() -> None:
    ours = config({"name": "data2vec"})
    assert (ours.views.global_scale, ours.views.flip, ours.views.hue) == ((0.08, 1.0), 0.5, 0.0)
    assert (ours.optimizer.weight_decay, ours.optimizer.clip) == (0.05, 3.0)
    ours = config({"name": "mae"})
    assert (ours.views.global_scale, ours.views.flip, ours.views.jitter) == ((0.2, 1.0), 0.5, 0.0)
    assert (ours.optimizer.weight_decay, ours.optimizer.betas) == (0.05, (0.9, 0.95))
