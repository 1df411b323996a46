"""The published default against what tuning found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Table, Value, plain
from reports.evidence import Arm, Study
from reports.sections.design import colour_class
from reports.sections.factor import difference_value
from reports.sections.searches import (
    best_of_studies,
    curve_of,
    defaults_first,
    published,
    searched_cell,
    searched_keys,
    worst,
)
from reports.wording import amount, difference_unit, listing, metric_text, minus, name_text, unit, with_interval


@dataclass(frozen=True)
class Change:
    """An arm as published and as tuned, on validation."""

    arm: Arm
    defaults: dict[int, float]  # study → value
    best: dict[int, float]  # study → best of its search, the default among it: flatters
    fresh: list[float]  # of the confirmed configuration, on seeds that chose nothing
    same: bool  # the confirmed configuration is the default
    passed: int | None  # random search trials until their expected best reaches the default
    default_keys: tuple[str, ...]
    fresh_keys: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.default_keys, *self.fresh_keys)

    @property
    def gain(self) -> float | None:
        return float(np.mean(self.fresh) - np.mean(list(self.defaults.values()))) if self.fresh else None


def blocks(study: Study, arms: Sequence[Arm]) -> tuple[list[str], list[Block]]:
    """Sentences, and the figure and table; nothing where the sweep did not begin with the defaults."""
    if not defaults_first(study):
        return [], []
    changes = [(arm, against_default(study, arm)) for arm in arms]
    known = [change for _, change in changes if change is not None]
    lost = [f"{name_text(arm.name)} ({_lost(arm)})" for arm, change in changes if change is None]
    said = [f"The published default did not run to its end for {listing(lost)}."] if lost else []
    if not known:
        return said, []
    return [_gains_text(study, known), *said], [_steps(study, known), _table(study, known)]


def _lost(arm: Arm) -> str:
    """What became of the default, study by study."""
    cell = searched_cell(arm)
    states = [] if cell is None else cell.searched.loc[cell.searched["ordinal"] == 0, "state"].tolist()
    return listing([f"{states.count(state)} {state}" for state in dict.fromkeys(states)]) or "not there"


def against_default(study: Study, arm: Arm) -> Change | None:
    """None where the arm's default did not run to its end."""
    cell = searched_cell(arm)
    defaults = published(study, cell) if cell is not None else {}
    if cell is None or not defaults:
        return None
    confirmed = cell.finished[cell.finished["purpose"] == "confirm"]
    started = cell.searched[cell.searched["ordinal"] == 0]
    same = len(confirmed) > 0 and confirmed["variant"].iloc[0] in set(started["variant"])
    curve = curve_of(study, arm, worst(study, [arm]))
    level = study.sign * float(np.mean(list(defaults.values())))
    reached = [] if curve is None else [n for n, v in zip(curve.curve.trials, curve.curve.mean, strict=True)
                                        if v >= level]  # fmt: skip
    return Change(
        arm, defaults, best_of_studies(study, cell), confirmed[study.metric].astype(float).tolist(), same,
        reached[0] if reached else None, tuple(started["key"]), tuple(confirmed["key"]),
    )  # fmt: skip


def _gains_text(study: Study, changes: Sequence[Change]) -> str:
    known = [(change, change.gain) for change in changes if change.gain is not None]
    kept = [name_text(change.arm.name) for change in changes if change.same]
    points = difference_unit(study.metric)
    if not known:
        return "What tuning gains over the published defaults is not known: nothing was confirmed on fresh seeds."
    ranked = sorted(known, key=lambda pair: -study.sign * pair[1])
    shown = [f"{name_text(c.arm.name)} {with_interval(gain, None, None, study.metric, sign=True)}"
             for c, gain in ranked]  # fmt: skip
    head = f"Tuned against published default, {study.selected_on} with fresh seeds"
    text = f"{head}: {listing(shown)} {points}".rstrip() + "."
    return text + (f" For {listing(kept)} the default was the best found." if kept else "")


