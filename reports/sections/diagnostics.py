"""How the trainings went: curves over the epochs, collapse and divergence, and the two losses where λ stands still."""

import numpy as np
import pandas as pd

from reports import figures
from reports.content import Block, Figure, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Study
from reports.sections.design import colour_class
from reports.sections.factor import raw_frame
from reports.sections.lambda_ import sweeps_lambda
from reports.sections.losses import losses
from reports.wording import listing, metric_text, name_text, number, unit


def section(study: Study) -> Section:
    blocks: list[Block] = []
    if (chart := _losses(study)) is not None:
        blocks.append(chart)
    blocks += _curves(study)
    blocks.append(_outcomes(study))
    return Section("diagnostics", "How the trainings went", blocks)


def _losses(study: Study) -> Figure | None:
    """Of the arms that have no section on λ: there the figure belongs to that section."""
    swept = {arm.name for arm in study.arms if sweeps_lambda(arm)}
    return losses(study, study.evidence[~study.evidence["arm"].isin(swept)], "losses-fixed" if swept else "losses")


def _curves(study: Study) -> list[Figure]:
    """One figure per trained arm, all on one scale: colours are cells where there are several."""
    if study.metric not in study.sweep.epochs:
        return []
    arms = [arm for arm in study.arms if not arm.is_floor and any(len(cell.rows) for cell in arm.cells)]
    matrices = {id(cell): _matrix(study, cell) for arm in arms for cell in arm.cells}
    filled = [m for m in matrices.values() if np.isfinite(m).any()]
    if not filled:
        return []
    low, high = min(np.nanmin(m) for m in filled), max(np.nanmax(m) for m in filled)
    pad = 0.04 * (high - low) or 1.0
    return [_training(study, arm, matrices, (low - pad, high + pad), rank) for rank, arm in enumerate(arms[:8])]


def _matrix(study: Study, cell: Cell) -> np.ndarray:
    """Seeds × epochs, NaN where not measured."""
    rows = study.sweep.epochs_of(cell.keys)
    wide = rows.pivot_table(index="key", columns="epoch", values=study.metric, observed=True)
    return wide.reindex(columns=range(1, int(rows["epoch"].max() if len(rows) else 0) + 1)).to_numpy(float)


def _training(
    study: Study, arm: Arm, matrices: dict[int, np.ndarray], limits: tuple[float, float], rank: int
) -> Figure:
    shown = [cell for cell in arm.cells if np.isfinite(matrices[id(cell)]).any()]
    shades = [None] if len(shown) == 1 else [i / (len(shown) - 1) for i in range(len(shown))]
    curves = [
        figures.Curve(cell.text or arm.name, shade, matrices[id(cell)], study.colours[arm.name])
        for cell, shade in zip(shown, shades, strict=False)
    ]
    what = f"{metric_text(study.metric)} per epoch, {name_text(arm.name)}"
    seeds = sorted({len(cell.rows) for cell in shown})
    n = f"n = {listing([str(k) for k in seeds])} {'seed' if seeds == [1] else 'seeds'} per cell"
    frame = pd.concat(
        [study.sweep.epochs_of(cell.keys)[["key", "epoch", study.metric]].assign(cell=cell.text) for cell in shown],
        ignore_index=True,
    ) if shown else raw_frame(study, [])  # fmt: skip
    said = [f"{cell.text or 'mean'} ends at {np.nanmean(matrices[id(cell)][:, -1]):.3g}" for cell in shown[:12]
            if np.isfinite(matrices[id(cell)][:, -1]).any()]  # fmt: skip
    text = figures.Text(
        f"training-{rank}", f"{what[0].upper()}{what[1:]}; thick lines are means over seeds, thin lines seeds, {n}.",
        f"{what}. " + "; ".join(said), frame,
    )  # fmt: skip
    label = metric_text(study.metric) + (f" ({unit(study.metric)})" if unit(study.metric) else "")
    return figures.training(text, curves, label, limits)


def _outcomes(study: Study) -> Table:
    columns = ["arm", "cell", "trials", "trained", "collapsed", "diverged", "pruned", "failed", "unfinished",
               "effective rank", "spread (mean std)"]  # fmt: skip
    rows = [_outcome_row(study, arm, cell) for arm in study.arms for cell in arm.cells]
    return Table("outcomes", "What became of every trial, search included; diagnostics are of the last epoch, "
                 "mean over the cell's evidence.", columns, rows, provenance=True)  # fmt: skip


def _outcome_row(study: Study, arm: Arm, cell: Cell) -> list[Value]:
    rows = cell.everything.drop_duplicates("key")
    counts = rows["outcome"].value_counts()
    unfinished = int(counts.get("waiting", 0) + counts.get("running", 0))

    def shown(n: int, bad: bool) -> Value:
        return Value(n, str(n), tone="fail" if bad and n else "muted" if not n else "")

    return [
        Value(arm.name, name_text(arm.name), tuple(rows["key"]), colour=colour_class(study, arm.name), strong=True),
        plain(cell.text, cell.text or "—"),
        plain(len(rows)),
        plain(int(counts.get("trained", 0))),
        *(shown(int(counts.get(what, 0)), True) for what in ("collapsed", "diverged")),
        shown(int(counts.get("pruned", 0)), False),
        shown(int(counts.get("failed", 0)), True),
        shown(unfinished, True),
        *(_diagnostic(cell, name) for name in ("diag/effective_rank", "diag/std")),
    ]


def _diagnostic(cell: Cell, name: str) -> Value:
    if name not in cell.finished or not cell.finished[name].notna().any():
        return Value(None, "—", tone="muted")
    mean = float(cell.finished[name].mean())
    return plain(mean, number(float(f"{mean:.3g}")))
