"""Choosing λ without labels: how loss / λ^α and the ranks rank the trainings, and what choosing by them costs."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Heading, Prose, Table, Value, plain
from reports.evidence import Arm, Study
from reports.labelfree import (
    PAPER_ALPHA,
    best_alpha,
    correlation_interval,
    held_out,
    regret,
    scaled_loss,
)
from reports.sections.losses import lambdas_of
from reports.wording import count, difference_unit, metric_text, minus, name_text, unit, with_interval

LEAST = 5  # trainings: below, no correlation has an interval
_DETECTED = "which is seen without labels"
_RANKS = {"diag/rankme": "RankMe", "diag/lidar": "LiDAR", "diag/effective_rank": "effective rank"}


@dataclass(frozen=True)
class Pool:
    """Trainings of an arm that ran to their end at λ > 0, collapsed ones among them."""

    rows: pd.DataFrame
    lambdas: np.ndarray
    judge: str  # accuracy to be foretold: test, or validation where test was not read by all
    round: str  # seed | study: within one, somebody chooses a training
    name: str = "all"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.rows["key"])

    @property
    def collapsed(self) -> np.ndarray:
        return (self.rows["outcome"] == "collapsed").to_numpy()

    def trained(self) -> "Pool | None":
        """Without the collapsed ones, which are told without labels; None where there are none, or too few remain."""
        kept = ~self.collapsed
        if kept.all() or kept.sum() < LEAST or len(np.unique(self.lambdas[kept])) < 2:
            return None
        rows = self.rows[kept].reset_index(drop=True)
        return replace(self, rows=rows, lambdas=self.lambdas[kept], name="not collapsed")

    def column(self, name: str) -> np.ndarray:
        return self.rows[name].to_numpy(dtype=float)


@dataclass(frozen=True)
class Criterion:
    """A number without labels: of all trainings of the pool, the one with the lowest score is chosen."""

    name: str
    score: np.ndarray
    rising: bool  # as shown, a larger one promises a better training: the score is its negative
    alpha: str
    rho: st.Estimate | None  # of the number as shown with the accuracy
    regret: st.Estimate

    @property
    def foretells(self) -> bool | None:
        """Whether the interval of ρ lies on the promised side of 0; None without one."""
        if self.rho is None or self.rho.low is None or self.rho.high is None:
            return None
        return self.rho.low > 0 if self.rising else self.rho.high < 0

    @property
    def misleads(self) -> bool:
        """Whether the interval of ρ lies on the other side of 0: what it promises is the worse training."""
        if self.rho is None or self.rho.low is None or self.rho.high is None:
            return False
        return self.rho.high < 0 if self.rising else self.rho.low > 0


def blocks(study: Study, arm: Arm, rank: int) -> list[Block]:
    """Empty with fewer than five trainings, or where no loss was recorded."""
    pool = pool_of(study, arm)
    if pool is None:
        return []
    pools = [pool] if (trained := pool.trained()) is None else [trained, pool]
    found = [(one, criteria(study, one)) for one in pools]
    slug = f"lambda-{rank}-labelfree"
    return [
        Heading("Choosing without labels"),
        Prose([sentence(study, one, criteria) for one, criteria in found]),
        _scatter(study, arm, pools[0], pool, slug),
        _table(study, arm, found, slug),
    ]


def pool_of(study: Study, arm: Arm) -> Pool | None:
    """Search trials where there are enough (they vary in more than λ), else the evidence."""
    trials = study.sweep.trials
    mine = trials[(trials["arm"] == arm.name) & (trials["encoder"] == arm.encoder) & (trials["state"] == "finished")]
    if "train/loss" not in mine:
        return None
    searched = _usable(study, mine[mine["purpose"] == "search"])
    rows = searched if len(searched) >= LEAST else _usable(study, mine[mine["purpose"] != "search"])
    lambdas = lambdas_of(study, rows)
    if len(rows) < LEAST or len(np.unique(lambdas)) < 2:
        return None
    judge = study.judge if rows[study.judge].notna().all() else study.labels
    return Pool(rows, lambdas, judge, "study" if rows is searched else "seed")


def _usable(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.drop_duplicates("key").dropna(subset=["train/loss", study.labels])
    return rows[lambdas_of(study, rows) > 0].reset_index(drop=True)


def criteria(study: Study, pool: Pool) -> list[Criterion]:
    """The loss, loss / λ^α with the paper's α and with one chosen on other cells, and the ranks that were recorded."""
    loss, accuracy = pool.column("train/loss"), study.sign * pool.column(study.labels)
    found = [
        _criterion(study, pool, "training loss", loss, False, "0"),
        _criterion(study, pool, f"loss / λ^{PAPER_ALPHA}", scaled_loss(loss, pool.lambdas, PAPER_ALPHA), False,
                   f"{PAPER_ALPHA} (the paper's)"),
    ]  # fmt: skip
    if (held := held_out(loss, pool.lambdas, accuracy, pool.rows["cell"].tolist())) is not None:
        places, alphas = held
        low, high = alphas.min(), alphas.max()
        said = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
        found.append(_criterion(study, pool, "loss / λ^α, held out", places, False, f"{said} (chosen on other cells)"))
    for column, name in _RANKS.items():
        if column in pool.rows and pool.rows[column].notna().all():
            found.append(_criterion(study, pool, name, -pool.column(column), True, "—"))
    return found


def _criterion(study: Study, pool: Pool, name: str, score: np.ndarray, rising: bool, alpha: str) -> Criterion:
    judged = study.sign * pool.column(pool.judge)
    rho = correlation_interval(-score if rising else score, judged)
    lost = regret(score, study.sign * pool.column(study.labels), judged, pool.rows[pool.round].tolist())
    return Criterion(name, score, rising, alpha, rho, lost)


