"""The training that stands for a finished sweep: whose weights are worth keeping beside the answer."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.ledger import Ledger, canonical
from harness.selecting import curve
from lejepa.config import FLOORS

if TYPE_CHECKING:
    from harness.search_config import Metric
    from harness.spec import SweepSpec


@dataclass(frozen=True)
class Winner:
    key: str
    arm: str
    cell: dict[str, Any]
    seeds: int  # of which it is the median


@dataclass(frozen=True)
class _Config:
    """One configuration of a cell, over its seeds."""

    arm: str
    cell: dict[str, Any]
    values: dict[str, float]  # key → larger is better

    @property
    def mean(self) -> float:
        return fmean(self.values.values())


def winner(spec: SweepSpec, ledger: Ledger) -> Winner | None:
    """Of the evidence, floors aside: the configuration with the best mean of the sweep's metric over its seeds, which
    must all have finished, and of these the median seed (of an even number the lower one). Test decides nothing.

    Without labels, the best of every arm is found so, and the best of these by val/linear. None where nothing is
    complete, or all has collapsed.
    """
    best: dict[str, _Config] = {}  # of every arm
    for config in _configs(spec.metric, ledger):
        if math.isfinite(config.mean) and (config.arm not in best or config.mean > best[config.arm].mean):
            best[config.arm] = config
    if not best:
        return None
    by_labels = len(best) > 1 and spec.metric.label_free
    chosen = max(best.values(), key=lambda config: _judged(ledger, config) if by_labels else config.mean)
    ranked = sorted(chosen.values, key=lambda key: (chosen.values[key], key))
    return Winner(ranked[(len(ranked) - 1) // 2], chosen.arm, chosen.cell, len(ranked))


def _judged(ledger: Ledger, config: _Config) -> float:
    """Mean val/linear: numbers without labels do not compare across methods."""
    curves = [[row.metrics["val/linear"] for row in ledger.epochs(key) if "val/linear" in row.metrics]
              for key in config.values]  # fmt: skip
    return fmean(values[-1] for values in curves) if all(curves) else -math.inf


def _configs(metric: Metric, ledger: Ledger) -> list[_Config]:
    """Every configuration whose seeds have all finished, with the metric of each."""
    rows, states = {row.key: row for row in ledger.trials()}, ledger.states()
    groups: dict[str, tuple[str, dict[str, Any], dict[str, None]]] = defaultdict(lambda: ("", {}, {}))
    for place in ledger.assignments():
        config = rows[place.key].config
        if place.purpose in ("evidence", "confirm") and config["method"]["name"] not in FLOORS:
            name = canonical([place.arm, place.cell, {path: part for path, part in config.items() if path != "seed"}])
            groups[name] = (place.arm, place.cell, {**groups[name][2], place.key: None})
    found = []
    for arm, cell, keys in groups.values():
        curves = {key: curve(ledger, key, metric, rows[key].config) for key in keys if states[key] == "finished"}
        last = {key: values[max(values)] for key, values in curves.items() if values}
        if len(last) == len(keys):
            sign = 1.0 if metric.mode == "max" else -1.0
            found.append(_Config(arm, cell, {key: sign * value for key, value in last.items()}))
    return found
