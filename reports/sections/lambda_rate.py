"""λ and the learning rate: whether the best rate moves with λ, from search trials or from a crossed grid."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import figures
from reports.content import Block, Figure, Heading, Prose, Table, Value, plain
from reports.evidence import Arm, Study
from reports.interaction import Best, Slope, Try, best_of_each, slope
from reports.sections.factor import LAMBDA, line_of
from reports.spoken import spoken
from reports.wording import amount, cell_text, count, listing, metric_text, minus, name_text, number, unit

RATE = "optimizer.lr"
_GRID = " On a grid it is no finer than the grid's step, and nothing wide where all seeds agree."
_LEAST = 2  # finished trials, with different rates, that a λ needs to have a best one


@dataclass(frozen=True)
class Tried:
    """What was tried of λ × learning rate, all else but searched parameters standing still."""

    # trials, with columns λ, lr, round, reached (the metric, larger is better) and whole (False where another seed of
    # the cell did not finish: it cannot be the best)
    rows: pd.DataFrame
    crossed: bool  # the rates are a scientific factor; else they were searched
    fixed: str  # the values of other scientific factors
    left_out: str  # a sentence on λ of which too little finished

    @property
    def tries(self) -> list[Try]:
        finished = self.rows[(self.rows["state"] == "finished") & self.rows["whole"]]
        columns = (finished[name] for name in ("λ", "lr", "reached", "round"))
        return [Try(float(x), float(y), float(v), r) for x, y, v, r in zip(*columns, strict=True) if np.isfinite(v)]

    @property
    def round(self) -> str:
        return "seed" if self.crossed else "study"

    def rounds(self, n: int) -> str:
        """`3 studies`."""
        return count(n, self.round).replace("studys", "studies")


def blocks(study: Study, arm: Arm, rank: int) -> list[Block]:
    """Empty where no two λ have several learning rates each."""
    found = tried(study, arm)
    if found is None:
        return []
    best, moved = best_of_each(found.tries), slope(found.tries)
    slug = f"lambda-{rank}-rate"
    chart = _heat_map(study, arm, found, best, slug) if found.crossed else _landscape(study, arm, found, best, slug)
    said = [] if moved is None else [Prose([sentence(found, moved)])]
    return [Heading("λ and the learning rate"), *said, chart, _table(study, arm, found, best, slug)]


def tried(study: Study, arm: Arm) -> Tried | None:
    if arm.selected is None:
        return None
    crossed = len({cell.values.get(RATE) for cell in arm.cells}) > 1
    if crossed:  # every cell that differs from the selected one in λ or rate
        fixed = {path: value for path, value in arm.selected.values.items() if path not in (LAMBDA, RATE)}
        cells = [cell for cell in arm.cells if fixed.items() <= cell.values.items()]
        rows = [cell.rows.assign(λ=cell.values[LAMBDA], round=cell.rows["seed"], whole=cell.complete) for cell in cells]
    else:
        cells = line_of(arm, LAMBDA, arm.selected)
        rows = [cell.searched.assign(λ=cell.values[LAMBDA], round=cell.searched["study"], whole=True) for cell in cells]
    rest = {path: value for path, value in arm.selected.values.items() if path not in (LAMBDA, RATE)}
    whole = pd.concat(rows, ignore_index=True)
    rates = [study.sweep.configs[key].get("optimizer", {}).get("lr") for key in whole["key"]]
    whole = whole.assign(lr=pd.Series(rates, dtype=float), reached=study.sign * whole[study.metric].astype(float))
    whole = whole[whole["lr"] > 0]
    finished = whole[(whole["state"] == "finished") & whole["reached"].notna() & whole["whole"]]
    kept = [lamb for lamb, part in finished.groupby("λ") if part["lr"].nunique() >= _LEAST]
    if len(kept) < 2:
        return None
    few = [number(lamb) for lamb in sorted(whole["λ"].unique()) if lamb not in kept]
    are = "is" if len(few) == 1 else "are"
    left_out = f" λ = {listing(few)} {are} left out: fewer than two learning rates finished there." if few else ""
    return Tried(whole[whole["λ"].isin(kept)], crossed, cell_text(rest), left_out)


def sentence(found: Tried, moved: Slope) -> str:
    """Whether the best learning rate moves with λ."""
    shown = minus(f"{moved.value:.2f}")
    n = f"n = {found.rounds(moved.rounds)}"
    if moved.low is None or moved.high is None:
        return f"The best learning rate goes as λ to the power {shown} ({n}: no interval)."
    if moved.rounds == 1:
        n += f" of {count(len(found.tries), 'finished trial')}; {moved.how}, approximate"
    interval = f"[{minus(f'{moved.low:.2f}')}, {minus(f'{moved.high:.2f}')}]"
    if moved.moves:
        way = "rises" if moved.value > 0 else "falls"
        return f"The best learning rate {way} with λ, by {shown} {interval} decades per decade of λ ({n}): tune both."
    return (
        f"That the best learning rate moves with λ is not shown: {shown} {interval} decades per decade of λ ({n}), an "
        "interval that holds 0."
    )


def _landscape(study: Study, arm: Arm, found: Tried, best: list[Best], slug: str) -> Figure:
    points = [
        figures.Tried(row["λ"], row["lr"], row[study.metric] if row["state"] == "finished" else None, row["outcome"])
        for _, row in found.rows.iterrows()
    ]
    peaks = [figures.Peak(b.x, b.y, b.low, b.high) for b in best]
    return figures.landscape(
        _text(study, arm, found, best, slug), points, peaks, "λ (log scale)", "learning rate (log scale)",
        _label(study),
    )  # fmt: skip


def _heat_map(study: Study, arm: Arm, found: Tried, best: list[Best], slug: str) -> Figure:
    xs, ys = sorted(found.rows["λ"].unique()), sorted(found.rows["lr"].unique())
    values = np.full((len(ys), len(xs)), np.nan)
    words = [[""] * len(xs) for _ in ys]
    for (x, y), part in found.rows.groupby(["λ", "lr"]):
        i, j, whole = xs.index(x), ys.index(y), (part["state"] == "finished").all()
        lost, ends = Counter(part["outcome"]), Counter(part.loc[part["state"] != "finished", "state"])
        values[j, i] = part[study.metric].astype(float).mean() if whole else np.nan
        words[j][i] = amount(values[j, i], study.metric) if whole else ends.most_common(1)[0][0]
        if whole and lost["collapsed"]:
            words[j][i] += " ×"
    means = np.where(np.isnan(values), -np.inf, study.sign * values)
    rows = [int(means[:, i].argmax()) if np.isfinite(means[:, i]).any() else None for i in range(len(xs))]
    return figures.heat_map(
        _text(study, arm, found, best, slug), xs, ys, values, words, rows, "λ", "learning rate", _label(study)
    )


def _label(study: Study) -> str:
    return metric_text(study.metric) + (f" ({unit(study.metric)})" if unit(study.metric) else "")


def _text(study: Study, arm: Arm, found: Tried, best: list[Best], slug: str) -> figures.Text:
    states = Counter(found.rows["state"])
    lost = ", ".join(f"{n} {state}" for state, n in states.items() if state != "finished")
    n = f"n = {count(states['finished'], 'finished trial')}{f', {lost}' if lost else ''}"
    where = f" at {found.fixed}" if found.fixed else ""
    if found.crossed:
        how = "means over seeds; the frame marks the best rate of each λ, × a mean with collapsed seeds in it"
    else:
        how = (
            "search trials only, hence validation; rings are pruned trials, which count for nothing; diamonds mark the "
            f"best rate of each λ with its 95 % interval ({best[0].how})"
        )
    what = f"{metric_text(study.metric)} over λ and the learning rate"
    said = spoken([f"λ {number(b.x)}: best at {b.y:.2g}" for b in best])
    metrics = [study.metric] if study.metric in found.rows else []
    data = found.rows[["key", "arm", "λ", "lr", "round", "seed", "state", "outcome", *metrics]]
    data = data.rename(columns={"λ": LAMBDA, "lr": RATE, "round": found.round})
    data = data.loc[:, ~data.columns.duplicated()]
    return figures.Text(
        slug, f"{what[0].upper()}{what[1:]} in {name_text(arm.name)}{where}, {n}; {how}.", f"{what}. {said}.", data,
        wide=True,
    )  # fmt: skip


def _table(study: Study, arm: Arm, found: Tried, best: list[Best], slug: str) -> Table:
    columns = ["λ", f"n ({'seeds' if found.crossed else 'studies'})", "finished", "pruned", "diverged",
               "best learning rate", "from", "to", f"best {_label(study)}"]  # fmt: skip
    rows = []
    for b in best:
        part = found.rows[found.rows["λ"] == b.x]
        states = Counter(part["state"])
        top = float(part.loc[part["state"] == "finished", "reached"].max()) * study.sign
        keys = tuple(dict.fromkeys(part["key"]))
        rows.append([
            Value(b.x, number(b.x), keys, strong=True), plain(b.rounds), plain(b.tries),
            *(Value(states[name], str(states[name]), tone="muted" if not states[name] else "")
              for name in ("pruned", "diverged")),
            Value(b.y, f"{b.y:.2g}", keys), *_bounds(b), plain(top, amount(top, study.metric)),
        ])  # fmt: skip
    rounds = {b.rounds for b in best}
    how = f"of the only {found.round}" if rounds == {1} else f"geometric mean over {found.rounds(max(rounds))}"
    caption = (
        f"Best learning rate of each λ in {name_text(arm.name)}, on {metric_text(study.metric)}: {how}, and its 95 % "
        f"interval ({best[0].how}).{found.left_out}{_GRID if found.crossed else ''}"
    )
    return Table(slug, caption, columns, rows, provenance=True)


def _bounds(b: Best) -> list[Value]:
    if b.low is None or b.high is None:
        return [Value(None, "—", tone="muted")] * 2
    return [plain(b.low, f"{b.low:.2g}"), plain(b.high, f"{b.high:.2g}")]
