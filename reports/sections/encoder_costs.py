"""What an encoder costs, and what its training has come to when a budget is spent, from the timings of its epochs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports import statistics as st
from reports import tiers
from reports.evidence import Cell, Study
from reports.sections.lineup import Entry

EPOCHS, FLOPS, SECONDS = "epochs", "FLOPs", "seconds"
_MEMORY = "timing/peak_memory_mb"
WARM_UP = 3  # epochs from which the first, which warms caches and compilers, is left out


@dataclass(frozen=True)
class Costs:
    """Of one encoder; None where the ledger does not say. Medians over epochs and seeds."""

    params: float | None  # of the encoder
    flops: float | None  # of a training step, per image
    rate: float | None  # images a second in training
    memory: float | None  # MB, the largest epoch of any seed
    epoch_seconds: float | None  # training alone
    trial_seconds: float | None  # evaluation included
    device: str


@dataclass(frozen=True)
class Reading:
    """An encoder when a budget is spent: the last epoch that was measured by then."""

    epoch: int | None  # None: not one evaluation fits
    estimate: st.Estimate | None  # of the selecting metric over the seeds


def costs(study: Study, cell: Cell) -> Costs:
    rows, info = _epochs(study, cell), _info(study, set(cell.keys))
    warm = rows[(rows["epoch"] > 1) | (rows.groupby("key", observed=True)["epoch"].transform("max") < WARM_UP)]
    seconds = cell.finished["seconds"].astype(float)
    flops = _median(rows, "timing/flops_per_image") or info.get("flops_per_image")
    return Costs(
        params=_positive(info.get("encoder_params")),
        flops=_positive(flops),
        rate=_median(warm, "timing/images_per_second"),
        memory=float(rows[_MEMORY].max()) if _MEMORY in rows and rows[_MEMORY].notna().any() else None,
        epoch_seconds=_median(warm, "timing/train_seconds") or _median(warm, "timing/seconds"),
        trial_seconds=float(seconds.median()) if seconds.notna().any() else None,
        device=str(info.get("device", "unknown")),
    )


def _info(study: Study, keys: set[str]) -> dict[str, Any]:
    """What the trials said of themselves, the latest last."""
    events = (e for e in study.sweep.events if e.key in keys and e.kind in ("started", "finished"))
    return {name: value for event in events for name, value in (event.payload.get("info") or {}).items()}


def _epochs(study: Study, cell: Cell) -> pd.DataFrame:
    return study.sweep.epochs_of(cell.finished["key"]).sort_values(["key", "epoch"])


def _median(rows: pd.DataFrame, column: str) -> float | None:
    values = rows[column].dropna() if column in rows else pd.Series(dtype=float)
    return _positive(float(values.median())) if len(values) else None


def _positive(value: float | None) -> float | None:
    return float(value) if value else None


# -- curves and budgets -----------------------------------------------------------------------------------------------


def curves(study: Study, cell: Cell, unit: str) -> dict[int, tiers.Curve]:
    """Seed → (spent so far, selecting metric), at every evaluation; larger is better. Empty without the timings."""
    rows = _epochs(study, cell)
    if study.metric not in rows or not len(rows):
        return {}
    spent = _spent(rows, unit)
    if spent is None:
        return {}
    rows = rows.assign(spent=spent.groupby(rows["key"], observed=True).cumsum())
    rows = rows.dropna(subset=[study.metric, "spent"])
    seeds = cell.finished.set_index("key")["seed"]
    return {
        int(seeds[str(key)]): [
            (float(x), study.sign * float(y)) for x, y in zip(part["spent"], part[study.metric], strict=True)
        ]
        for key, part in rows.groupby("key", observed=True)
    }


def _spent(rows: pd.DataFrame, unit: str) -> pd.Series | None:
    """What each epoch's training took."""
    if unit == EPOCHS:
        return pd.Series(1.0, index=rows.index)
    seconds = next((rows[c] for c in ("timing/train_seconds", "timing/seconds") if c in rows), None)
    if unit == SECONDS or seconds is None:
        return seconds
    if not {"timing/flops_per_image", "timing/images_per_second"} <= set(rows):
        return None
    return rows["timing/flops_per_image"] * rows["timing/images_per_second"] * rows["timing/train_seconds"]


def mean_curve(by_seed: dict[int, tiers.Curve]) -> list[tuple[float, float]]:
    """The mean over seeds, at the evaluations that all of them have."""
    if not by_seed:
        return []
    common = min(len(curve) for curve in by_seed.values())
    stacked = np.asarray([list(curve[:common]) for curve in by_seed.values()])  # (seeds, evaluations, 2)
    return [(float(x), float(y)) for x, y in stacked.mean(axis=0)] if common else []


def smallest_total(study: Study, entries: list[Entry], unit: str) -> float | None:
    """What the cheapest whole training took, mean over its seeds; None unless every encoder's is known."""
    totals = [mean_curve(curves(study, entry.cell, unit)) for entry in entries]
    return min(curve[-1][0] for curve in totals) if totals and all(totals) else None


def reading(study: Study, cell: Cell, unit: str, budget: float) -> Reading:
    """All seeds at the last evaluation that the budget pays for in the mean; nothing where a seed is missing."""
    by_seed, numbered = curves(study, cell, unit), mean_curve(curves(study, cell, EPOCHS))
    at = tiers.last_within(mean_curve(by_seed), budget)
    if at is None or not cell.complete or len(by_seed) < cell.planned:
        return Reading(None, None)
    values = [study.sign * curve[at][1] for curve in by_seed.values()]
    return Reading(int(numbered[at][0]), st.mean_interval(values))