def _steps(study: Study, changes: Sequence[Change]) -> Figure:
    seeds = sorted({len(c.fresh) for c in changes})
    studies = sorted({len(c.defaults) for c in changes})
    after = f"fresh seeds (n = {' to '.join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))})"
    before = f"studies (n = {' to '.join(map(str, dict.fromkeys([studies[0], studies[-1]])))})"
    label = metric_text(study.metric) + (f" ({unit(study.metric)})" if unit(study.metric) else "")
    rows = [
        figures.Step(c.arm.name, study.colours[c.arm.name], list(c.defaults.values()), c.fresh or list(c.best.values()))
        for c in changes
    ]
    caption = (
        f"{label[0].upper()}{label[1:]} of the published default, mean over {before}, and of the tuned configuration, "
        f"mean over {after}; small dots are studies below the line and seeds above it."
    )
    if any(not c.fresh for c in changes):
        caption += " An arm that was not confirmed is shown with the best of its studies, which flatters."
    alt = "Default and tuned. " + "; ".join(
        f"{name_text(row.label)} {amount(float(np.mean(row.defaults)), study.metric)} to "
        f"{amount(float(np.mean(row.tuned)), study.metric)}"
        for row in rows
    )
    frame = pd.DataFrame(
        [{"arm": c.arm.name, "what": what, "value": value}
         for c in changes
         for what, values in (("default", c.defaults.values()), ("best of study", c.best.values()),
                              ("tuned, fresh seed", c.fresh))
         for value in values]
    )  # fmt: skip
    return figures.steps(figures.Text("default-tuned", caption, alt, frame), rows, label)


def _table(study: Study, changes: Sequence[Change]) -> Table:
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    points = f" ({difference_unit(study.metric)})" if difference_unit(study.metric) else ""
    columns = [
        "arm", "studies", f"published default{of}", f"best of the search, median of studies{of}",
        f"gain within the search, paired by study [95 % interval]{points}", "fresh seeds",
        f"tuned, fresh seeds{of}", f"gain on fresh seeds{points}", "random trials that reach the default",
    ]  # fmt: skip
    caption = (
        f"The published default against the tuned configuration, all {study.selected_on}. The gain within the search "
        "chose its own best and is never negative; the gain on fresh seeds did not, but compares different seeds, so "
        "it has no paired interval. The last column is where the expected best of a random search passes the default."
    )
    return Table("default-tuned", caption, columns, [_row(study, c) for c in changes], provenance=True)


def _row(study: Study, change: Change) -> list[Value]:
    arm, searched = change.arm, searched_keys(change.arm)
    shared = [number for number in change.defaults if number in change.best]
    within = st.mean_interval([change.best[number] - change.defaults[number] for number in shared]) if shared else None
    nothing = Value(None, "—", tone="muted")
    fresh = gained = nothing
    if change.gain is not None:
        fresh = _amount(study, float(np.mean(change.fresh)), change.fresh_keys)
        note = " (the default won)" if change.same else ""
        gained = Value(change.gain, with_interval(change.gain, None, None, study.metric, sign=True) + note, change.keys)
    return [
        Value(arm.name, name_text(arm.name), change.keys, colour=colour_class(study, arm.name), strong=True),
        plain(len(change.defaults)),
        _amount(study, float(np.mean(list(change.defaults.values()))), change.default_keys),
        _amount(study, float(np.median(list(change.best.values()))), searched),
        difference_value(within, study.metric, searched),
        plain(len(change.fresh)),
        fresh,
        gained,
        Value(None, "none did", tone="muted") if change.passed is None else Value(
            change.passed, str(change.passed), searched
        ),
    ]  # fmt: skip


def _amount(study: Study, value: float, keys: tuple[str, ...]) -> Value:
    return Value(value, minus(amount(value, study.metric)), keys)
