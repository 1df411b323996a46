"""Plain values → figures as SVG and PNG, one file a kind of figure."""

from reports.figures.canvas import Text
from reports.figures.curve import Level, Mark, Point, Series, curve
from reports.figures.decay import decay
from reports.figures.dots import Row, dots, effect
from reports.figures.fronts import Panel, Spending, Spot, front, spending
from reports.figures.importance import Share, shares
from reports.figures.landscape import Peak, Tried, heat_map, landscape
from reports.figures.losses import against_loss, losses
from reports.figures.palette import css_tokens, inline
from reports.figures.scaling import Ladder, LawLine, Scaled, ScalePanel, scaling
from reports.figures.switches import SwitchRow, switches
from reports.figures.training import Curve, training
from reports.figures.tuning import Search, Step, searches, steps
from reports.figures.versus import Side, versus

__all__ = [
    "Curve", "Ladder", "LawLine", "Level", "Mark", "Panel", "Peak", "Point", "Row", "ScalePanel", "Scaled", "Search",
    "Series", "Share", "Side", "Spending", "Spot", "Step", "SwitchRow", "Text", "Tried", "against_loss", "css_tokens",
    "curve", "decay", "dots", "effect", "front", "heat_map", "inline", "landscape", "losses", "scaling", "searches",
    "shares", "spending", "steps", "switches", "training", "versus",
]  # fmt: skip
