"""What a point of a figure says of itself: <title> elements in the SVG, which a browser shows without any script.

A figure names its points with `hover`; scattered points that it leaves unnamed are looked up in the figure's own data,
and are named only by rows that hold exactly the plotted number.
"""

import re
from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure as Canvas

from reports.wording import amount, factor_text, metric_text, minus, name_text, unit, value_text

MOST = 600  # named points of a figure: each costs the page about 200 bytes
_ALIKE = 3  # trials that one name may list, where several have the same number
_SAID: WeakKeyDictionary[Artist, list[str]] = WeakKeyDictionary()
_METRICS = ("val/", "test/", "train/", "diag/", "timing/")


def hover(artist: Artist, labels: Sequence[str]) -> None:
    """Name the points of an artist (a scatter, or a line with markers), in the order in which they were given."""
    _SAID[artist] = [name_text(label) for label in labels]


def mark(canvas: Canvas, data: pd.DataFrame) -> dict[str, list[str]]:
    """Give an id to every artist whose points have names; id → names."""
    marked: dict[str, list[str]] = {}
    left = MOST
    for artist in [artist for axes in canvas.axes for artist in (*axes.collections, *axes.lines)]:
        names = _SAID.get(artist) or (_looked_up(artist, data) if isinstance(artist, PathCollection) else [])
        if any(names) and len(names) <= left and not artist.get_rasterized():
            left -= len(names)
            gid = f"points-{len(marked)}"
            artist.set_gid(gid)
            marked[gid] = names
    return marked


def write(svg: str, marked: dict[str, list[str]]) -> str:
    """The SVG with a <title> in each marked point. An artist that was not drawn point by point stays as it is."""
    for gid, names in marked.items():
        start = svg.find(f'<g id="{gid}">')
        if start < 0:
            continue
        end = _end_of_group(svg, start)
        svg = svg[:start] + _titled(svg[start:end], names) + svg[end:]
    return svg


def _end_of_group(svg: str, start: int) -> int:
    depth = 0
    for tag in re.compile(r"<g[ >]|</g>").finditer(svg, start):
        depth += -1 if tag.group() == "</g>" else 1
        if depth == 0:
            return tag.end()
    return len(svg)


def _titled(group: str, names: list[str]) -> str:
    shared = [match.span() for match in re.finditer(r"<defs>.*?</defs>", group, re.DOTALL)]
    for tag in ("use", "path"):
        found = [
            match for match in re.finditer(rf"<{tag} [^>]*?/>", group)
            if not any(start <= match.start() < end for start, end in shared)
        ]  # fmt: skip
        if len(found) == len(names):
            for match, name in reversed(list(zip(found, names, strict=True))):
                if name:
                    opened = match.group()[:-2]
                    whole = f'{opened} class="point"><title>{escape(name)}</title></{tag}>'
                    group = group[: match.start()] + whole + group[match.end() :]
            return group
    return group


# -- names from the data ----------------------------------------------------------------------------------------------


def _looked_up(artist: PathCollection, data: pd.DataFrame) -> list[str]:
    points = np.asarray(artist.get_offsets(), dtype=float)
    if "key" not in data or not 0 < len(points) <= MOST:
        return []
    measured = [name for name in data if str(name).startswith(_METRICS)]
    rows = data.drop_duplicates("key").reset_index(drop=True)
    numbers = rows[measured].to_numpy(dtype=float) if measured else np.empty((len(rows), 0))
    return [_name(rows, _holding(numbers, point)) for point in points]


def _holding(numbers: np.ndarray, point: np.ndarray) -> list[int]:
    """Rows that hold both coordinates of a point; where none does, one of them (the other is a place, or jitter)."""
    along = [(numbers == value).any(axis=1) for value in point]
    both = np.flatnonzero(along[0] & along[1])
    return [int(row) for row in (both if len(both) else np.flatnonzero(along[0] | along[1]))]


def _name(rows: pd.DataFrame, found: list[int]) -> str:
    if not found:
        return ""
    if len(found) > _ALIKE:
        return f"{len(found)} trials have this value"
    return "\nor ".join(" · ".join(_said(rows.iloc[row])) for row in found)


def _said(row: pd.Series) -> Iterator[str]:
    for column, value in row.items():
        name = str(column)
        if name == "key" or value is None or value != value or (name == "outcome" and value == "trained"):
            continue
        if name.startswith(_METRICS):
            yield f"{metric_text(name)} {minus(amount(float(value), name))}{' ' + unit(name) if unit(name) else ''}"
        elif name == "seed":
            yield f"seed {int(value)}"
        elif name in ("arm", "outcome", "state"):
            yield name_text(value)
        else:
            yield f"{factor_text(name)} = {value_text(value)}"
    yield f"trial {str(row['key'])[:8]}"
