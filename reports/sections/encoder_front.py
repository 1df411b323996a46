"""Encoders by rising cost: the front of cost and accuracy, what each came to, and what it costs."""

import numpy as np

from reports import figures, tiers
from reports import statistics as st
from reports.content import Figure, Table, Value, plain
from reports.evidence import Cell, Study
from reports.sections.design import colour_class
from reports.sections.encoder_tiers import Priced, short, tiered
from reports.sections.factor import (
    difference_value,
    estimate_value,
    mean_value,
    raw_frame,
    seeds_text,
    selected_head,
    y_label,
)
from reports.sections.lineup import Entry, Lineup
from reports.wording import amount, count, difference_unit, listing, minus, name_text, unit


def front(study: Study, priced: Priced, slug: str) -> Figure:
    shown = [entry for entry in priced.lineup.entries if len(entry.cell.finished)]
    spots = [
        figures.Spot(
            entry.label, name_text(entry.arm.name), study.colours[entry.arm.name], priced.cost(entry),
            entry.cell.judged.tolist(), entry.cell.estimate, entry.cell.count("collapsed") > 0,
        )
        for entry in shown
    ]  # fmt: skip
    whole = [i for i, entry in enumerate(shown) if entry.cell.complete]
    means = [study.sign * float(shown[i].cell.judged.mean()) for i in whole]
    joined = [whole[i] for i in tiers.front([spots[i].cost for i in whole], means)]
    bounds = [tier.bound for tier in tiered(study, priced)][:-1]
    what = f"{study.judge_text[0].upper()}{study.judge_text[1:]} against {priced.measure[2]}"
    caption = (
        f"{what}, at equal epochs, {seeds_text([entry.cell for entry in shown])}. Small dots are seeds, bars 95 % "
        "intervals; the dashed steps are the front, the means that nothing cheaper beats. Shading parts the tiers, "
        "thirds of the log range of the cost."
    )
    said = [f"{entry.label} {short(priced.cost(entry))}: {amount(entry.cell.judged.mean(), study.judge)}"
            for entry in shown]  # fmt: skip
    alt = f"{what}. {'; '.join(said)}. On the front: {listing([shown[i].label for i in joined])}."
    text = figures.Text(f"{slug}-front", caption, alt, raw_frame(study, [entry.cell for entry in shown]), wide=True)
    return figures.front(text, spots, joined, bounds, f"{priced.measure[2]} (log scale)", y_label(study))


def accuracy(study: Study, priced: Priced, slug: str) -> Table:
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    entries = sorted(priced.lineup.entries, key=priced.cost)
    best = max(priced.lineup.complete, key=lambda e: study.sign * e.cell.val.mean(), default=None)
    ranks, seeds = _ranks(study, priced.lineup)
    columns = [
        "encoder", "n", selected_head(study), f"{study.judge_text} [95 % interval]{of}",
        f"difference to {best.label if best else 'the best'} [95 % interval]{points}", "verdict",
        "rank [95 % interval]", f"at initialisation{of}", "collapsed, diverged",
    ]  # fmt: skip
    rows = []
    for entry in entries:
        cell = entry.cell
        contrast = None if best is None or entry is best else study.compare(cell, best.cell, entry.label, best.label)
        known = contrast is not None and contrast.estimate is not None
        remark = contrast.verdict if contrast and known else cell.losses
        remark = f"best {study.selected_on}" if entry is best else remark
        rank = ranks.get(id(entry))
        rows.append([
            labelled(study, entry, strong=entry is best), plain(len(cell.finished)), mean_value(cell.val, study.metric),
            estimate_value(cell.estimate, study.judge, cell),
            difference_value(contrast.estimate if contrast else None, study.judge, contrast.keys if contrast else ()),
            plain(remark or "—"), _rank_value(rank),
            _floor_value(study, entry), _outcomes(cell),
        ])  # fmt: skip
    how = f"; ranks by {next(iter(ranks.values())).how}, n = {seeds} shared seeds" if ranks else ""
    caption = (
        "Encoders by rising cost, what they came to, and how far they are from the best, paired by seed. An encoder at "
        f"its initialisation says what was there before training{how}."
    )
    return Table(f"{slug}-accuracy", caption, columns, rows, provenance=True)


