"""The two panels of arms side by side: what lies within the view of the differences."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from reports import statistics as st
from reports.figures.versus import Side, _zoom


def side(difference: float, floor: bool = False, collapsed: bool = False, apart: float = 0.2) -> Side:
    seeds = difference + apart * np.array([-1.5, 0.5, 1.0])
    return Side("arm", 0, [50.0] * 3, None, [collapsed] * 3, "", st.mean_interval(seeds), seeds.tolist(), floor)


def view(sides: list[Side]) -> tuple[float, float, list[str]]:
    """The limits of x, and the arrows to what lies beyond them."""
    axes = Figure().subplots()
    axes.plot([value for each in sides for value in each.differences], [0.0] * 3 * len(sides))
    _zoom(axes, sides, 1.0)
    return *axes.get_xlim(), [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("aside", [{"floor": True}, {"collapsed": True}])
def test_differences_to_floors_and_collapsed_arms_are_in_view_where_nothing_else_is_compared(
    aside: dict[str, bool],
) -> None:
    low, high, arrows = view([side(23.7, **aside), side(28.6, **aside)])
    assert low < 23.7 < 28.6 < high
    assert not arrows


def test_beside_what_trained_a_floor_far_away_is_an_arrow() -> None:
    low, high, arrows = view([side(1.5), side(28.6, floor=True)])
    assert low < 1.5 < high < 28.6
    assert arrows == ["+29 →"]


def test_every_seed_of_what_trained_is_in_view() -> None:
    low, high, _ = view([side(-2.3, apart=4.0), side(28.6, floor=True)])
    assert low < -2.3 - 1.5 * 4.0
    assert high < 28.6
