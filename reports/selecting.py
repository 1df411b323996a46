"""The number that a report selects by, and the one that judges; with labels one split each, without labels two kinds.

Without labels the selecting number is made into a column of its own, in which larger is better. It is empty for a
training that has collapsed, which is seen without labels, and at λ = 0, where loss / λ^α has no value: they rank last.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports.labelfree import PAPER_ALPHA
from reports.load import EVIDENCE, Sweep

_LOSS_OVER_LAMBDA = re.compile(r"loss/lambda\^([\d.]+)")  # as in a sweep file
_NAMES = {"diag/rankme": "RankMe", "diag/lidar": "LiDAR", "diag/effective_rank": "effective rank"}


@dataclass(frozen=True)
class Selection:
    metric: str  # column of trials and epochs that selects
    judge: str  # test/… where it was read, else what selects
    labels: str  # val/… that selects, or would with labels
    sign: int  # +1: of `metric` and `judge`, the larger is better
    label_free: bool


def selected_by(sweep: Sweep) -> tuple[Sweep, Selection]:
    """The sweep with a column for whatever selects, also where nothing has reached it yet."""
    name, mode = str(sweep.spec["metric"]["name"]), sweep.spec["metric"].get("mode", "max")
    if name.startswith("val/"):
        read = _read(sweep, "test/" + name.removeprefix("val/"))
        found = Selection(name, read or name, name, -1 if mode == "min" else 1, False)
    else:
        judge = _read(sweep, "test/linear") or next(filter(None, (_read(sweep, test) for test in _tests(sweep))), None)
        labels = f"val/{judge.partition('/')[2]}" if judge else "val/linear"
        found = Selection(_title(name, mode), judge or labels, labels, 1, True)
        trials = sweep.trials.assign(**{found.metric: _masked(sweep.trials, unmasked(sweep))})
        epochs = sweep.epochs.assign(**{found.metric: _masked(sweep.epochs, _scores(sweep, sweep.epochs))})
        sweep = replace(sweep, trials=trials, epochs=epochs)
    missing = [column for column in (found.metric, found.judge, found.labels) if column not in sweep.trials]
    return replace(sweep, trials=sweep.trials.assign(**dict.fromkeys(missing, np.nan))), found


def alpha_of(name: str) -> float | None:
    """Of loss / λ^α; None where a metric is another."""
    if name == "diag/loss_over_lambda":
        return PAPER_ALPHA
    found = _LOSS_OVER_LAMBDA.fullmatch(name)
    return float(found[1]) if found else None


def unmasked(sweep: Sweep) -> pd.Series:
    """What selects without labels, of every row of `sweep.trials`, also of what has collapsed; larger is better."""
    return _scores(sweep, sweep.trials)


def _masked(rows: pd.DataFrame, scores: pd.Series) -> pd.Series:
    """NaN for what has collapsed."""
    return scores.where(~rows["diag/collapsed"].eq(1.0)) if "diag/collapsed" in rows else scores


def _tests(sweep: Sweep) -> list[str]:
    return [str(column) for column in sweep.trials if str(column).startswith("test/")]


def _read(sweep: Sweep, test: str) -> str | None:
    """The column where the evidence has read it."""
    evidence = sweep.trials[sweep.trials["purpose"].isin(EVIDENCE)]
    return test if test in evidence and evidence[test].notna().any() else None


def _title(name: str, mode: str) -> str:
    alpha = alpha_of(name)
    shown = _NAMES.get(name, name) if alpha is None else f"loss/λ^{alpha:g}"
    return f"−{shown}" if mode == "min" else f"{shown} (no labels)"


def _scores(sweep: Sweep, rows: pd.DataFrame) -> pd.Series:
    """Of trials or of epochs, larger is better; NaN where it was not measured, and of loss / λ^α at λ = 0."""
    name, mode = str(sweep.spec["metric"]["name"]), sweep.spec["metric"].get("mode", "max")
    alpha, nothing = alpha_of(name), pd.Series(np.nan, index=rows.index)
    value = rows.get("train/loss" if alpha is not None else name, nothing).astype(float)
    if alpha is not None:
        lambdas = {key: float(config["method"].get("lamb") or 0.0) for key, config in sweep.configs.items()}
        share = rows["key"].astype(object).map(lambdas).astype(float)
        evaluated = rows.get("diag/collapsed", nothing).notna()  # elsewhere nobody knows whether it has collapsed
        value = (value / share.where(share > 0) ** alpha).where(evaluated)
    return -value if mode == "min" else value
