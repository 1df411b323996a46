"""I-JEPA keeps the invariants of its reference: masks, teacher, targets, predictor, what is evaluated."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lejepa.config import TrainConfig
from lejepa.masked_config import IjepaConfig
from lejepa.masks import multiblock
from lejepa.methods import build_method
from lejepa.methods.ijepa import Ijepa
from lejepa.seeding import generator
from lejepa.views import Views
from lejepa.vit import pick, sincos_positions


def make(**method: Any) -> Ijepa:
    config = TrainConfig.model_validate(
        {
            "method": {"name": "ijepa", "predictor_width": 32, "predictor_depth": 1} | method,
            "encoder": {"name": "small_vit", "width": 64, "depth": 2, "patch": 2},
            "data": {"name": "digits", "size": 16},
        }
    )
    torch.manual_seed(0)
    return Ijepa(config, channels=1)


def views(batch: int = 6) -> Views:
    images = torch.randn(1, batch, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    return Views(images, images[:0])


@pytest.mark.parametrize(("grid", "batch"), [(14, 64), (8, 64), (16, 3)])
def test_masks_keep_the_invariants_of_the_reference(grid: int, batch: int) -> None:
    options = IjepaConfig()
    for seed in range(20):
        masks = multiblock(options, batch, grid, generator(seed))
        assert masks.targets.shape[:2] == (4, batch)
        assert masks.context.shape[0] == batch
        for block in masks.targets:
            for patches in block:  # a full rectangle of the same size in every image of the batch
                rows, columns = patches // grid, patches % grid
                height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
                assert height * width == masks.targets.shape[2] == patches.unique().numel()
                assert height < grid
                assert width < grid
        assert (masks.context.diff(dim=1) > 0).all()
        assert masks.context.shape[1] >= options.min_keep
        for i in range(batch):
            assert not set(masks.context[i].tolist()) & set(masks.targets[:, i].flatten().tolist())


def test_block_areas_and_aspects_are_those_of_the_config() -> None:
    areas, aspects = [], []
    for seed in range(200):
        patches = multiblock(IjepaConfig(), 1, 32, generator(seed)).targets[0, 0]
        rows, columns = patches // 32, patches % 32
        areas.append(len(patches) / 32**2)
        aspects.append((int(rows.max() - rows.min()) + 1) / (int(columns.max() - columns.min()) + 1))
    assert 0.13 < min(areas) < 0.155
    assert 0.195 < max(areas) < 0.215
    assert 0.65 < min(aspects) < 0.85
    assert 1.35 < max(aspects) < 1.7


def test_positions_differ_between_images_and_masks_repeat_with_the_seed() -> None:
    first, again, other = (multiblock(IjepaConfig(), 32, 14, generator(s)) for s in (1, 1, 2))
    assert len({tuple(t.tolist()) for t in first.targets[0]}) > 16
    assert torch.equal(first.context, again.context)
    assert torch.equal(first.targets, again.targets)
    assert first.targets.shape != other.targets.shape or not torch.equal(first.targets, other.targets)


def test_every_patch_can_be_a_target_and_a_context() -> None:
    seen_context, seen_target = torch.zeros(64), torch.zeros(64)
    for seed in range(50):
        masks = multiblock(IjepaConfig(), 64, 8, generator(seed))
        seen_context[masks.context.flatten()] += 1
        seen_target[masks.targets.flatten()] += 1
    assert (seen_target > 0).all()
    assert (seen_context > 0).all()


def test_where_targets_leave_too_little_context_they_are_let_in() -> None:
    crowded = IjepaConfig(targets=12, target_scale=(0.5, 0.6), context_scale=(0.3, 0.3), min_keep=10)
    masks = multiblock(crowded, 16, 8, generator(0))
    assert masks.context.shape[1] >= 10


def test_the_loss_is_smooth_l1_to_the_normalised_teacher_block_by_block() -> None:
    method, batch = make(), views()
    images = batch.globals[0]
    loss = method(batch, step=7)["loss"]
    masks = multiblock(method.options, 6, 8, generator(0, 3, 7))
    teacher = F.layer_norm(method.target.forward_features(images), (64,))
    total = 0.0
    for block in masks.targets:
        for i in range(6):
            one = images[i : i + 1]
            context = method.encoder.tokens(one, keep=masks.context[i : i + 1])
            predicted = method.predictor(context, masks.context[i : i + 1], block[i : i + 1])[0]
            d = (predicted - teacher[i, block[i]]).abs().detach()
            total += float(torch.where(d < 1, d**2 / 2, d - 0.5).mean())
    assert loss.item() == pytest.approx(total / (4 * 6), rel=1e-4)


def test_the_context_encoder_does_not_see_what_is_masked() -> None:
    method, image = make(), views(1).globals[0]
    keep = torch.tensor([[0, 1, 9, 63]])
    changed = image.clone()
    changed[..., 4:14, 4:14] += 5  # patches 0, 1, 9 and 63 lie outside
    torch.testing.assert_close(method.encoder.tokens(image, keep), method.encoder.tokens(changed, keep))
    assert not torch.allclose(method.encoder.tokens(image), method.encoder.tokens(changed))


def test_no_gradient_reaches_the_target_encoder() -> None:
    method = make()
    method(views(), step=0)["loss"].backward()
    assert all(p.grad is None for p in method.target.parameters())
    trained = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(n.startswith("encoder.blocks") for n in trained)
    assert any(n.startswith("predictor.blocks") for n in trained)
    assert "predictor.mask_token" in trained


def test_the_teacher_follows_with_a_momentum_that_grows_linearly_to_one() -> None:
    method = make()
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    name = "blocks.0.attn.qkv.weight"
    before = method.target.get_parameter(name).clone()
    for step, momentum in ((0, 0.996), (50, 0.998), (100, 1.0)):
        with torch.no_grad():
            method.target.get_parameter(name).copy_(before)
        method.after_step(step, 100)
        moved = (method.target.get_parameter(name) - before).mean().item()
        assert moved == pytest.approx(1 - momentum, abs=1e-5), step


def test_the_target_encoder_drops_no_paths_while_the_context_encoder_does() -> None:
    config = make().config
    config = config.model_copy(update={"encoder": config.encoder.model_copy(update={"drop_path": 0.9})})
    method, images = Ijepa(config, channels=1).train(), views(32).globals[0]
    assert torch.equal(method.target(images), method.target(images))
    assert not torch.equal(method.encoder(images), method.encoder(images))


def test_the_target_encoder_is_what_is_evaluated() -> None:
    method, images = make(), views().globals[0]
    with torch.no_grad():
        for p in method.target.parameters():
            p.mul_(1.1)
    expected = method.target.forward_features(images).mean(1)
    torch.testing.assert_close(method.encode(images), expected)
    assert not torch.allclose(method.encode(images), method.encoder(images))


def test_methods_start_from_the_same_encoder() -> None:
    ijepa = make()
    config = TrainConfig(encoder=ijepa.config.encoder, data=ijepa.config.data)
    torch.manual_seed(0)
    other = build_method(config, channels=1)
    for name, value in ijepa.encoder.state_dict().items():
        assert torch.equal(value, other.encoder.state_dict()[name]), name


def test_positions_are_sines_and_cosines_of_row_and_column() -> None:
    positions = sincos_positions(5, 16)
    assert positions.shape == (25, 16)
    column, row, rate = 3, 2, 10_000 ** (-1 / 4)
    expected = torch.tensor([column * rate, row * rate]).sin()
    torch.testing.assert_close(positions[row * 5 + column, [1, 9]], expected)
    assert positions.unique(dim=0).shape == (25, 16)


def test_pick_takes_the_numbered_tokens_of_each_image() -> None:
    tokens = torch.arange(2 * 4 * 3).view(2, 4, 3)
    picked = pick(tokens, torch.tensor([[3, 0], [1, 1]]))
    assert torch.equal(picked, torch.stack([tokens[0, [3, 0]], tokens[1, [1, 1]]]))


def test_its_defaults_are_the_references() -> None:
    config = make().config
    assert config.views.recipe == "crop"
    assert (config.views.flip, config.views.jitter, config.views.global_scale) == (0.0, 0.0, (0.3, 1.0))
    assert (config.optimizer.weight_decay, config.optimizer.weight_decay_end) == (0.04, 0.4)
    assert make().views().global_views == 1
