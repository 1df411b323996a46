"""What an arm's search trials say: its best, its published default, and the expected best of n."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import statistics as st
from reports.evidence import Arm, Cell, Study


def searched_cell(arm: Arm) -> Cell | None:
    """The cell whose search is shown: the selected one, else the first that was searched."""
    searched = [cell for cell in arm.cells if len(cell.searched)]
    return next((cell for cell in searched if cell is arm.selected), next(iter(searched), None))


def median_of_studies(study: Study, arm: Arm) -> float | None:
    """Median over studies of the best validation value that each found in the cell that stands for the arm."""
    cell = searched_cell(arm)
    best = best_of_studies(study, cell) if cell is not None else {}
    return float(np.median(list(best.values()))) if best else None


def searched_keys(arm: Arm) -> tuple[str, ...]:
    cell = searched_cell(arm)
    return () if cell is None else tuple(cell.searched["key"])


def best_of_studies(study: Study, cell: Cell, rows: pd.DataFrame | None = None) -> dict[int, float]:
    """Study → best selecting value among its finished search trials (of `rows`, where given)."""
    rows = finished(study, cell.searched if rows is None else rows)
    groups = rows.groupby("study")[study.metric]
    best = groups.max() if study.sign > 0 else groups.min()
    return {int(str(number)): float(value) for number, value in best.items()}


def finished(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["state"] == "finished"].dropna(subset=[study.metric])


def defaults_first(study: Study) -> bool:
    return bool((study.sweep.spec.get("search") or {}).get("defaults_first"))


def published(study: Study, cell: Cell) -> dict[int, float]:
    """Study → selecting value of the published default; {} where the sweep ran none."""
    if not defaults_first(study):
        return {}
    rows = finished(study, cell.searched[cell.searched["ordinal"] == 0])
    return {int(number): float(value) for number, value in zip(rows["study"], rows[study.metric], strict=True)}


@dataclass(frozen=True)
class Curve:
    """The expected best of an arm's random search trials, all studies together."""

    arm: Arm
    curve: st.TuningCurve  # of sign × metric: larger is better
    diverged: int
    missing: int  # failed or unfinished, and therefore not among the draws
    keys: tuple[str, ...]
    default: float | None  # mean over studies


def worst(study: Study, arms: Sequence[Arm]) -> float:
    """The score of a trial that diverged: the lowest that any finished search trial of these arms reached."""
    scores = [study.sign * finished(study, cell.searched)[study.metric] for arm in arms if (cell := searched_cell(arm))]
    together = pd.concat(scores) if scores else pd.Series(dtype=float)
    return float(together.min()) if len(together) else math.nan


def curve_of(study: Study, arm: Arm, lowest: float) -> Curve | None:
    """None where no draw has finished. `lowest`: the score of a trial that diverged."""
    cell = searched_cell(arm)
    if cell is None:
        return None
    rows = cell.searched
    draws = rows[rows["ordinal"] > 0] if defaults_first(study) else rows  # the default was no draw
    good, diverged = finished(study, draws), draws[draws["state"] == "diverged"]
    if not len(good):
        return None
    scores = [*(study.sign * good[study.metric].to_numpy(float)), *[lowest] * len(diverged)]
    default = published(study, cell)
    return Curve(
        arm, st.tuning_curve(scores), len(diverged), len(draws) - len(good) - len(diverged),
        (*good["key"], *diverged["key"]), float(np.mean(list(default.values()))) if default else None,
    )  # fmt: skip
