"""SIGReg against prediction loss: where a training stands between Gaussian and constant."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports import figures
from reports.content import Figure
from reports.evidence import Study
from reports.wording import count, listing

_COLUMNS = ("train/pred", "train/sigreg")


def losses(study: Study, trials: pd.DataFrame, name: str, *, wide: bool = False) -> Figure | None:
    """Of trials that finished with both losses and a λ; None without any."""
    trials = trials.drop_duplicates("key")
    if not {*_COLUMNS} <= {*trials.columns}:
        return None
    rows = trials[trials["state"] == "finished"].dropna(subset=list(_COLUMNS))
    rows = rows[(rows["train/sigreg"] > 0) & (rows["train/pred"] >= 0)]
    lambdas = lambdas_of(study, rows)
    rows, lambdas = rows[np.isfinite(lambdas)], lambdas[np.isfinite(lambdas)]
    if rows.empty:
        return None
    found = {sigreg_bounds(study.sweep.configs[key]) for key in rows["key"]} - {None}
    bounds = sorted(bound for bound in found if bound is not None)[:4]
    frame = rows[["key", "arm", "seed", "outcome", *_COLUMNS]].assign(**{"lambda": lambdas})
    text = figures.Text(
        name,
        f"SIGReg loss against prediction loss at the end, unweighted, n = {count(len(rows), 'trial')}.{_said(bounds)}",
        f"Scatter of SIGReg loss against prediction loss for {count(len(rows), 'trial')}; SIGReg from "
        f"{rows['train/sigreg'].min():.3g} to {rows['train/sigreg'].max():.3g}, prediction loss from "
        f"{rows['train/pred'].min():.3g} to {rows['train/pred'].max():.3g}.",
        frame, wide=wide,
    )  # fmt: skip
    collapsed = (rows["outcome"] == "collapsed").to_numpy()
    pred, sigreg = rows["train/pred"].to_numpy(float), rows["train/sigreg"].to_numpy(float)
    floors = list(dict.fromkeys(bound.floor for bound in bounds))
    return figures.losses(text, pred, sigreg, lambdas, collapsed, floors, [bound.ceiling for bound in bounds])


class Bounds(NamedTuple):
    floor: float  # expected of isotropic Gaussian embeddings, whatever N
    per_sample: float
    samples: int  # N

    @property
    def ceiling(self) -> float:
        """Of a constant: every embedding at the origin."""
        return self.per_sample * self.samples


def sigreg_bounds(config: Mapping[str, Any]) -> Bounds | None:
    """What SIGReg reads on Gaussian embeddings and on constant ones, by its own quadrature: 1.05 and 0.402·N at the
    defaults. None for a statistic other than Epps–Pulley, and where it is not scaled by N."""
    method, views = config["method"], config.get("views", {})
    if method.get("statistic", "epps_pulley") != "epps_pulley" or method.get("scale", "batch") != "batch":
        return None
    end, knots, half = method.get("t_max", 3.0), method.get("knots", 17), method.get("interval", "half") == "half"
    t = np.linspace(0.0 if half else -end, end, knots)
    phi = np.exp(-(t**2) / 2)
    floor, ceiling = ((1 + half) * float(np.trapezoid(phi * part, t)) for part in (1 - phi**2, (1 - phi) ** 2))
    pooled = int(views.get("global_views", 1)) + int(views.get("local_views", 0))
    return Bounds(floor, ceiling, int(config["batch_size"]) * (pooled if method.get("sample") == "pooled" else 1))


def _said(bounds: list[Bounds]) -> str:
    if not bounds:
        return ""
    ceilings = listing([f"{bound.per_sample:.3f} × {bound.samples} = {bound.ceiling:.1f}" for bound in bounds])
    return (
        " The floor is the statistic expected of isotropic Gaussian embeddings, the ceiling "
        f"({ceilings}; N is the batch) that of a constant."
    )


def lambdas_of(study: Study, rows: pd.DataFrame) -> np.ndarray:
    """λ of every row's config; NaN where it has none."""
    found = [study.sweep.configs[key]["method"].get("lamb") for key in rows["key"]]
    return np.array([np.nan if lamb is None else float(lamb) for lamb in found], dtype=float)
