"""Views: each image draws for itself, by seed, epoch, index and view alone, and the operations do what they say."""

from typing import get_args

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from pydantic import ValidationError
from torch import Tensor

from lejepa.config import ViewsConfig
from lejepa.draws import Ask, Draws
from lejepa.seeding import sample_keys
from lejepa.view_config import VIEW_RECIPES
from lejepa.views import Multicrop, Views

STILL = {"global_scale": [1, 1], "ratio": [1, 1], "local_views": 0}  # the crop is the whole image


def make(recipe: str = "paper", channels: int = 3, size: int = 32, **changes: object) -> Multicrop:
    config = ViewsConfig.model_validate({"recipe": recipe, "local_size": size // 2, **changes})
    return Multicrop(config, size, torch.full((channels,), 0.5), torch.full((channels,), 0.25))


def images(n: int = 8, channels: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, channels, size, size), generator=torch.Generator().manual_seed(seed)).byte()


def views_of(multicrop: Multicrop, batch: Tensor, seed: int = 1, epoch: int = 0) -> Views:
    return multicrop(batch, sample_keys(seed, epoch, torch.arange(len(batch))))


def pixels_of(multicrop: Multicrop, batch: Tensor) -> Tensor:
    """(V, N, C, S, S) on [0, 1]: the global views before normalisation."""
    return views_of(multicrop, batch).globals * 0.25 + 0.5


def whole(batch: Tensor) -> Tensor:
    return batch.float() / 255


@pytest.mark.parametrize("recipe", VIEW_RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_views_have_their_shapes_and_the_range_of_pixels(recipe: str, channels: int) -> None:
    views = views_of(make(recipe, channels, global_views=3, local_views=2), images(channels=channels))
    assert views.globals.shape == (3, 8, channels, 32, 32)
    assert views.locals.shape == (2, 8, channels, 16, 16)
    for x in (views.globals, views.locals):
        assert x.is_contiguous()
        assert x.min() >= -2 - 1e-5
        assert x.max() <= 2 + 1e-5


def test_without_local_views_there_are_none() -> None:
    assert views_of(make(local_views=0), images()).locals.shape == (0, 8, 3, 16, 16)


def test_equal_seeds_and_epochs_give_equal_views_and_others_do_not() -> None:
    multicrop = make()
    first, again = views_of(multicrop, images()), views_of(multicrop, images())
    assert torch.equal(first.globals, again.globals)
    assert torch.equal(first.locals, again.locals)
    for other in (views_of(multicrop, images(), seed=2), views_of(multicrop, images(), epoch=1)):
        assert not torch.equal(first.globals, other.globals)


@pytest.mark.parametrize("recipe", VIEW_RECIPES)
def test_a_view_does_not_depend_on_the_batch_around_it(recipe: str) -> None:
    multicrop, batch, keys = make(recipe, local_views=3), images(), sample_keys(3, 1, torch.arange(8))
    all_views, order = multicrop(batch, keys), torch.tensor([5, 2, 7])
    some = multicrop(batch[order], keys[order])
    # matrix products of other shapes may round otherwise
    torch.testing.assert_close(some.globals, all_views.globals[:, order], atol=1e-5, rtol=0)
    torch.testing.assert_close(some.locals, all_views.locals[:, order], atol=1e-5, rtol=0)


def test_a_view_does_not_depend_on_how_many_views_there_are() -> None:
    few, many = views_of(make(global_views=1, local_views=1), images()), views_of(make(local_views=4), images())
    torch.testing.assert_close(few.globals[0], many.globals[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(few.locals[0], many.locals[0], atol=1e-5, rtol=0)


def test_an_operation_that_is_off_changes_nothing_of_the_others() -> None:
    crops = views_of(make("crop"), images())
    solarized = pixels_of(make("crop", solarize=1.0), images())
    before = crops.globals * 0.25 + 0.5
    torch.testing.assert_close(solarized, torch.minimum(before, 1 - before), atol=1e-5, rtol=0)


def test_every_image_and_every_view_draws_its_own_parameters() -> None:
    views = views_of(make(local_size=32, local_scale=[0.3, 1]), images(1).repeat(16, 1, 1, 1))
    flat = torch.cat([views.globals, views.locals]).flatten(0, 1).flatten(1)
    assert torch.pdist(flat).min() > 0


def test_with_everything_off_the_view_is_the_normalised_image() -> None:
    multicrop = make("crop", **STILL)
    expected = multicrop.normalize(images())
    torch.testing.assert_close(views_of(multicrop, images()).globals[0], expected, atol=1e-5, rtol=0)


def test_images_stored_larger_than_the_views_are_resized_with_antialiasing() -> None:
    multicrop, batch = make("crop", **STILL), images(size=48)
    expected = TF.resize(whole(batch), [32, 32], antialias=True)
    torch.testing.assert_close(pixels_of(multicrop, batch)[0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(multicrop.normalize(batch) * 0.25 + 0.5, expected, atol=1e-5, rtol=0)


def test_a_large_crop_on_a_small_view_does_not_alias() -> None:
    stripes = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 255  # finer than a view of half the side can show: it must be grey
    multicrop = make("crop", size=16, **STILL)
    inner = pixels_of(multicrop, stripes)[..., 1:-1]
    assert (inner - 0.5).abs().max() < 0.13


def test_a_sure_flip_mirrors_the_image() -> None:
    torch.testing.assert_close(
        pixels_of(make("crop", flip=1.0, **STILL), images())[0], whole(images()).flip(-1), atol=1e-5, rtol=0
    )


def test_sure_grey_makes_all_channels_equal() -> None:
    views = views_of(make("crop", grey=1.0), images())
    torch.testing.assert_close(views.globals[:, :, 0], views.globals[:, :, 2], atol=1e-5, rtol=0)


def test_sure_solarisation_equals_torchvisions_on_bytes() -> None:
    bytes_ = pixels_of(make("crop", solarize=1.0, **STILL), images())[0] * 255
    torch.testing.assert_close(bytes_, TF.solarize(images(), 128).float(), atol=1e-2, rtol=0)


def test_three_probabilities_are_of_the_first_the_other_and_the_local_views() -> None:
    same = {"global_scale": [1, 1], "local_scale": [1, 1], "ratio": [1, 1], "local_size": 32}
    multicrop = make("crop", solarize=[0, 1, 0], global_views=3, **same)
    views = views_of(multicrop, images())
    original = whole(images())
    inverted = torch.minimum(original, 1 - original)
    for view, expected in zip(views.globals, [original, inverted, inverted], strict=True):
        torch.testing.assert_close(view * 0.25 + 0.5, expected, atol=1e-5, rtol=0)
    for view in views.locals:
        torch.testing.assert_close(view * 0.25 + 0.5, original, atol=1e-5, rtol=0)
    blurred = pixels_of(make("crop", blur=[1, 0, 0], **same), images())
    assert not torch.allclose(blurred[0], original, atol=1e-2)
    torch.testing.assert_close(blurred[1], original, atol=1e-5, rtol=0)


def test_blur_commutes_with_colour_where_nothing_is_clamped() -> None:
    mild = {"brightness": 0.1, "saturation": 0.2, "hue": 0.05, "jitter": 1.0, **STILL}
    batch = images() // 4 + 96  # far from black and white
    sharp, blurred = (pixels_of(make("crop", blur=p, **mild), batch)[0] for p in (0.0, 1.0))
    sigmas = Draws(sample_keys(1, 0, torch.arange(8)), range(1)).uniform(Ask.SIGMA, 0.1, 2.0)
    after = torch.stack([TF.gaussian_blur(x, [5, 5], [float(s)] * 2) for x, s in zip(sharp, sigmas, strict=True)])
    torch.testing.assert_close(blurred, after, atol=1e-5, rtol=0)


def test_cutout_erases_between_a_sixteenth_and_a_quarter() -> None:
    erased = (views_of(make("crop", cutout=1.0, **STILL), images(64)).globals[0] == 0).all(1).float().mean((1, 2))
    assert (erased > (7 / 32) ** 2).all()
    assert (erased < (17 / 32) ** 2).all()


def test_rotation_turns_by_at_most_what_it_says() -> None:
    dot = torch.zeros(200, 1, 33, 33, dtype=torch.uint8)
    dot[..., 16, 28] = 255  # twelve pixels to the right of the centre
    turned = pixels_of(make("crop", channels=1, size=33, rotate=30.0, **STILL), dot)[0, :, 0]
    at = torch.arange(33.0) - 16
    weight = turned / turned.sum((1, 2), keepdim=True)
    angles = torch.atan2((weight.sum(2) * at).sum(1), (weight.sum(1) * at).sum(1)).rad2deg()
    assert 25 < angles.abs().max() < 31
    assert angles.min() < 0 < angles.max()


@pytest.mark.parametrize(
    ("batch", "keys", "what"),
    [
        (images().float(), torch.arange(8), "uint8"),
        (images(channels=1), torch.arange(8), r"\(N, 3, S, S\)"),
        (images()[..., :16], torch.arange(8), r"\(8, 3, 32, 16\)"),
        (images()[0], torch.arange(8), r"\(N, 3, S, S\)"),
        (images(), torch.arange(7), r"int64 \(8,\)"),
        (images(), torch.arange(8).float(), "float32"),
    ],
)
def test_images_and_keys_of_another_kind_are_refused(batch: Tensor, keys: Tensor, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        make()(batch, keys)


@pytest.mark.cuda
def test_views_on_the_gpu_are_those_of_the_cpu() -> None:
    config = ViewsConfig(local_size=16)
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    here = Multicrop(config, 32, mean, std)(images(), sample_keys(0, 0, torch.arange(8)))
    there = Multicrop(config, 32, mean.cuda(), std.cuda())(images().cuda(), sample_keys(0, 0, torch.arange(8)).cuda())
    torch.testing.assert_close(there.globals.cpu(), here.globals, atol=1e-4, rtol=0)
    torch.testing.assert_close(there.locals.cpu(), here.locals, atol=1e-4, rtol=0)


def test_every_recipe_can_be_chosen_and_sets_all_that_a_view_does() -> None:
    assert set(get_args(ViewsConfig.model_fields["recipe"].annotation)) == set(VIEW_RECIPES)
    set_elsewhere = {"recipe", "global_views", "local_views", "global_size", "local_size"}
    for recipe, settings in VIEW_RECIPES.items():
        assert settings.keys() == ViewsConfig.model_fields.keys() - set_elsewhere, recipe
        config = ViewsConfig.model_validate({"recipe": recipe})
        assert {name: getattr(config, name) for name in settings} == settings
        assert ViewsConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("wrong", [[0.5, 0.5], [0.5, 0.5, 1.5], -0.1, [0.1] * 4])
def test_probabilities_are_one_or_three_numbers_between_0_and_1(wrong: object) -> None:
    for name in ("blur", "solarize"):
        with pytest.raises(ValidationError, match=name):
            ViewsConfig.model_validate({name: wrong})
