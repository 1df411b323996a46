"""Views: each image draws for itself, equal seeds give equal views, and the maps are what they say."""

import math

import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop

from lejepa.config import ViewsConfig
from lejepa.seeding import sample_keys
from lejepa.views import Multicrop, Views, _Draws, _hue_rotation, _separable_blur, crop, crop_boxes


def make(recipe: str = "paper", channels: int = 3, size: int = 32, **changes: object) -> Multicrop:
    config = ViewsConfig.model_validate({"recipe": recipe, "local_size": size // 2, **changes})
    return Multicrop(config, size, torch.full((channels,), 0.5), torch.full((channels,), 0.25))


def images(n: int = 8, channels: int = 3, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(seed)).byte()


def views_of(multicrop: Multicrop, batch: torch.Tensor, seed: int = 1) -> Views:
    return multicrop(batch, sample_keys(seed, 0, torch.arange(len(batch))))


@pytest.mark.parametrize(("recipe", "channels"), [("paper", 3), ("crop", 3), ("digits", 1), ("paper", 1)])
def test_views_have_their_shapes_and_are_finite(recipe: str, channels: int) -> None:
    views = views_of(make(recipe, channels, global_views=2, local_views=3), images(channels=channels))
    assert views.globals.shape == (2, 8, channels, 32, 32)
    assert views.locals.shape == (3, 8, channels, 16, 16)
    assert views.globals.isfinite().all()
    assert views.locals.isfinite().all()


def test_without_local_views_there_are_none() -> None:
    assert views_of(make(local_views=0), images()).locals.shape[0] == 0


def test_equal_seeds_give_equal_views_and_others_do_not() -> None:
    multicrop = make()
    first, again, other = (views_of(multicrop, images(), seed) for seed in (1, 1, 2))
    assert torch.equal(first.globals, again.globals)
    assert torch.equal(first.locals, again.locals)
    assert not torch.equal(first.globals, other.globals)


def test_a_view_does_not_depend_on_the_batch_around_it() -> None:
    multicrop, batch, keys = make(), images(), sample_keys(3, 1, torch.arange(8))
    whole, order = multicrop(batch, keys), torch.tensor([5, 2, 7])
    part = multicrop(batch[order], keys[order])
    torch.testing.assert_close(part.globals, whole.globals[:, order])
    torch.testing.assert_close(part.locals, whole.locals[:, order])


def test_every_image_and_every_view_draws_its_own_parameters() -> None:
    same = images(1).repeat(16, 1, 1, 1)
    flat = views_of(make(), same).globals.flatten(0, 1).flatten(1)
    assert torch.pdist(flat).min() > 0


def test_with_everything_off_the_view_is_the_normalised_image() -> None:
    multicrop = make("crop", global_scale=[1, 1], ratio=[1, 1], local_views=0)
    views = views_of(multicrop, images())
    torch.testing.assert_close(views.globals[0], multicrop.normalize(images()), atol=1e-5, rtol=1e-4)


def test_a_sure_flip_mirrors_the_image() -> None:
    multicrop = make("crop", global_scale=[1, 1], ratio=[1, 1], flip=1.0, local_views=0)
    mirrored = multicrop.normalize(images()).flip(-1)
    torch.testing.assert_close(views_of(multicrop, images()).globals[0], mirrored, atol=1e-5, rtol=1e-4)


def test_crop_boxes_follow_the_distribution_of_torchvision() -> None:
    n, scale, ratio = 4000, (0.3, 1.0), (3 / 4, 4 / 3)
    boxes = crop_boxes(_Draws(sample_keys(0, 0, torch.arange(n)), range(1)), scale, ratio, 0.0, 0.0)
    ours_area = boxes[:, 0, 0] * boxes[:, 1, 1]
    torch.manual_seed(0)
    picture = torch.zeros(3, 320, 320)
    theirs = [RandomResizedCrop.make_params(RandomResizedCrop(32, scale, ratio), [picture]) for _ in range(n)]
    theirs_area = torch.tensor([p["height"] * p["width"] / 320**2 for p in theirs])
    assert ours_area.mean().item() == pytest.approx(theirs_area.mean().item(), abs=0.02)
    assert ours_area.std().item() == pytest.approx(theirs_area.std().item(), abs=0.02)
    centres = torch.tensor([(p["left"] + p["width"] / 2) / 160 - 1 for p in theirs])
    assert boxes[:, 0, 2].std().item() == pytest.approx(centres.std().item(), abs=0.02)
    assert (boxes[:, 0, 2].abs() + boxes[:, 0, 0] <= 1 + 1e-6).all()  # inside the image


def test_a_crop_of_a_quarter_shows_that_quarter() -> None:
    ramp = torch.arange(8.0).repeat(8, 1).view(1, 1, 8, 8)
    left_half = torch.tensor([[[0.5, 0, -0.5], [0, 1.0, 0]]])
    expected = torch.tensor([-0.25, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25]).clamp(min=0)
    torch.testing.assert_close(crop(ramp, 8, left_half)[0, 0, 3], expected)


def test_grey_pixels_stay_grey_under_every_hue() -> None:
    rotations = _hue_rotation(torch.linspace(-0.5, 0.5, 7))
    grey = torch.ones(3, 1)
    torch.testing.assert_close(rotations @ grey, grey.expand(7, 3, 1), atol=1e-2, rtol=0)
    torch.testing.assert_close(rotations[3], torch.eye(3), atol=1e-5, rtol=0)


def test_sure_grey_makes_all_channels_equal() -> None:
    views = views_of(make("crop", grey=1.0), images())
    torch.testing.assert_close(views.globals[:, :, 0], views.globals[:, :, 2], atol=1e-5, rtol=0)


def test_blur_keeps_flat_images_and_the_identity_kernel_keeps_all() -> None:
    kernel = torch.softmax(-torch.arange(-1.0, 2.0).square().repeat(2, 1) / 2, dim=1)
    flat = torch.full((2, 3, 8, 8), 0.3)
    torch.testing.assert_close(_separable_blur(flat, kernel, 1), flat)
    noise = torch.rand(2, 3, 8, 8)
    identity = torch.tensor([[0.0, 1.0, 0.0]] * 2)
    torch.testing.assert_close(_separable_blur(noise, identity, 1), noise)
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[..., 2, 2] = 1
    torch.testing.assert_close(
        _separable_blur(impulse, kernel[:1], 1)[0, 0, 1:4, 1:4], torch.outer(kernel[0], kernel[0])
    )


def test_sure_solarisation_inverts_the_upper_half() -> None:
    multicrop = make("crop", global_scale=[1, 1], ratio=[1, 1], solarize=1.0, local_views=0)
    pixels = (views_of(multicrop, images()).globals[0] * 0.25 + 0.5).clamp(0, 1)
    original = images().float() / 255
    expected = torch.where(original >= 128 / 255, 1 - original, original)
    # resampling moves values by rounding, so pixels within 1e-4 of the threshold may fall on either side
    certain = (original - 128 / 255).abs() > 1e-4
    torch.testing.assert_close(pixels[certain], expected[certain], atol=1e-4, rtol=0)


def test_cutout_erases_between_a_sixteenth_and_a_quarter() -> None:
    multicrop = make("crop", global_scale=[1, 1], ratio=[1, 1], cutout=1.0, local_views=0)
    erased = (views_of(multicrop, images(64)).globals[0] == 0).all(1).float().mean((1, 2))
    assert (erased > (7 / 32) ** 2).all()
    assert (erased < (17 / 32) ** 2).all()


def test_rotation_turns_by_at_most_what_it_says() -> None:
    draw = _Draws(sample_keys(0, 0, torch.arange(500)), range(1))
    boxes = crop_boxes(draw, (1.0, 1.0), (1.0, 1.0), 0.0, 30.0)
    angles = torch.atan2(boxes[:, 1, 0], boxes[:, 0, 0]) * 180 / math.pi
    assert 25 < angles.abs().max() <= 30
