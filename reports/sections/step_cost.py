"""What a training step of a cell costs: time and memory, per seed, from the timings of its epochs.

Costs are positive and vary by ratios: their means are geometric, and their intervals those of logarithms.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import statistics as st
from reports.evidence import Cell, Study

_RATE, _MEMORY = "timing/images_per_second", "timing/peak_memory_mb"
WARM_UP = 3  # epochs from which the first, which warms caches and compilers, is left out


@dataclass(frozen=True)
class Cost:
    """A cost of every cell: seed → value, for the seeds that finished."""

    name: str  # `step`
    unit: str
    values: dict[int, pd.Series]  # id of the cell → its values

    def of(self, cell: Cell) -> pd.Series:
        return self.values[id(cell)]

    def estimate(self, cell: Cell) -> st.Estimate | None:
        values = self.of(cell)
        return geometric(values) if cell.complete and len(values) == cell.planned else None

    def ratio(self, cell: Cell, other: Cell) -> st.Estimate | None:
        """cell / other, paired by seed; None unless both are complete and share seeds."""
        a, b = self.of(cell), self.of(other)
        shared = a.index.intersection(b.index)
        if not (cell.complete and other.complete and len(shared)):
            return None
        return geometric(a.loc[shared] / b.loc[shared])

    @property
    def known(self) -> bool:
        return any(len(values) for values in self.values.values())


def geometric(values: pd.Series) -> st.Estimate | None:
    """Geometric mean of positive values and its 95 % interval, which is positive, too; None where one is not."""
    if not len(values) or not (values > 0).all():
        return None
    logs = st.mean_interval(np.log(values.to_numpy(dtype=float)))
    low, high = (None if bound is None else float(np.exp(bound)) for bound in (logs.low, logs.high))
    return st.Estimate(float(np.exp(logs.mean)), low, high, logs.n, f"{logs.how} of logarithms")


def time(study: Study, cells: list[Cell]) -> Cost:
    """Milliseconds of a training step; seconds of an epoch, evaluation included, where images/s were not recorded."""
    if _RATE in study.sweep.epochs:
        return Cost("step", "ms", {id(cell): _step(study, cell) for cell in cells})
    return Cost("epoch", "s", {id(cell): _median(study, cell, "timing/seconds") for cell in cells})


def memory(study: Study, cells: list[Cell]) -> Cost:
    """Peak memory in MB, the most of all epochs."""
    return Cost("peak memory", "MB", {id(cell): _per_seed(study, cell, _MEMORY, "max") for cell in cells})


def _step(study: Study, cell: Cell) -> pd.Series:
    batches = {row["seed"]: study.sweep.configs[row["key"]]["batch_size"] for _, row in cell.finished.iterrows()}
    rate = _median(study, cell, _RATE)
    return 1000 * pd.Series(batches, dtype=float).reindex(rate.index) / rate


def _median(study: Study, cell: Cell, column: str) -> pd.Series:
    return _per_seed(study, cell, column, "median")


def _per_seed(study: Study, cell: Cell, column: str, how: str) -> pd.Series:
    if column not in study.sweep.epochs:
        return pd.Series(dtype=float)
    rows = study.sweep.epochs_of(cell.finished["key"])[["key", "epoch", column]].dropna()
    longest = rows.groupby("key", observed=True)["epoch"].transform("max")
    rows = rows[(rows["epoch"] > 1) | (longest < WARM_UP)] if how == "median" else rows
    values = rows.groupby("key", observed=True)[column].agg(how)
    values.index = pd.Index(values.index.astype(str))
    seeds = cell.finished.set_index("key")["seed"]
    return values.rename(index=seeds.to_dict()).sort_index()
