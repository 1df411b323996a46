"""One palette: an arm has the same colour, marker and line in every figure.

Colours are tokens: `inline` turns them into CSS variables, so that one SVG serves the light and the dark page.
"""

import re

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, ListedColormap

INK, MUTED, GRID, PAPER, BAND, RED = "#1b2631", "#5a6773", "#dde2e7", "#fffffe", "#dfe9e1", "#c1121f"
# Eight that differ by CIEDE2000 > 12 also to the colour-blind, 3 : 1 on white; the page has lighter twins for dark.
PALETTE = ("#0067a5", "#c65102", "#00aa66", "#992255", "#9977ff", "#661100", "#2200aa", "#cc7799")
MARKERS = ("o", "s", "D", "^", "v", "P", "<", ">")
LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
FLOOR_STYLES: tuple[tuple[int, tuple[float, ...]], ...] = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_TOKENS = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "card", BAND: "band", RED: "red"} | {
    colour: f"arm-{place}" for place, colour in enumerate(PALETTE)
}
COLD_TO_WARM: Colormap = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.12, 0.9, 256)))  # on both papers


def colour_of(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def marker_of(place: int) -> str:
    """Beyond the colours a colour comes again with another marker."""
    return MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]


def line_of(place: int) -> str | tuple[int, tuple[float, ...]]:
    """Beyond the colours a colour comes again with another line."""
    return LINES[place // len(PALETTE) % len(LINES)]


def inline(svg: str, name: str) -> str:
    """An SVG file's text → an element for a page: own ids, colours as CSS variables, sized by the page up to where its
    letters are as large as the page's."""
    body = svg[svg.index("<svg") :]
    points = re.search(r'<svg[^>]*? width="([\d.]+)pt"', body)
    if points:
        body = body.replace("<svg", f'<svg style="max-width: {1.55 * float(points.group(1)):.0f}px"', 1)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', body)
    for colour, token in _TOKENS.items():
        body = re.sub(colour, f"var(--{token})", body, flags=re.IGNORECASE)
    return body


def css_tokens() -> dict[str, str]:
    """Token → colour on light paper, for the page's style sheet."""
    return {token: colour for colour, token in _TOKENS.items()}
