"""An image's pixels: what Pillow gives, also of unusual files; broken ones are found without decoding them whole."""

import io

import numpy as np
import pytest
from PIL import Image

from lejepa.decoding import Unreadable, check, decode


def encoded(image: Image.Image, kind: str, **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def landscape(width: int, height: int, seed: int = 0) -> Image.Image:
    few = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def rough(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(40, 40), (60, 40), (40, 60), (101, 77)])
def test_the_shorter_side_is_resized_and_the_middle_kept(size: tuple[int, int]) -> None:
    image = landscape(*size)
    scale = 24 / min(size)
    width, height = (max(24, round(length * scale)) for length in size)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - 24) // 2, (width - 24) // 2
    expected = resized[top : top + 24, left : left + 24].transpose(2, 0, 1)
    assert np.array_equal(decode(encoded(image, "PNG"), 24), expected)
    assert np.array_equal(decode(np.asarray(image), 24), expected)


def test_jpeg_is_scaled_down_early_only_where_much_is_left() -> None:
    file = encoded(landscape(400, 300), "JPEG", quality=95)
    full = Image.open(io.BytesIO(file)).convert("RGB")
    for side, largest in ((150, 0), (151, 0), (75, 3), (20, 3)):  # 300 is less than 2·2·150: no scaling
        expected = full.resize((round(400 * side / 300), side), Image.Resampling.BICUBIC)
        left = (expected.width - side) // 2
        cut = np.asarray(expected)[:, left : left + side].transpose(2, 0, 1)
        assert np.abs(decode(file, side).astype(int) - cut).max() <= largest


def test_grey_palette_and_transparency_become_rgb() -> None:
    grey = landscape(20, 20).convert("L")
    assert np.array_equal(decode(encoded(grey, "PNG"), 20), np.broadcast_to(np.asarray(grey), (3, 20, 20)))
    assert decode(encoded(landscape(20, 20).convert("P"), "PNG"), 20).shape == (3, 20, 20)
    clear = landscape(20, 20).convert("RGBA")
    assert np.array_equal(decode(encoded(clear, "PNG"), 20), np.asarray(landscape(20, 20)).transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_become_eight_and_not_white(kind: str) -> None:
    deep = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    pixels = decode(encoded(Image.fromarray(deep), kind), 20)
    assert np.array_equal(pixels[0], deep // 256)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(Unreadable, match="no known range"):
        decode(encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), 8)


@pytest.mark.parametrize("largest", [255, 65535, 2**31 - 1])
def test_integers_of_32_bits_are_refused_whatever_their_values(largest: int) -> None:
    deep = np.linspace(0, largest, 64).astype(np.int32).reshape(8, 8)
    for reads in (check, lambda item: decode(item, 8)):
        with pytest.raises(Unreadable, match=r"32 bits .* no known range"):
            reads(encoded(Image.fromarray(deep), "TIFF"))


def test_of_a_moving_image_the_first_picture_is_taken() -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((250, 10, 10), (0, 0, 255)))
    moving = encoded(first, "GIF", save_all=True, append_images=[second])
    assert decode(moving, 8)[:, 0, 0].tolist() == [250, 10, 10]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.8, 0.97])
def test_a_file_cut_short_is_found_by_the_check_and_by_decoding(kind: str, share: float) -> None:
    file = encoded(rough(200, 150), kind)
    check(file)
    cut = file[: int(share * len(file))]
    for reads in (check, lambda item: decode(item, 16), lambda item: decode(item, 150)):
        with pytest.raises(Unreadable, match=r"\w"):
            reads(cut)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_check_and_decoding_agree_on_files_with_wrong_bytes(kind: str) -> None:
    file = encoded(rough(64, 48), kind)
    rng = np.random.default_rng(0)

    def breaks(item: bytes, side: int | None) -> bool:
        try:
            decode(item, side) if side else check(item)
        except Unreadable:
            return True
        return False

    broken = 0
    for _ in range(100):
        wrong = bytearray(file)
        for place in rng.integers(0, len(file), 3):
            wrong[place] = rng.integers(0, 256)
        found = {breaks(bytes(wrong), side) for side in (None, 6, 48)}
        assert len(found) == 1
        broken += found.pop()
    assert broken > 0


def test_what_is_no_image_is_said_to_be_none_and_starts_no_program() -> None:
    with pytest.raises(Unreadable, match="not an image"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", 8)
    with pytest.raises(Unreadable, match="empty"):
        decode(b"", 8)
