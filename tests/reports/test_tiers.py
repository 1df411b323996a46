"""Cost against worth: fronts by brute force, tiers by hand, and who leads when."""

import math

from hypothesis import given
from hypothesis import strategies as st

from reports.tiers import front, last_within, leaders, tiers

POINTS = st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(-100, 100)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_is_what_nothing_at_most_as_dear_beats_or_equals(points: list[tuple[float, float]]) -> None:
    costs, worths = zip(*points, strict=True)
    found = front(costs, worths)
    for i, (cost, worth) in enumerate(points):
        beaten = any(c <= cost and w >= worth and (c, w) != (cost, worth) for c, w in points)
        twin = any(points[j] == (cost, worth) for j in found if j != i)
        assert (i in found) == (not beaten and not twin)
    assert [costs[i] for i in found] == sorted(costs[i] for i in found)


def test_tiers_are_thirds_of_the_log_range_that_end_at_a_cost() -> None:
    assert tiers([1, 2, 9, 11, 90, 1000]) == [9, 90, 1000]  # thirds end at 10, 100 and 1000
    assert tiers([1, 10, 100, 1000]) == [1, 10, 1000]  # a cost on an edge opens the next tier
    assert tiers([1, 1000]) == [1, 1000]  # nothing lies in the middle third


def test_costs_within_a_factor_of_two_are_one_tier() -> None:
    assert tiers([100, 150, 199]) == [199]
    assert tiers([7]) == [7]
    assert tiers([0, 3]) == [3]  # 0 has no logarithm


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20))
def test_every_cost_is_paid_for_by_the_last_tier(costs: list[float]) -> None:
    found = tiers(costs)
    assert found == sorted(set(found))
    assert found[-1] == max(costs)
    assert set(found) <= set(costs)
    assert len(found) <= 3


def test_a_budget_pays_for_the_measurements_up_to_it() -> None:
    curve = [(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)]
    assert [last_within(curve, budget) for budget in (0.5, 1.0, 2.9, 3.0, 99.0)] == [None, 0, 1, 2, 2]


def test_the_lead_passes_where_the_larger_curve_has_overtaken() -> None:
    quick, slow = [(1.0, 5.0), (2.0, 6.0), (3.0, 6.5)], [(2.5, 4.0), (5.0, 9.0)]
    assert leaders([quick, slow]) == [(1.0, 0), (5.0, 1)]
    assert leaders([slow, quick]) == [(1.0, 1), (5.0, 0)]
    assert leaders([quick, [(9.0, 6.5)]]) == [(1.0, 0)]  # an equal does not take over


def test_a_lead_that_is_lost_again_at_once_is_none() -> None:
    one, other = [(1.0, 1.0), (2.2, 3.0), (4.0, 4.0)], [(2.0, 2.0), (9.0, 9.0)]
    assert leaders([one, other]) == [(1.0, 0), (2.0, 1), (2.2, 0), (9.0, 1)]
    assert leaders([one, other], shortest=1.3) == [(1.0, 0), (9.0, 1)]
    assert leaders([one, other], shortest=math.inf)[-1] == (9.0, 1)  # the last lead has no end
