"""What the search was worth: the expected best against its length, and the published default against what was found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Study, encoder_names
from reports.sections.budget import trained_arms
from reports.sections.design import colour_class
from reports.sections.factor import difference_value
from reports.wording import amount, count, difference_unit, listing, metric_text, minus, name_text, unit, with_interval


def sections(study: Study) -> list[Section]:
    """Shown where a trained arm was searched."""
    groups = [arms for encoder in study.encoders if (arms := _searched_arms(study, encoder))]
    if not groups:
        return []
    names = encoder_names(study)
    answers: list[str] = []
    blocks: list[Block] = []
    for rank, arms in enumerate(groups):
        where = f"{names[arms[0].encoder]}: " if len(groups) > 1 else ""
        said, found = _curves(study, arms, rank)
        answers += [f"{where}{text}" for text in said]
        blocks += found
    if changes := [change for arms in groups for arm in arms if (change := against_default(study, arm))]:
        answers.append(_gains_text(study, changes))
        blocks += [_steps(study, changes), _default_table(study, changes)]
    return [Section("tuning", "What tuning was worth", [Prose(answers), *blocks])]


def _searched_arms(study: Study, encoder: str) -> list[Arm]:
    return [arm for arm in trained_arms(study, encoder) if _cell(arm) is not None]


def _cell(arm: Arm) -> Cell | None:
    """The cell whose search is shown: the selected one, else the first that was searched."""
    searched = [cell for cell in arm.cells if len(cell.searched)]
    return next((cell for cell in searched if cell is arm.selected), next(iter(searched), None))


def median_of_studies(study: Study, arm: Arm) -> float | None:
    """Median over studies of the best validation value that each found in the cell that stands for the arm."""
    cell = _cell(arm)
    best = best_of_studies(study, cell) if cell is not None else {}
    return float(np.median(list(best.values()))) if best else None


def best_of_studies(study: Study, cell: Cell, rows: pd.DataFrame | None = None) -> dict[int, float]:
    """Study → best selecting value among its finished search trials (of `rows`, where given)."""
    rows = finished(study, cell.searched if rows is None else rows)
    groups = rows.groupby("study")[study.metric]
    best = groups.max() if study.sign > 0 else groups.min()
    return {int(str(number)): float(value) for number, value in best.items()}


def finished(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["state"] == "finished"].dropna(subset=[study.metric])


# -- the expected best of n -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    arm: Arm
    curve: st.TuningCurve  # of sign × metric: larger is better
    diverged: int
    missing: int  # failed or unfinished, and therefore not among the draws
    keys: tuple[str, ...]
    default: float | None


def _curves(study: Study, arms: Sequence[Arm], rank: int) -> tuple[list[str], list[Block]]:
    spec = study.sweep.spec
    refusal = st.tuning_curve_allowed(str((spec.get("search") or {}).get("sampler")), spec.get("stopping"))
    if refusal is not None and refusal.startswith(st.REFUSED):
        return [f"No tuning curve: {refusal.partition(': ')[2]}."], []
    worst = _worst(study, arms)
    curves = [curve for arm in arms if (curve := _curve(study, arm, worst)) is not None]
    if not curves:
        return ["No tuning curve: no search trial has finished."], []
    said = crossing_texts(study, curves)
    return said, [_figure(study, curves, rank, refusal or "")]


def _worst(study: Study, arms: Sequence[Arm]) -> float:
    """The score of a trial that diverged: the lowest that any finished search trial of these arms reached."""
    scores = [study.sign * finished(study, cell.searched)[study.metric] for arm in arms if (cell := _cell(arm))]
    together = pd.concat(scores) if scores else pd.Series(dtype=float)
    return float(together.min()) if len(together) else math.nan


def _curve(study: Study, arm: Arm, worst: float) -> Curve | None:
    cell = _cell(arm)
    if cell is None:
        return None
    rows = cell.searched
    draws = rows[rows["ordinal"] > 0] if _defaults_first(study) else rows  # the default was no draw
    good, diverged = finished(study, draws), draws[draws["state"] == "diverged"]
    if not len(good):
        return None
    scores = [*(study.sign * good[study.metric].to_numpy(float)), *[worst] * len(diverged)]
    default = _defaults(study, cell)
    return Curve(
        arm, st.tuning_curve(scores), len(diverged), len(draws) - len(good) - len(diverged),
        (*good["key"], *diverged["key"]), float(np.mean(list(default.values()))) if default else None,
    )  # fmt: skip


def crossing_texts(study: Study, curves: Sequence[Curve]) -> list[str]:
    """In words, where the reference and each other arm change places; one sentence for those that never do."""
    reference = study.reference(curves[0].arm.encoder)
    first = next((curve for curve in curves if curve.arm is reference), curves[0])
    said, always = list[str](), dict[tuple[str, str], list[str]]()
    for other in curves:
        if other is first:
            continue
        places = st.crossings(first.curve.mean, other.curve.mean)
        if places:
            said.append(_crossing_text(first, other, places))
        else:
            length = min(len(first.curve.trials), len(other.curve.trials)) - 1
            ahead = first.curve.mean[length] >= other.curve.mean[length]
            chance = "" if _apart(first, other) else ", though their bands overlap throughout"
            always.setdefault(("ahead of" if ahead else "behind", chance), []).append(name_text(other.arm.name))
    name = name_text(first.arm.name)
    said += [
        f"{name} is {side} {listing(names)} at every number of search trials{chance}."
        for (side, chance), names in always.items()
    ]
    return said


def _crossing_text(a: Curve, b: Curve, places: Sequence[int]) -> str:
    one, other = name_text(a.arm.name), name_text(b.arm.name)
    last = places[-1]
    ahead_after = one if a.curve.mean[last - 1] > b.curve.mean[last - 1] else other
    ahead_before = other if ahead_after == one else one
    chance = "" if _bands_part(a, b, last) else "; their bands overlap, so this may be chance"
    if len(places) > 1:
        where = listing([str(n) for n in places])
        return f"{one} and {other} change places at {where} trials, the last time for {ahead_after}{chance}."
    before = "With 1 search trial" if last == 2 else f"Below {last} search trials"
    return f"{before} {ahead_before} is ahead of {ahead_after}, from {last} on {ahead_after} is{chance}."


def _bands_part(a: Curve, b: Curve, n: int) -> bool:
    """Whether the bands are apart somewhere before trial n and somewhere from it on."""
    apart = _apart(a, b)
    return any(at < n for at in apart) and any(at >= n for at in apart)


def _apart(a: Curve, b: Curve) -> list[int]:
    """The numbers of trials at which the bands do not overlap."""
    bands = zip(a.curve.trials, a.curve.low, a.curve.high, b.curve.low, b.curve.high, strict=False)
    return [n for n, low, high, other_low, other_high in bands if low > other_high or high < other_low]


def _figure(study: Study, curves: Sequence[Curve], rank: int, note: str) -> Figure:
    reference = study.reference(curves[0].arm.encoder)
    first = next((curve for curve in curves if curve.arm is reference), curves[0])
    marks = sorted({n for c in curves if c is not first for n in st.crossings(first.curve.mean, c.curve.mean)})
    lines = [_line(study, curve) for curve in curves]
    n = sorted({curve.curve.n for curve in curves})
    diverged, missing = sum(c.diverged for c in curves), sum(c.missing for c in curves)
    of = "trials" if n[-1] > 1 else "trial"
    parts = [
        f"Expected best {metric_text(study.metric)} of a random search against its number of trials, n = "
        f"{n[0] if len(n) == 1 else f'{n[0]} to {n[-1]}'} random search {of} per arm, all studies together; bands are "
        "95 % bootstrap intervals, point by point, and say little towards their right end.",
        "Hollow markers at 0 are the published defaults, mean over studies." if any(c.default for c in curves) else "",
        "Dotted lines mark where an arm changes places with the reference." if 0 < len(marks) <= 3 else "",
        f"{count(diverged, 'diverged trial')} entered with the lowest value found." if diverged else "",
        f"{count(missing, 'trial')} without a result left out." if missing else "",
        f"{note[0].upper()}{note[1:]}." if note else "",
    ]
    alt = "Expected best against search trials. " + "; ".join(
        f"{name_text(c.arm.name)} {_shown(study, c.curve.mean[0])} after 1, {_shown(study, c.curve.mean[-1])} after "
        f"{len(c.curve.trials)}"
        for c in curves
    )
    text = figures.Text(f"tuning-{rank}", " ".join(filter(None, parts)), alt, _frame(study, curves), wide=True)
    label = metric_text(study.metric) + (f" ({unit(study.metric)})" if unit(study.metric) else "")
    return figures.searches(text, lines, label, marks if len(marks) <= 3 else ())


def _line(study: Study, curve: Curve) -> figures.Search:
    c, sign = curve.curve, study.sign
    low, high = (c.low, c.high) if sign > 0 else (c.high, c.low)
    return figures.Search(
        curve.arm.name, study.colours[curve.arm.name], [sign * v for v in c.mean], [sign * v for v in low],
        [sign * v for v in high], curve.default,
    )  # fmt: skip


def _frame(study: Study, curves: Sequence[Curve]) -> pd.DataFrame:
    rows = [
        {"arm": c.arm.name, "search trials": n, "expected best": study.sign * mean, "low": min(ends), "high": max(ends)}
        for c in curves
        for n, mean, *bounds in zip(c.curve.trials, c.curve.mean, c.curve.low, c.curve.high, strict=True)
        for ends in [[study.sign * bound for bound in bounds]]
    ]
    return pd.DataFrame(rows)


def _shown(study: Study, score: float) -> str:
    return amount(study.sign * score, study.metric)


# -- the default against what was found -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """An arm as published and as tuned, on validation."""

    arm: Arm
    defaults: dict[int, float]  # study → value
    best: dict[int, float]  # study → best of its search, the default among it: flatters
    fresh: list[float]  # of the confirmed configuration, on seeds that chose nothing
    same: bool  # the confirmed configuration is the default
    passed: int | None  # random search trials until their expected best reaches the default
    keys: tuple[str, ...]

    @property
    def gain(self) -> float | None:
        return float(np.mean(self.fresh) - np.mean(list(self.defaults.values()))) if self.fresh else None


def _defaults_first(study: Study) -> bool:
    return bool((study.sweep.spec.get("search") or {}).get("defaults_first"))


def _defaults(study: Study, cell: Cell) -> dict[int, float]:
    """Study → selecting value of the published default; {} where the sweep ran none."""
    if not _defaults_first(study):
        return {}
    rows = finished(study, cell.searched[cell.searched["ordinal"] == 0])
    return {int(number): float(value) for number, value in zip(rows["study"], rows[study.metric], strict=True)}


def against_default(study: Study, arm: Arm) -> Change | None:
    """None where the arm's default did not run to its end."""
    cell = _cell(arm)
    defaults = _defaults(study, cell) if cell is not None else {}
    if cell is None or not defaults:
        return None
    confirmed = cell.finished[cell.finished["purpose"] == "confirm"]
    started = cell.searched[cell.searched["ordinal"] == 0]
    same = len(confirmed) > 0 and confirmed["variant"].iloc[0] in set(started["variant"])
    curve = _curve(study, arm, _worst(study, [arm]))
    level = study.sign * float(np.mean(list(defaults.values())))
    reached = [] if curve is None else [n for n, v in zip(curve.curve.trials, curve.curve.mean, strict=True)
                                        if v >= level]  # fmt: skip
    return Change(
        arm, defaults, best_of_studies(study, cell), confirmed[study.metric].astype(float).tolist(), same,
        reached[0] if reached else None, (*started["key"], *confirmed["key"]),
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
    text = f"Tuned against published default, on validation with fresh seeds: {listing(shown)} {points}".rstrip() + "."
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


def _default_table(study: Study, changes: Sequence[Change]) -> Table:
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    points = f" ({difference_unit(study.metric)})" if difference_unit(study.metric) else ""
    columns = [
        "arm", "studies", f"published default{of}", f"best of the search, median of studies{of}",
        f"gain within the search, paired by study [95 % interval]{points}", "fresh seeds",
        f"tuned, fresh seeds{of}", f"gain on fresh seeds{points}", "random trials that reach the default",
    ]  # fmt: skip
    caption = (
        "The published default against the tuned configuration, all on validation. The gain within the search chose "
        "its own best and is never negative; the gain on fresh seeds did not, but compares different seeds, so it has "
        "no paired interval. The last column is where the expected best of a random search passes the default."
    )
    return Table("default-tuned", caption, columns, [_default_row(study, c) for c in changes], provenance=True)


def _default_row(study: Study, change: Change) -> list[Value]:
    nothing = Value(None, "—", tone="muted")
    before, best = float(np.mean(list(change.defaults.values()))), float(np.median(list(change.best.values())))
    shared = [number for number in change.defaults if number in change.best]
    within = st.mean_interval([change.best[number] - change.defaults[number] for number in shared]) if shared else None
    after, gain = (float(np.mean(change.fresh)), change.gain) if change.fresh else (math.nan, None)
    shown = "the default won" if change.same else ""
    return [
        Value(change.arm.name, name_text(change.arm.name), change.keys, colour=colour_class(study, change.arm.name),
              strong=True),
        plain(len(change.defaults)),
        plain(before, minus(amount(before, study.metric))),
        plain(best, minus(amount(best, study.metric))),
        difference_value(within, study.metric),
        plain(len(change.fresh)),
        nothing if gain is None else plain(after, minus(amount(after, study.metric))),
        nothing if gain is None else plain(
            gain, with_interval(gain, None, None, study.metric, sign=True) + (f" ({shown})" if shown else "")
        ),
        Value(None, "none did", tone="muted") if change.passed is None else plain(change.passed),
    ]  # fmt: skip
