"""Plain values → figures as SVG and PNG, one file a kind of figure."""

from reports.figures.canvas import Text
from reports.figures.curve import Level, Mark, Point, Series, curve
from reports.figures.dots import Row, dots, effect
from reports.figures.losses import losses
from reports.figures.palette import css_tokens, inline
from reports.figures.training import Curve, training

__all__ = [
    "Curve", "Level", "Mark", "Point", "Row", "Series", "Text", "css_tokens", "curve", "dots", "effect", "inline",
    "losses", "training",
]  # fmt: skip
