"""How often each arm collapsed or diverged, search trials included, with the interval that so few trials allow."""

from collections.abc import Mapping

import pandas as pd

from reports import statistics as st
from reports.content import Prose, Section, Table, Value, plain
from reports.evidence import Arm, Study, encoder_names
from reports.sections import recipes
from reports.sections.budget import trained_arms
from reports.sections.design import colour_class
from reports.wording import count, listing, name_text

KNOWN = ("trained", "collapsed", "diverged")  # outcomes of trials that came to their own end


def sections(study: Study) -> list[Section]:
    """Shown where two trained arms share an encoder and any trial came to its end."""
    shown = [encoder for encoder in study.encoders if not _told_already(study, encoder)]
    arms = [arm for encoder in shown if len(group := trained_arms(study, encoder)) > 1 for arm in group]
    ended = {id(arm): _ended(arm) for arm in arms}
    if not any(len(rows) for rows in ended.values()):
        return []
    names = encoder_names(study) if len({arm.encoder for arm in arms}) > 1 else {}
    rows = [_row(study, arm, ended[id(arm)], names) for arm in arms]
    columns = [
        "arm", *(["encoder"] if names else []), "trials that ended", "collapsed", "collapse rate [95 % interval] (%)",
        "diverged", "divergence rate [95 % interval] (%)", "pruned",
    ]  # fmt: skip
    caption = (
        "Collapse and divergence of every trial that came to its own end, search included. A pruned trial did not, so "
        "it enters no rate. Intervals are of a rate of independent trials."
    )
    return [Section("rates", "Collapse and divergence", [
        Prose([_answer(arms, ended, names)]), Table("rates", caption, columns, rows, provenance=True)
    ])]  # fmt: skip


def _told_already(study: Study, encoder: str) -> bool:
    """The switch matrix counts outcomes itself; a search has more trials than it shows."""
    searched = any(len(cell.searched) for arm in study.within(encoder) for cell in arm.cells)
    return recipes.covers(study, encoder) and not searched


def _ended(arm: Arm) -> pd.DataFrame:
    rows = _all(arm)
    return rows[rows["outcome"].isin(KNOWN)]


def _all(arm: Arm) -> pd.DataFrame:
    return pd.concat([cell.everything for cell in arm.cells]).drop_duplicates("key")


def _answer(arms: list[Arm], ended: dict[int, pd.DataFrame], names: Mapping[str, str]) -> str:
    total = sum(len(rows) for rows in ended.values())
    said = []
    for outcome in ("collapsed", "diverged"):
        found = [(arm, int((ended[id(arm)]["outcome"] == outcome).sum()), len(ended[id(arm)])) for arm in arms]
        hit = [f"{_text(arm, names)} ({k} of {n})" for arm, k, n in found if k]
        said.append(f"{listing(hit)} {outcome}" if hit else f"none {outcome}")
    return f"Of {count(total, 'trial')} that ended: {'; '.join(said)}."


def _text(arm: Arm, names: Mapping[str, str]) -> str:
    return f"{name_text(arm.name)} with {names[arm.encoder]}" if names else name_text(arm.name)


def _row(study: Study, arm: Arm, ended: pd.DataFrame, names: Mapping[str, str]) -> list[Value]:
    everything = _all(arm)
    pruned = int((everything["state"] == "pruned").sum())
    name = Value(arm.name, name_text(arm.name), tuple(everything["key"]), colour=colour_class(study, arm.name),
                 strong=True)  # fmt: skip
    return [
        name,
        *([plain(names[arm.encoder])] if names else []),
        plain(len(ended)),
        *_rate(ended, "collapsed"),
        *_rate(ended, "diverged"),
        Value(pruned, str(pruned), tone="" if pruned else "muted"),
    ]


def _rate(ended: pd.DataFrame, outcome: str) -> list[Value]:
    keys = tuple(ended.loc[ended["outcome"] == outcome, "key"])
    if not len(ended):
        return [plain(0), Value(None, "—", tone="muted")]
    rate = st.rate_interval(len(keys), len(ended))
    low, high = rate.low or 0.0, rate.high or 0.0
    shown = f"{100 * rate.mean:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
    return [
        Value(len(keys), f"{len(keys)} of {len(ended)}", keys, tone="fail" if keys else "muted"),
        Value(rate.mean, shown, tuple(ended["key"]), tone="fail" if keys else "muted"),
    ]
