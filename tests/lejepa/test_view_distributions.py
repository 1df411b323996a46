"""Against torchvision's v2 transforms: the same distributions, and with the same parameters the same pixels."""

from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from lejepa.colour import colour_map, hue_rotation
from lejepa.draws import Ask, Draws
from lejepa.resampling import blurring, crop_boxes, resampling, turned
from lejepa.seeding import sample_keys
from lejepa.view_config import ViewsConfig

N = 4000


def draws(n: int = N, views: int = 1) -> Draws:
    return Draws(sample_keys(0, 0, torch.arange(n)), range(views))


def photo(n: int, side: int, seed: int = 0) -> Tensor:
    """(n, 3, side, side) on [0, 1] with correlated neighbours and channels, as photographs have them."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 5, 5, generator=g) + 0.5 * torch.rand(n, 3, 5, 5, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (smooth / 1.5 + 0.05 * torch.randn(n, 3, side, side, generator=g)).clamp(0, 1)


def same_distribution(ours: Tensor, theirs: Tensor) -> None:
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("scale", [(0.3, 1.0), (0.05, 0.3), (1.0, 1.0)])
def test_crop_boxes_have_the_areas_aspects_and_places_of_random_resized_crop(scale: tuple[float, float]) -> None:
    side = 4000  # so large that torchvision's rounding to whole pixels does not show
    left, top, width, height = crop_boxes(draws(), side, scale, (3 / 4, 4 / 3))
    torch.manual_seed(0)
    transform, picture = v2.RandomResizedCrop(32, scale), torch.zeros(1).expand(3, side, side)
    drawn = [transform.make_params([picture]) for _ in range(N)]
    theirs = {name: torch.tensor([float(p[name]) for p in drawn]) for name in ("left", "top", "width", "height")}
    same_distribution(width * height, theirs["width"] * theirs["height"])
    same_distribution(width / height, theirs["width"] / theirs["height"])
    same_distribution(left, theirs["left"])
    same_distribution(top, theirs["top"])
    same_distribution(left / (side - width + 1), theirs["left"] / (side - theirs["width"] + 1))


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (1.5, 2.0), (0.4, 0.5)])
@pytest.mark.parametrize("scale", [(0.001, 0.01), (0.05, 1.0), (1.0, 1.0)])
def test_crop_boxes_lie_in_the_image_and_have_a_pixel_at_least(
    scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    left, top, width, height = crop_boxes(draws(), 8, scale, ratio)
    for start, length in ((left, width), (top, height)):
        assert (start >= 0).all()
        assert (length >= 1).all()
        assert (start + length <= 8 + 1e-5).all()
        assert resampling(start, length, 8, 4).isfinite().all()


@pytest.mark.parametrize(("side", "size"), [(32, 32), (32, 14), (64, 14), (48, 64)])
def test_a_crop_has_the_pixels_of_resized_crop_with_antialiasing(side: int, size: int) -> None:
    images = photo(32, side)
    draw = draws(32)
    width, height = (draw.uniform(ask, 1, side + 1).floor() for ask in (Ask.AREA, Ask.ASPECT))
    left, top = (draw.table[Ask.LEFT] * (side - width)).round(), (draw.table[Ask.TOP] * (side - height)).round()
    flip = draw.chance(Ask.FLIP, 0.5)
    columns, rows = resampling(left, width, side, size, flip), resampling(top, height, side, size)
    ours = torch.einsum("bij,bcjk,blk->bcil", rows, images, columns)
    for b in range(32):
        box = [int(v[b]) for v in (top, left, height, width)]
        theirs = TF.resized_crop(images[b], *box, [size, size], antialias=True)
        torch.testing.assert_close(ours[b], theirs.flip(-1) if flip[b] else theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [8, 32, 96])
def test_blur_has_the_kernel_and_the_borders_of_gaussian_blur(size: int) -> None:
    images, sigma = photo(4, size), torch.tensor([0.1, 0.5, 1.0, 2.0])
    matrix = blurring(sigma, torch.tensor([True, True, True, True]), size)
    ours = torch.einsum("bij,bcjk,blk->bcil", matrix, images, matrix)
    taps = 2 * max(1, round(size * 0.05)) + 1
    pairs = zip(images, sigma.tolist(), strict=True)
    theirs = torch.stack([TF.gaussian_blur(image, [taps, taps], [s, s]) for image, s in pairs])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_turning_has_the_pixels_of_rotate_away_from_the_corners() -> None:
    images, degrees = photo(3, 33), torch.tensor([-30.0, 5.0, 90.0])
    inside = (slice(None), slice(10, 23), slice(10, 23))
    for ours, image, angle in zip(turned(images, degrees), images, degrees, strict=True):
        theirs = TF.rotate(image, -float(angle), interpolation=v2.InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours[inside], theirs[inside], atol=1e-4, rtol=0)


def only(**settings: Any) -> ViewsConfig:
    off = dict(brightness=0, contrast=0, saturation=0, hue=0, grey=0)
    return ViewsConfig.model_validate({"recipe": "crop", "jitter": 1.0} | off | settings)


def recoloured(images: Tensor, draw: Draws, config: ViewsConfig) -> Tensor:
    matrix, offset = colour_map(images.mean((2, 3)), draw, config)
    return torch.baddbmm(offset.unsqueeze(2), matrix, images.flatten(2)).clamp(0, 1).view_as(images)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_of_one_kind_has_the_pixels_of_torchvision(name: str) -> None:
    images, draw = photo(64, 16), draws(64)
    ours = recoloured(images, draw, only(**{name: 0.8}))
    factors = draw.around_one(Ask[name.upper()], 0.8)
    adjust = getattr(TF, f"adjust_{name}")
    theirs = torch.stack([adjust(image, float(f)) for image, f in zip(images, factors, strict=True)])
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)  # torchvision's luma has .2989 for .299


def test_sure_grey_has_the_pixels_of_rgb_to_grayscale() -> None:
    images = photo(8, 16)
    ours = recoloured(images, draws(8), only(jitter=0.0, grey=1.0))
    torch.testing.assert_close(ours, TF.rgb_to_grayscale(images, 3), atol=2e-4, rtol=0)


def test_hue_turns_as_in_hsv_at_thirds_and_near_it_between() -> None:
    """HSV keeps the largest and the smallest channel, a rotation keeps the mean and the distance from grey."""
    images = photo(64, 16)
    for turns in (1 / 3, -1 / 3, 0.0):
        ours = torch.einsum("ij,bjhw->bihw", hue_rotation(torch.tensor([turns]))[0], images)
        torch.testing.assert_close(ours, TF.adjust_hue(images, turns), atol=1e-5, rtol=0)
    for turns in (0.02, 0.1, -0.1, 0.2):
        ours = torch.einsum("ij,bjhw->bihw", hue_rotation(torch.tensor([turns]))[0], images).clamp(0, 1) - images
        theirs = TF.adjust_hue(images, turns) - images
        assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.75
        assert 0.7 < ours.norm() / theirs.norm() < 1.3


@pytest.mark.parametrize("hue", [0.0, 0.1])
def test_the_whole_jitter_stays_near_torchvisions_with_the_same_factors(hue: float) -> None:
    """Ours has one order and one clamp; torchvision draws an order for each image and clamps after every operation.

    Without hue we stay nearer to torchvision than its own orders to each other; with it, within a fifth of what jitter
    changes, as hue is another rotation. The means over a batch agree within a hundredth in both cases.
    """
    images, draw = photo(128, 16), draws(128)
    strengths = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2}
    factors = {name: draw.around_one(Ask[name.upper()], strength) for name, strength in strengths.items()}
    factors |= {"hue": draw.uniform(Ask.HUE, -hue, hue)} if hue else {}

    def theirs(order: list[str]) -> Tensor:
        out = []
        for b, image in enumerate(images):
            for name in order:
                image = getattr(TF, f"adjust_{name}")(image, float(factors[name][b]))
            out.append(image)
        return torch.stack(out)

    ours = recoloured(images, draw, only(**strengths, hue=hue))
    forward, backward = theirs([*factors]), theirs([*factors][::-1])
    allowed = 0.2 * (forward - images).abs().mean() if hue else (forward - backward).abs().mean()
    assert (ours - forward).abs().mean() < allowed
    for statistic in (lambda x: x.mean((0, 2, 3)), lambda x: x.std((0, 2, 3)), lambda x: x.std(1).mean()):
        torch.testing.assert_close(statistic(ours), statistic(forward), atol=0.01, rtol=0)


def test_the_shares_of_chosen_views_are_the_probabilities() -> None:
    draw = draws(N, views=3)
    for ask in (Ask.FLIP, Ask.JITTER, Ask.GREY, Ask.BLUR, Ask.SOLARIZE, Ask.CUTOUT):
        for view, p in zip(draw.chance(ask, (0.0, 0.3, 1.0)).view(N, 3).unbind(1), (0.0, 0.3, 1.0), strict=True):
            assert abs(view.float().mean() - p) <= 4 * (p * (1 - p) / N) ** 0.5


def test_factors_and_deviations_have_the_distributions_of_torchvision() -> None:
    draw = draws()
    torch.manual_seed(0)
    jitter, blur = v2.ColorJitter(0.4, 0.4, 0.2, 0.1), v2.GaussianBlur(5, (0.1, 2.0))
    theirs = [jitter.make_params([]) for _ in range(N)]
    for name, strength in {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2}.items():
        drawn = torch.tensor([p[f"{name}_factor"] for p in theirs])
        same_distribution(draw.around_one(Ask[name.upper()], strength), drawn)
    same_distribution(draw.uniform(Ask.HUE, -0.1, 0.1), torch.tensor([p["hue_factor"] for p in theirs]))
    sigmas = torch.tensor([blur.make_params([])["sigma"][0] for _ in range(N)])
    same_distribution(draw.uniform(Ask.SIGMA, 0.1, 2.0), sigmas)
