"""What a figure shows, in words: its alternative text."""

from collections.abc import Sequence

MOST = 60  # points: beyond, nobody listens


def spoken(points: Sequence[str], separator: str = "; ") -> str:
    """All of them, or the first MOST and how many are left out."""
    more = len(points) - MOST
    return separator.join([*points[:MOST], *([f"and {more} more, which the data has"] if more > 0 else [])])
