"""Checks of what training came to: whether anything was learned, whether it had settled, whether its loss says so."""

import json
from collections.abc import Sequence

import pandas as pd

from reports import statistics as st
from reports.evidence import Arm, Cell, Study
from reports.sections.gate_check import Check, all_keys, compared_cells, concluded, shortly, uncompared, unmeasured, who
from reports.wording import (
    amount,
    difference_unit,
    encoder_text,
    listing,
    metric_text,
    with_interval,
)

RISING_WINDOW = 0.2  # last share of the epochs in which a curve must have settled
PROBES = 3  # at least, to tell whether a curve has settled
PROBES_OF_HALVES = 4  # at least, to tell how both halves of a training went


# -- against the random encoder ---------------------------------------------------------------------------------------


def above_the_floor(study: Study) -> Check | None:
    """Whether each trained arm, in each encoder, beats that encoder untrained.

    Nothing was learned where the upper end of the gain's interval is at most the ROPE; where the interval holds 0 and
    reaches beyond the ROPE, the gain is not shown, which says as much of the seeds as of the arm.
    """
    name = "Trained arms beat the random encoder"
    nothing: list[str] = []
    open_: list[str] = []
    above: list[str] = []
    why_not: dict[str, str] = {}
    cells: list[Cell] = []
    trained = [arm for arm in study.arms if not arm.is_floor]
    for arm in trained:
        said = _in_encoder(study, arm)
        floor = next((f.selected for f in study.floors(arm.encoder) if f.method == "random"), None)
        if floor is None or arm.selected is None:
            why_not[said] = "no random encoder was evaluated" if floor is None else "no trial has finished"
            continue
        cells += [arm.selected, floor]
        gain = study.compare(arm.selected, floor, arm.name, "random").estimate
        if gain is None or gain.low is None or gain.high is None:
            why_not[said] = "seeds are missing on a side" if gain is None else "one seed has no interval"
            continue
        low, high = (gain.low, gain.high) if study.sign > 0 else (-gain.high, -gain.low)
        shown = f"{said} ({_gain_text(study, gain)})"
        (above if low > 0 else nothing if high <= study.rope else open_).append(shown)
    if not trained:
        return None
    bad = _not_above(study, nothing, open_)
    good = f"the interval of the gain lies above 0: {shortly(above)}" if above else ""
    return concluded(name, bad, good, why_not, all_keys(cells))


def _not_above(study: Study, nothing: Sequence[str], open_: Sequence[str]) -> str:
    rope = f"±{study.rope:g} {difference_unit(study.judge)}".rstrip()
    these = "it" if len(nothing) == 1 else "these"
    parts = [f"not shown, as the interval of the gain holds 0: {listing(open_)}"] if open_ else []
    if nothing:
        parts.append(
            "nothing was learned that the probe reads, as the interval of the gain ends at or below the ROPE of "
            f"{rope}: {listing(nothing)}; a contrast with {these} says little of the method"
        )
    return "; ".join(parts)


def _gain_text(study: Study, gain: st.Estimate) -> str:
    shown = with_interval(gain.mean, gain.low, gain.high, study.judge, sign=True)
    return f"{shown} {difference_unit(study.judge)}".strip() + f", n = {gain.n}"


def _in_encoder(study: Study, arm: Arm) -> str:
    """The arm with the setting that stands for it, and its encoder where that is no factor and there are several."""
    said = who(arm.selected or arm.cells[0])
    named = any(path.split(".")[0] == "encoder" for cell in arm.cells for path in cell.values)
    return said if named or len(study.encoders) == 1 else f"{said} in {encoder_text(json.loads(arm.encoder))}"


# -- curves -----------------------------------------------------------------------------------------------------------


