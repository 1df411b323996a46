"""What the search was worth: the expected best against its length, and the published default against what was found."""

from collections.abc import Sequence

import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Prose, Section
from reports.evidence import Arm, Study, encoder_names
from reports.sections import defaults, lineup
from reports.sections.budget import trained_arms
from reports.sections.searches import Curve, curve_of, searched_cell, worst
from reports.wording import amount, count, listing, metric_text, name_text, unit


def sections(study: Study) -> list[Section]:
    """Shown where a trained arm was searched."""
    encoders = [encoder for encoder in study.encoders if not lineup.covers(study, encoder)]
    groups = [arms for encoder in encoders if (arms := _searched_arms(study, encoder))]
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
    said, found = defaults.blocks(study, [arm for arms in groups for arm in arms])
    answers += said
    blocks += found
    return [Section("tuning", "What tuning was worth", [Prose(answers), *blocks])]


def _searched_arms(study: Study, encoder: str) -> list[Arm]:
    return [arm for arm in trained_arms(study, encoder) if searched_cell(arm) is not None]


# -- the expected best of n -------------------------------------------------------------------------------------------


def _curves(study: Study, arms: Sequence[Arm], rank: int) -> tuple[list[str], list[Block]]:
    spec = study.sweep.spec
    refusal = st.tuning_curve_allowed(str((spec.get("search") or {}).get("sampler")), spec.get("stopping"))
    if refusal is not None and refusal.startswith(st.REFUSED):
        return [f"No tuning curve: {refusal.partition(': ')[2]}."], []
    lowest = worst(study, arms)
    curves = [curve for arm in arms if (curve := curve_of(study, arm, lowest)) is not None]
    if not curves:
        return ["No tuning curve: no search trial has finished."], []
    said = crossing_texts(study, curves)
    return said, [_figure(study, curves, rank, refusal or "")]


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
