"""Arms can be told apart: by colour, also by the colour-blind, and beyond the colours by marker and line."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import reports
from reports.figures.palette import PALETTE, colour_of, line_of, marker_of

# Machado, Oliveira and Fernandes 2009, table of full severity; on linear RGB.
SEEN_AS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)
D65 = np.array([0.95047, 1.0, 1.08883])


def lab(colour, seen_as):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(seen_as) @ linear, 0, 1) / D65
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(one, other):
    """Sharma, Wu and Dalal 2005, with all weights 1."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25**7))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    hue = (h1 + h2) / 2 if abs(h1 - h2) <= 180 else (h1 + h2 + 360) / 2
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.2 * _cos(4 * hue - 63)
    lightness = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    colourful = (c2 - c1) / (1 + 0.045 * chroma)
    hues = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    bend = 60 * np.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(bend))
    return np.sqrt(lightness**2 + colourful**2 + hues**2 + rotation * colourful * hues)


def _cos(degrees):
    return np.cos(np.radians(degrees))


def test_the_difference_of_colours_is_that_of_the_published_test_data():
    assert ciede2000((50, 2.6772, -79.7751), (50, 0, -82.7485)) == pytest.approx(2.0425, abs=1e-4)
    assert ciede2000((50, 2.5, 0), (73, 25, -18)) == pytest.approx(27.1492, abs=1e-4)
    assert ciede2000((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514)) == pytest.approx(0.9082, abs=1e-4)


@pytest.mark.parametrize("seen_as", SEEN_AS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_eight_arms_differ_in_colour_to_everyone(theme, seen_as):
    colours = PALETTE
    if theme == "dark":
        style = (Path(reports.__file__).parent / "templates" / "style.css").read_text()
        colours = re.findall(r"--arm-\d: (#[0-9a-f]{6})", style)
    assert len(set(colours)) == 8
    least = 20 if seen_as == "normal" else 12
    for one, other in combinations(colours, 2):
        assert ciede2000(lab(one, SEEN_AS[seen_as]), lab(other, SEEN_AS[seen_as])) > least, (one, other)


def test_arms_that_share_a_colour_differ_in_marker_and_line():
    for one, other in combinations(range(32), 2):
        if colour_of(one) == colour_of(other):
            assert marker_of(one) != marker_of(other)
            assert line_of(one) != line_of(other)
