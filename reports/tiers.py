"""Cost against worth, as pure functions: the front, tiers of a budget, and who leads at which budget."""

import math
from collections.abc import Sequence

Curve = Sequence[tuple[float, float]]  # (spent, worth) at each measurement, in the order of spending
SPREAD = 2.0  # ratio of the largest to the smallest cost from which a budget has tiers


def front(costs: Sequence[float], worths: Sequence[float]) -> list[int]:
    """Indices of what nothing else beats on both (smaller cost, larger worth), by rising cost."""
    by_cost = sorted(range(len(costs)), key=lambda i: (costs[i], -worths[i]))
    found: list[int] = []
    for i in by_cost:
        if not found or worths[i] > worths[found[-1]]:
            found.append(i)
    return found


def tiers(costs: Sequence[float], most: int = 3) -> list[float]:
    """Upper ends of equal parts of the log range of positive costs, each end being a cost that occurs.

    One tier where the largest cost is less than twice the smallest; a part that holds no cost makes no tier.
    """
    low, high = min(costs), max(costs)
    if not low > 0 or high < SPREAD * low:
        return [high]
    step = math.log(high / low) / most
    parts: dict[int, float] = {}
    for cost in sorted(costs):
        part = min(most - 1, math.floor(math.log(cost / low) / step + 1e-9))
        parts[part] = cost
    return [parts[part] for part in sorted(parts)]


def last_within(curve: Curve, budget: float) -> int | None:
    """Index of the last measurement that a budget pays for; None where it pays for none."""
    paid = [i for i, (spent, _) in enumerate(curve) if spent <= budget * (1 + 1e-9)]
    return paid[-1] if paid else None


def leaders(curves: Sequence[Curve], shortest: float = 1.0) -> list[tuple[float, int]]:
    """(budget, curve): from which budget on which curve's last measurement is the largest; of equals the earlier
    leader stays. Budgets beyond the end of a curve keep its last value.

    shortest: ratio of budgets through which a lead has to last. Curves are measured at different budgets, so that
    near a crossing the lead goes to and fro.
    """
    found: list[tuple[float, int]] = []
    for budget in sorted({spent for curve in curves for spent, _ in curve}):
        now = [curve[at][1] if (at := last_within(curve, budget)) is not None else -math.inf for curve in curves]
        if not found or max(now) > now[found[-1][1]]:
            found.append((budget, now.index(max(now))))
    ends = [*(budget for budget, _ in found[1:]), math.inf]
    found = [step for step, end in zip(found, ends, strict=True) if end >= shortest * step[0]]
    return [step for i, step in enumerate(found) if i == 0 or step[1] != found[i - 1][1]]
