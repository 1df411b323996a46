"""What selecting without labels has chosen, what labels would have chosen, and what lies between: the regret."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import statistics as st
from reports.content import Block, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Study
from reports.labelfree import regret
from reports.selecting import unmasked
from reports.wording import (
    count,
    difference_unit,
    listing,
    metric_text,
    minus,
    name_text,
    with_interval,
)


@dataclass(frozen=True)
class Choice:
    """One decision of an arm: among the cells, or among the search trials of every study."""

    arm: Arm
    among: str
    chosen: str  # without labels
    by_labels: str
    regret: st.Estimate | None  # what labels would have given more, of `judge`; None where nobody knows
    alone: float | None  # the same, had what collapsed not ranked last; None where that changes nothing
    judge: str
    rounds: str
    keys: tuple[str, ...]


def sections(study: Study) -> list[Section]:
    """Empty where labels selected."""
    if not study.label_free:
        return []
    found = choices(study)
    blocks: list[Block] = [Prose([sentence(study, found)]), *([_table(study, found)] if found else [])]
    return [Section("labelfree", "Selected without labels", blocks)]


def choices(study: Study) -> list[Choice]:
    trained = [arm for arm in study.arms if not arm.is_floor]
    return [found for arm in trained for found in (_of_cells(study, arm), _of_search(study, arm)) if found is not None]


# -- among the cells --------------------------------------------------------------------------------------------------


def _of_cells(study: Study, arm: Arm) -> Choice | None:
    cells = [cell for cell in arm.cells if cell.complete and cell.finished[study.labels].notna().all()]
    if len(cells) < 2 or arm.selected is None or not arm.selected.complete:
        return None
    best = max(cells, key=lambda cell: float(cell.finished[study.labels].mean()))
    alone = unmasked(study.sweep).groupby(study.sweep.trials["key"]).first()
    by_number = max(cells, key=lambda cell: _mean(alone, cell))
    return Choice(
        arm, f"{count(len(cells), 'cell')}", _text(arm.selected), _text(best), _lost(study, best, arm.selected),
        None if by_number is arm.selected else _difference(best, by_number), study.judge, "seed",
        tuple(dict.fromkeys([*arm.selected.keys, *best.keys])),
    )  # fmt: skip


def _mean(numbers: pd.Series, cell: Cell) -> float:
    values = numbers.reindex(cell.finished["key"]).to_numpy(dtype=float)
    return -np.inf if np.isnan(values).any() else float(values.mean())  # λ = 0 has none


def _text(cell: Cell) -> str:
    return cell.text + (" (collapsed)" if cell.count("collapsed") else "")


def _lost(study: Study, best: Cell, chosen: Cell) -> st.Estimate | None:
    if best is chosen:
        return st.Estimate(0.0, None, None, chosen.planned, "")
    return study.compare(best, chosen, "", "").estimate


def _difference(best: Cell, other: Cell) -> float:
    return float(best.judged.mean() - other.judged.mean())


# -- among the trials of a search -------------------------------------------------------------------------------------


def _of_search(study: Study, arm: Arm) -> Choice | None:
    """Judged on validation: search trials never read test."""
    parts = [cell.searched.assign(round=[f"{place} {n}" for n in cell.searched["study"]]) for place, cell in
             enumerate(arm.cells) if len(cell.searched)]  # fmt: skip
    if not parts:
        return None
    rows = pd.concat(parts)
    rows = rows[(rows["state"] == "finished") & rows[study.labels].notna()]
    if rows.empty:
        return None
    numbers = unmasked(study.sweep).groupby(study.sweep.trials["key"]).first()
    score = -rows[study.metric].fillna(-np.inf).to_numpy(dtype=float)
    alone = -numbers.reindex(rows["key"]).fillna(-np.inf).to_numpy(dtype=float)
    values, rounds = rows[study.labels].to_numpy(dtype=float), rows["round"].tolist()
    lost, without = (regret(one, values, values, rounds) for one in (score, alone))
    return Choice(
        arm, count(len(rows), "search trial"), "per study", "per study", lost,
        without.mean if without.mean != lost.mean else None, study.labels, "study", tuple(rows["key"]),
    )  # fmt: skip


# -- words ------------------------------------------------------------------------------------------------------------


def sentence(study: Study, found: list[Choice]) -> str:
    trained = study.sweep.trials[~study.sweep.trials["method"].isin(["random", "pixels"])].drop_duplicates("key")
    gone = int((trained["outcome"] == "collapsed").sum())
    said = (
        f"{study.metric} selected, in stopping, search and choice; larger is better, and no label was read for it. "
        f"Labels judge, by {study.judge_text}. "
    )
    said += (
        f"{count(gone, 'training')} of {len(trained):,} collapsed and rank last, whatever their loss. " if gone
        else f"None of {count(len(trained), 'training')} collapsed. "
    )  # fmt: skip
    return said + " ".join(_cost(one) for one in found)


def _cost(one: Choice) -> str:
    where = f"Among {one.among} of {name_text(one.arm.name)}"
    if one.regret is None:
        return f"{where}, the regret is not known."
    if one.rounds == "seed" and one.chosen == one.by_labels:
        said = f"{where}, labels would have chosen the same"
    else:
        said = f"{where}, the choice {_worth(one.regret, one.judge)} of {metric_text(one.judge)} against that by labels"
    if one.alone is not None:
        said += f"; had what collapsed not ranked last, it would cost {_points(one.alone, one.judge)}"
    return f"{said}."


def _worth(lost: st.Estimate, judge: str) -> str:
    if lost.low is None or lost.high is None or lost.low > 0:
        return f"costs {_shown(lost, judge)}"
    if lost.high < 0:
        return f"gains {_shown(st.Estimate(-lost.mean, -lost.high, -lost.low, lost.n, lost.how), judge)}"
    return f"is not shown to cost or gain, at {_shown(lost, judge)}"


def _shown(lost: st.Estimate, judge: str) -> str:
    return f"{minus(with_interval(lost.mean, lost.low, lost.high, judge))} {difference_unit(judge)}".strip()


def _points(lost: float, judge: str) -> str:
    return f"{minus(with_interval(lost, None, None, judge))} {difference_unit(judge)}".strip()


def _table(study: Study, found: list[Choice]) -> Table:
    columns = ["arm", "among", "chosen without labels", "chosen by labels", "judged on", "regret [95 % interval]", "n",
               "regret of the number alone"]  # fmt: skip
    rounds = listing(sorted({f"{one.rounds}s".replace("studys", "studies") for one in found}))
    caption = (
        f"Choosing by {study.metric} against choosing by {metric_text(study.labels)}, n = {rounds}. Regret: what the "
        "choice by labels has more of what judges, paired by seed among cells and within a study among search trials, "
        "which never read test. The number alone: had what collapsed not ranked last."
    )
    return Table("labelfree", caption, columns, [_row(one) for one in found], provenance=True)


def _row(one: Choice) -> list[Value]:
    lost, nothing = one.regret, Value(None, "—", tone="muted")
    return [
        Value(one.arm.name, name_text(one.arm.name), one.keys, strong=True), plain(one.among), plain(one.chosen),
        plain(one.by_labels), plain(metric_text(one.judge)),
        nothing if lost is None else Value(lost.mean, _shown(lost, one.judge), one.keys),
        nothing if lost is None else plain(lost.n),
        plain("the same") if one.alone is None else Value(one.alone, _points(one.alone, one.judge), tone="warn"),
    ]  # fmt: skip