def _floor_value(study: Study, entry: Entry) -> Value:
    if entry.floor is None or entry.floor.estimate is None:
        return Value(None, "—", tone="muted")
    mean = entry.floor.estimate.mean
    return Value(mean, minus(amount(mean, study.judge)), entry.floor.keys)


def _outcomes(cell: Cell) -> Value:
    collapsed, diverged = cell.count("collapsed"), cell.count("diverged")
    text = f"{collapsed}, {diverged} of {cell.planned}" if collapsed + diverged else "none"
    return Value(collapsed + diverged, text, cell.keys, tone="fail" if collapsed + diverged else "muted")


def labelled(study: Study, entry: Entry, strong: bool = False) -> Value:
    return Value(entry.label, entry.label, entry.keys, colour=colour_class(study, entry.arm.name), strong=strong)


def _ranks(study: Study, lineup: Lineup) -> tuple[dict[int, st.Estimate], int]:
    """Rank of every complete encoder on the seeds that all of them share, by the judging metric."""
    entries = lineup.complete
    shared = set.intersection(*(set(entry.cell.judged.index) for entry in entries)) if entries else set()
    if len(entries) < 2 or not shared:
        return {}, 0
    seeds = sorted(shared)
    scores = np.asarray([study.sign * entry.cell.judged.loc[seeds].to_numpy() for entry in entries])
    found = st.rank_intervals(scores)
    return {id(entry): estimate for entry, estimate in zip(entries, found, strict=True)}, len(seeds)


def _rank_value(rank: st.Estimate | None) -> Value:
    if rank is None:
        return Value(None, "—", tone="muted")
    interval = "" if rank.low is None or rank.high is None else f" [{rank.low:.0f}, {rank.high:.0f}]"
    return plain(rank.mean, f"{rank.mean:.1f}{interval}")


def costs(study: Study, priced: Priced, slug: str) -> Table:
    columns = [
        "encoder", "in full", "parameters (M)", "training FLOPs an image (M)", "images/s", "peak memory (MB)",
        "training (s an epoch)", "device time (s a trial)",
    ]  # fmt: skip
    rows = []
    for entry in sorted(priced.lineup.entries, key=priced.cost):
        own = priced.of(entry)
        numbers = [
            (own.params, 1e-6), (own.flops, 1e-6), (own.rate, 1.0), (own.memory, 1.0), (own.epoch_seconds, 1.0),
            (own.trial_seconds, 1.0),
        ]  # fmt: skip
        cells = [_number(value, scale, entry) for value, scale in numbers]
        rows.append([labelled(study, entry), plain(entry.encoder), *cells])
    devices = sorted({priced.of(entry).device for entry in priced.lineup.entries})
    at_once = (study.sweep.environment.get("pool") or {}).get("max_concurrent")
    where = f"on {listing([name_text(device) for device in devices])}"
    where += f", {count(int(at_once), 'trial')} at once" if at_once else ""
    caption = (
        "What the encoders cost. FLOPs are those of a training step, forward and backward, over all views of an image, "
        "projector and loss included; parameters are the encoder's. Times are medians over epochs and seeds, measured "
        f"{where}: another machine has others."
    )
    if len(devices) > 1:
        caption += " Times of different devices do not compare."
    return Table(f"{slug}-costs", caption, columns, rows, provenance=True)


def _number(value: float | None, scale: float, entry: Entry) -> Value:
    if value is None:
        return Value(None, "—", tone="muted")
    return Value(value * scale, short(value * scale), entry.keys)
