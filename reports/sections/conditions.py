"""A contrast again with one thing changed: half the search, no tuning, another metric, equal time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports import statistics as st
from reports.evidence import Arm, Cell, Contrast, Study, confirmed
from reports.sections.searches import finished
from reports.wording import count, duration, is_percent, listing, metric_text, name_text

HOLDS, WEAKER, REVERSED, TURNED, OTHER, OPEN = (
    "holds", "weaker", "reversed", "changes sides, unsettled", "another answer", "cannot be told",
)  # fmt: skip
OTHER_METRICS = ("linear", "knn")
SAME_TIME = 0.05  # two arms whose times differ by no more took the same: timings repeat no better


@dataclass(frozen=True)
class Condition:
    """The contrast again, with one thing changed."""

    name: str
    basis: str  # what judged, and on how many pairs; or why nothing did
    metric: str  # of the estimate
    estimate: st.Estimate | None  # reference − arm
    verdict: str
    outcome: str  # one of the words above
    keys: tuple[str, ...]


class Elsewhere:
    """The sweep under another metric; built once, as it looks through every trial."""

    def __init__(self, study: Study, metric: str) -> None:
        self.study, self.metric = study.judged_by(metric), metric


def conditions(study: Study, reference: Arm, arm: Arm, others: Sequence[Elsewhere]) -> list[Condition]:
    """Those that the ledger has something to say about."""
    if reference.selected is None or arm.selected is None:
        return []
    base = study.compare(reference.selected, arm.selected, name_text(reference.name), name_text(arm.name))
    if base.estimate is None:
        return []
    searches: list[Callable[[], Condition | None]] = [
        lambda: _half_the_search(study, base, reference, arm),
        lambda: _untuned(study, base, reference, arm),
        *(lambda other=other: _another_metric(base, other, reference, arm) for other in others),
        lambda: _equal_time(study, base),
    ]  # fmt: skip
    return [_judged(study, base, found) for search in searches if (found := search()) is not None]


def _judged(study: Study, base: Contrast, found: Condition) -> Condition:
    """With its verdict, and what that makes of the base's."""
    if found.estimate is None:
        return replace(found, verdict=OPEN, outcome=OPEN)
    verdict = st.verdict(found.estimate, study.rope)
    return replace(found, verdict=verdict, outcome=outcome(base, found.estimate, verdict))


def outcome(base: Contrast, estimate: st.Estimate, verdict: str) -> str:
    """holds: the same winner at the same strength or a higher one, or the same lack of one. reversed: another winner
    by an interval that excludes 0. One value has no interval, so it can change sides, but confirm nothing."""
    assert base.estimate is not None
    one_sided = (st.DECIDED, st.LEANING)
    turned = np.sign(estimate.mean) != np.sign(base.estimate.mean)
    if base.verdict in one_sided:
        if turned:
            return REVERSED if verdict in one_sided else TURNED
        if estimate.low is None:
            return OPEN
        return HOLDS if verdict in (base.verdict, st.DECIDED) else WEAKER
    if estimate.low is None:
        return OPEN
    return HOLDS if verdict == base.verdict else WEAKER if verdict == st.UNDECIDED else OTHER


# -- half the search, and none ----------------------------------------------------------------------------------------


def _half_the_search(study: Study, base: Contrast, reference: Arm, arm: Arm) -> Condition | None:
    """Selection redone on the first half of each study's trials. Test judges where both winners were confirmed."""
    if not any(len(cell.searched) for each in (reference, arm) for cell in each.cells):
        return None
    return _reselected(study, base, reference, arm, "under half the search budget", _first_half)


def _untuned(study: Study, base: Contrast, reference: Arm, arm: Arm) -> Condition | None:
    if not (study.sweep.spec.get("search") or {}).get("defaults_first"):
        return None
    return _reselected(study, base, reference, arm, "with the published defaults",
                       lambda rows: rows[rows["ordinal"] == 0])  # fmt: skip


