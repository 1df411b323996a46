"""An image as it is kept (bytes, a file, an array) → RGB, shorter side to `side`, centre square.

There is one way from an image to its pixels, whether it is decoded once or at each use, so both train alike. JPEG is
decoded at the largest 1/2, 1/4 or 1/8 that leaves both sides twice as long as asked for (libjpeg's scaling in the DCT,
as in Pillow's `thumbnail`): several times quicker on photographs. EXIF orientation is not applied, as in torchvision.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

Item = Path | bytes | np.ndarray  # a file, its bytes, or uint8 pixels (H, W) or (H, W, 3)

DECODING = 2  # changes where the same bytes give other pixels

# Pillow goes by content, whatever the file's name, and for some formats it starts programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")

# What Pillow's parsers raise on broken bytes, besides their own errors, which are OSErrors.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)


class DataError(Exception):
    """The data cannot be used; the message says which file and what would be right."""


class Unreadable(Exception):
    """This one image is broken; the message says how."""


def decode(item: Item, side: int) -> np.ndarray:
    """(3, side, side) uint8. Raises Unreadable; DataError where a file cannot be read at all."""
    image = _open(item, (2 * side, 2 * side))
    if image.size != (side, side):
        scale = side / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def check(item: Item) -> None:
    """Raise what `decode` would raise, in a part of its time: JPEG is read to its end at an eighth of its size."""
    _open(item, (1, 1))


def _open(item: Item, least: tuple[int, int]) -> Image.Image:
    """In RGB, at its own size or, for JPEG, scaled down to no less than `least`."""
    if isinstance(item, np.ndarray):
        return Image.fromarray(item).convert("RGB")
    data = _read(item) if isinstance(item, Path) else item
    if not data:
        raise Unreadable("it is empty")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        image.draft(None, least)
        return _rgb(image)
    except (*_BROKEN, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise Unreadable(reason or type(error).__name__) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Unreadable("floating-point pixels have no known range")
    if image.mode == "I" and image.format == "TIFF":  # PPM's are of 16 bits in that mode, too
        raise Unreadable("integer pixels of 32 bits or with a sign have no known range; 8 or 16 bits without one have")
    if image.mode.startswith("I"):  # 16 bits: Pillow would cut them off at 255, which leaves white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:  # a disk or a network that fails is not a broken image, and must not shrink the data
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