def settled(study: Study) -> Check | None:
    """Whether the validation metric still improved over the last fifth of the epochs by more than the ROPE."""
    name = "Curves have settled"
    cells = _trained(study)
    if not cells:
        return _nothing_trained(study, name)
    rising: list[str] = []
    still: list[str] = []
    why_not: dict[str, str] = {}
    unit = difference_unit(study.labels)
    for cell in cells:
        curve = _mean_curve(study, cell, study.labels)
        if why := _too_few(study, cell, curve, PROBES) or _unseen_before_the_end(curve):
            why_not[who(cell)] = why
            continue
        last = int(curve.index[-1])
        start = int(curve.index[curve.index <= last * (1 - RISING_WINDOW)][-1])
        gain = study.sign * float(curve.loc[last] - curve.loc[start])
        said = f"{who(cell)} {gain:+.2g} {unit}".strip() + f" since epoch {start} of {last}"
        (rising if gain > study.rope else still).append(said)
    bad = f"still rising: {shortly(rising)}; longer training may change the order" if rising else ""
    good = f"within the ROPE of ±{study.rope:g}: {shortly(still)}" if still else ""
    return concluded(name, bad, good, why_not, all_keys(cells))


def loss_and_probe(study: Study) -> Check | None:
    """A training loss that falls while the probe gets worse says that the loss no longer measures the features."""
    name = "Training loss and probe agree"
    cells = _trained(study)
    if not cells:
        return _nothing_trained(study, name)
    apart: list[str] = []
    agree: list[str] = []
    why_not: dict[str, str] = {}
    for cell in cells:
        loss, probe = _mean_curve(study, cell, "train/loss"), _mean_curve(study, cell, study.labels)
        if why := _not_by_halves(study, cell, loss, probe):
            why_not[who(cell)] = why
            continue
        half = loss.index[-1] / 2
        fell = float(loss.iloc[-1] - loss[loss.index <= half].iloc[-1]) < 0
        change = float(probe.iloc[-1] - probe[probe.index <= half].iloc[-1])
        if fell and study.sign * change < -study.rope:
            apart.append(f"{who(cell)} (probe −{amount(abs(change), study.labels)})")
        else:
            agree.append(who(cell))
    bad = f"in the second half the loss falls and the probe gets worse: {shortly(apart)}" if apart else ""
    good = f"no falling loss with a worsening probe in the second half of {shortly(agree)}" if agree else ""
    return concluded(name, bad, good, why_not, all_keys(cells))


def _trained(study: Study) -> list[Cell]:
    floors = {(arm.name, arm.encoder) for arm in study.arms if arm.is_floor}
    return [cell for cell in compared_cells(study) if (cell.arm, cell.encoder) not in floors]


def _nothing_trained(study: Study, name: str) -> Check | None:
    """Only floors are compared, or nothing yet."""
    return unmeasured(name, why) if (why := uncompared(study)) else None


def _too_few(study: Study, cell: Cell, curve: pd.Series, least: int) -> str:
    """Why a curve does not tell how training went; "" where it may."""
    if not cell.complete:
        return "not every seed has finished"
    if curve.empty:
        return f"{metric_text(study.labels)} was not recorded"
    if len(curve) >= least:
        return ""
    total = int(study.sweep.epochs_of(cell.keys)["epoch"].max())
    values = " → ".join(amount(float(value), study.labels) for value in curve)
    at = f"{'epoch' if len(curve) == 1 else 'epochs'} {listing([str(epoch) for epoch in curve.index])}"
    return f"probed at {at} of {total} only" + (f", {values}" if len(curve) > 1 else "")


def _unseen_before_the_end(curve: pd.Series) -> str:
    last = int(curve.index[-1])
    if ((curve.index >= last / 2) & (curve.index <= last * (1 - RISING_WINDOW))).any():
        return ""
    return f"not probed between epochs {last / 2:.0f} and {last * (1 - RISING_WINDOW):.0f} of {last}"


def _not_by_halves(study: Study, cell: Cell, loss: pd.Series, probe: pd.Series) -> str:
    if why := _too_few(study, cell, probe, PROBES_OF_HALVES):
        return why
    if len(loss) < PROBES_OF_HALVES:
        return "the training loss was not recorded" if loss.empty else f"the loss of {len(loss)} epochs only"
    half = loss.index[-1] / 2
    return "" if probe.index[0] <= half and loss.index[0] <= half else "not probed in the first half"


def _mean_curve(study: Study, cell: Cell, metric: str) -> pd.Series:
    """Epoch → mean over the seeds."""
    if metric not in study.sweep.epochs:
        return pd.Series(dtype=float)
    rows = study.sweep.epochs_of(cell.keys).dropna(subset=[metric])
    return rows.groupby("epoch")[metric].mean().sort_index()