def _first_half(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each study, by ordinal, as planned: 8 of 16, 3 of 7."""
    planned = rows.groupby("study")["ordinal"].transform("size")
    return rows[rows["ordinal"] < np.maximum(planned // 2, 1)]


def _reselected(
    study: Study, base: Contrast, reference: Arm, arm: Arm, name: str, keep: Callable[[pd.DataFrame], pd.DataFrame]
) -> Condition:
    chosen = [_choose(study, each, keep) for each in (reference, arm)]
    keys = tuple(key for choice in chosen if choice for key in choice.keys)
    missing = [name_text(each.name) for each, choice in zip((reference, arm), chosen, strict=True) if choice is None]
    if missing:
        return Condition(name, f"no finished search trial of {listing(missing)}", study.metric, None, "", "", keys)
    a, b = chosen
    assert a is not None
    assert b is not None
    if a.evidence is not None and b.evidence is not None:
        pair = study.compare(a.evidence, b.evidence, base.a_text, base.b_text)
        basis = f"{study.judge_text} of what it selects, {count(len(pair.differences), 'pair')} of seeds"
        return Condition(name, basis, study.judge, pair.estimate, "", "", pair.keys)
    shared = [number for number in a.by_study if number in b.by_study]
    estimate = st.mean_interval([a.by_study[n] - b.by_study[n] for n in shared]) if shared else None
    lacking = [name_text(each.name) for each, choice in zip((reference, arm), (a, b), strict=True)
               if choice.evidence is None]  # fmt: skip
    studies = count(len(shared), "study").replace("studys", "studies")
    basis = f"validation of search trials, {studies}; {listing(lacking)}: never confirmed"
    return Condition(name, basis, study.metric, estimate, "", "", keys)


@dataclass(frozen=True)
class Choice:
    """What an arm would have selected from a part of its search."""

    evidence: Cell | None  # the confirmation of that configuration; None where there is none
    by_study: dict[int, float]  # study → best value of the part
    keys: tuple[str, ...]


def _choose(study: Study, arm: Arm, keep: Callable[[pd.DataFrame], pd.DataFrame]) -> Choice | None:
    """The best of an arm's cells, by the best single value, as the search itself chose what to confirm."""
    kept = [(cell, finished(study, keep(cell.searched))) for cell in arm.cells if len(cell.searched)]
    kept = [(cell, rows) for cell, rows in kept if len(rows)]
    if not kept:
        alone = arm.selected  # one configuration, which needs no search
        return None if alone is None or len(alone.searched) else Choice(alone, {}, alone.keys)
    cell, rows = max(kept, key=lambda pair: (study.sign * pair[1][study.metric]).max())
    best = rows.loc[(study.sign * rows[study.metric]).idxmax()]
    evidence = next((c for c in confirmed(cell) if best["variant"] in set(c.rows["variant"]) and c.complete), None)
    ends = rows.groupby("study")[study.metric].agg("max" if study.sign > 0 else "min")
    return Choice(evidence, {int(str(n)): float(v) for n, v in ends.items()}, tuple(rows["key"]))


# -- another metric ---------------------------------------------------------------------------------------------------


def other_metrics(study: Study) -> list[str]:
    own = study.metric.partition("/")[2]
    columns = study.evidence.columns
    return [
        f"val/{name}" for name in OTHER_METRICS
        if name != own and is_percent(study.metric) and study.sign > 0
        and f"val/{name}" in columns and study.evidence[f"val/{name}"].notna().any()
    ]  # fmt: skip


def _another_metric(base: Contrast, other: Elsewhere, reference: Arm, arm: Arm) -> Condition | None:
    """Cells selected again, by the other metric's validation; the search inside a cell went by the sweep's own."""
    study = other.study
    a, b = (study.arm(each.name, each.encoder) for each in (reference, arm))
    if a is None or b is None or a.selected is None or b.selected is None:
        return None
    pair = study.compare(a.selected, b.selected, base.a_text, base.b_text)
    what = metric_text(study.judge)
    name = f"by {what.replace('validation ', '').replace('test ', '')}"
    if pair.estimate is None:
        return Condition(name, f"{what} is not recorded for every seed", study.judge, None, "", "", pair.keys)
    moved = [name_text(cell.arm) for cell, own in ((a.selected, base.a), (b.selected, base.b))
             if cell.values != own.values]  # fmt: skip
    basis = f"{what}, {count(len(pair.differences), 'pair')} of seeds"
    if moved:
        basis += f"; another cell represents {listing(moved)}"
    return Condition(name, basis, study.judge, pair.estimate, "", "", pair.keys)


# -- equal time -------------------------------------------------------------------------------------------------------


def _equal_time(study: Study, base: Contrast) -> Condition | None:
    """Validation curves, read where the slower arm had trained for as long as the faster one in all. None where both
    took as long: that is the contrast itself."""
    column = "timing/train_seconds" if "timing/train_seconds" in study.sweep.epochs else "timing/seconds"
    if column not in study.sweep.epochs:
        return None
    sides = [_pace(study, cell, column) for cell in (base.a, base.b)]
    if any(pace is None for pace in sides):
        return None
    paces = [pace for pace in sides if pace is not None]
    limit = min(epochs * seconds for epochs, seconds in paces)
    name, keys = "at equal training time", base.keys
    if max(epochs * seconds for epochs, seconds in paces) <= limit * (1 + SAME_TIME):
        return None
    read = [_value_by(study, cell, int(limit * (1 + SAME_TIME) / seconds))
            for cell, (_, seconds) in zip((base.a, base.b), paces, strict=True)]  # fmt: skip
    missing = [name_text(cell.arm) for cell, values in zip((base.a, base.b), read, strict=True) if values is None]
    if missing:
        why = f"within {duration(limit)} no epoch of {listing(missing)} was evaluated: probe more often"
        return Condition(name, why, study.metric, None, "", "", keys)
    (first, a), (second, b) = (found for found in read if found is not None)
    shared = a.index.intersection(b.index)
    estimate = st.mean_interval((a.loc[shared] - b.loc[shared]).to_numpy()) if len(shared) else None
    pairs = count(len(shared), "pair")
    read_at = f"epoch {first} of {base.a_text}, {second} of {base.b_text}"
    basis = f"validation after {duration(limit)} of training: {read_at}; {pairs} of seeds"
    return Condition(name, basis, study.metric, estimate, "", "", keys)


def _pace(study: Study, cell: Cell, column: str) -> tuple[int, float] | None:
    """Epochs of a trial, and the median seconds of one."""
    seconds = study.sweep.epochs_of(cell.keys)[column].dropna()
    return (int(cell.finished["done"].max()), float(seconds.median())) if len(seconds) and len(cell.finished) else None


def _value_by(study: Study, cell: Cell, epoch: int) -> tuple[int, pd.Series] | None:
    """The last epoch up to `epoch` that every seed evaluated, and seed → selecting value there."""
    rows = study.sweep.epochs_of(cell.keys).dropna(subset=[study.metric])
    seen = rows[rows["epoch"] <= epoch].groupby("epoch")["key"].nunique()
    whole = seen.index[seen == cell.planned]
    if not len(whole):
        return None
    at = int(whole.max())
    values = rows[rows["epoch"] == at].assign(key=lambda r: r["key"].astype(str)).set_index("key")[study.metric]
    seeds = cell.rows.set_index("key")["seed"]
    return at, pd.Series(values.to_numpy(float), index=seeds.loc[values.index].to_numpy())