def sentence(study: Study, pool: Pool, found: list[Criterion]) -> str:
    """What choosing by the held-out loss / λ^α is worth in this pool."""
    by = next((c for c in found if "held out" in c.name), found[1])
    lost = (
        f"choosing by it costs {_regret_text(study, by.regret)} against choosing by labels ({_rounds(pool, by.regret)})"
    )
    n = count(len(pool), "training") + ("" if pool.name == "all" else f" that did not collapse ({_DETECTED})")
    if by.rho is None:
        return f"Whether {by.name} ranks {n} is not known: it or the accuracy does not vary; {lost}."
    rho = f"ρ = {_rho_text(by.rho)} with {metric_text(pool.judge)}"
    if by.foretells:
        return f"Among {n}, the loss foretells the accuracy: {by.name} has {rho}; {lost}."
    if by.misleads:
        return f"Among {n}, the loss foretells the reverse of the accuracy: {by.name} has {rho}; {lost}."
    return f"Among {n}, the loss is not shown to foretell the accuracy: {by.name} has {rho}; {lost}."


def _scatter(study: Study, arm: Arm, ranked: Pool, pool: Pool, slug: str) -> Figure:
    """The whole pool, at the α that ranks one best."""
    which = "all of them" if ranked is pool else "those that did not collapse"
    loss = pool.column("train/loss")
    alpha = best_alpha(ranked.column("train/loss"), ranked.lambdas, study.sign * ranked.column(study.labels))
    alpha = PAPER_ALPHA if np.isnan(alpha) else alpha
    x, y = scaled_loss(loss, pool.lambdas, alpha), pool.column(pool.judge)
    n = count(len(pool), "training")
    data = pool.rows[["key", "arm", "seed", "outcome", "train/loss", pool.judge]].assign(
        **{"lambda": pool.lambdas, "loss / λ^α": x}
    )
    what = f"{metric_text(pool.judge)} against training loss / λ^{alpha:.2g}"
    text = figures.Text(
        slug,
        f"{what[0].upper()}{what[1:]} in {name_text(arm.name)}, n = {n}"
        f"{', search trials' if pool.round == 'study' else ''}, λ > 0. This α was chosen on {which}, "
        "as the paper chose its own; the table has the ρ of one chosen on other cells.",
        f"Scatter: {what}, {n}; loss / λ^α from {x.min():.3g} to {x.max():.3g}, {metric_text(pool.judge)} from "
        f"{y.min():.3g} to {y.max():.3g}.",
        data, wide=True,
    )  # fmt: skip
    label = metric_text(pool.judge) + (f" ({unit(pool.judge)})" if unit(pool.judge) else "")
    return figures.against_loss(
        text, x, y, pool.lambdas, pool.collapsed, f"training loss / λ^{alpha:.2g}, last epoch", label
    )


def _table(study: Study, arm: Arm, found: list[tuple[Pool, list[Criterion]]], slug: str) -> Table:
    pool = found[-1][0]
    points = f" ({difference_unit(pool.judge)})" if difference_unit(pool.judge) else ""
    rounds = "studies" if pool.round == "study" else "seeds"
    columns = ["chosen by", "among", "better", "α", "n (trainings)", "Spearman ρ with accuracy [95 % interval]",
               f"regret{points} [95 % interval]", f"n ({rounds})", "foretells"]  # fmt: skip
    rows = [_row(one, criterion) for one, criteria in found for criterion in criteria]
    collapsed = int(pool.collapsed.sum())
    caption = (
        f"Choosing among {count(len(pool), 'training')} of {name_text(arm.name)} without labels"
        f"{f' ({collapsed} collapsed)' if collapsed else ''}, λ > 0. Accuracy is {metric_text(pool.judge)}; regret is "
        f"what the best on validation has more of it than the chosen one, within a {pool.round}. Held out: a training "
        "is placed by an α that was chosen on all cells but its own. Seeds of one λ resemble each other, so intervals "
        "of ρ are rather too narrow."
    )
    return Table(slug, caption, columns, rows, provenance=True)


def _row(pool: Pool, criterion: Criterion) -> list[Value]:
    rho, lost = criterion.rho, criterion.regret
    words: dict[bool | None, tuple[str, str]] = {
        True: ("yes", "pass"), False: ("not shown", "warn"), None: ("not known", "muted")
    }  # fmt: skip
    word, tone = ("the reverse", "warn") if criterion.misleads else words[criterion.foretells]
    return [
        Value(criterion.name, criterion.name, pool.keys, strong=True),
        plain(pool.name), plain("high" if criterion.rising else "low"), plain(criterion.alpha), plain(len(pool)),
        Value(None, "—", tone="muted") if rho is None else Value(rho.mean, _rho_text(rho), pool.keys),
        Value(lost.mean, minus(with_interval(lost.mean, lost.low, lost.high, pool.judge)), pool.keys), plain(lost.n),
        Value(word, word, tone=tone),
    ]  # fmt: skip


def _rho_text(rho: st.Estimate) -> str:
    def shown(value: float) -> str:
        return minus(f"{round(value, 2) + 0.0:.2f}")

    return shown(rho.mean) + ("" if rho.low is None or rho.high is None else f" [{shown(rho.low)}, {shown(rho.high)}]")


def _regret_text(study: Study, lost: st.Estimate) -> str:
    return f"{with_interval(lost.mean, lost.low, lost.high, study.judge)} {difference_unit(study.judge)}".strip()


def _rounds(pool: Pool, lost: st.Estimate) -> str:
    return f"n = {count(lost.n, pool.round)}".replace("studys", "studies")
