"""Encoders while they train: who leads at equal epochs, equal FLOPs and equal time."""

from collections.abc import Sequence

import pandas as pd

from reports import figures, tiers
from reports.content import Block, Figure, Prose, Table, Value, plain
from reports.evidence import Study
from reports.sections import encoder_costs as ec
from reports.sections.encoder_front import labelled
from reports.sections.encoder_tiers import Priced, capital, short
from reports.sections.factor import estimate_value, seeds_text
from reports.sections.lineup import Entry
from reports.wording import count, listing, metric_text, unit

_LEAD = 1.3  # a lead that is lost again before the budget has grown so much is the grain of the measurements
_SAID = {ec.FLOPS: "training FLOPs spent", ec.SECONDS: "training seconds spent"}


def budgets(study: Study, priced: Priced, slug: str) -> list[Block]:
    """Who leads at which budget, from the validation curves; nothing where no budget can be read."""
    entries = priced.lineup.complete
    known = {
        kind: budget for kind in (ec.EPOCHS, ec.FLOPS, ec.SECONDS)
        if (budget := ec.smallest_total(study, entries, kind)) is not None
    }  # fmt: skip
    panels = [kind for kind in (ec.FLOPS, ec.SECONDS) if kind in known]
    if len(entries) < 2 or not panels:
        return []
    led = {kind: _leaders(study, entries, kind) for kind in panels}
    leaders = "; ".join(_leaders_text(entries, kind, led[kind]) for kind in panels)
    prose = Prose([
        f"By {study.selecting_text}, as the budget grows: {leaders}. "
        "These are means of unfinished trainings whose learning rate was still falling: a larger encoder would do "
        "better with a schedule that ends at the budget."
    ])  # fmt: skip
    return [prose, _spending(study, entries, known, led, slug), _readings(study, entries, known, slug)]


def _leaders(study: Study, entries: Sequence[Entry], kind: str) -> list[tuple[float, int]]:
    return tiers.leaders([ec.mean_curve(ec.curves(study, entry.cell, kind)) for entry in entries], _LEAD)


def _leaders_text(entries: Sequence[Entry], kind: str, steps: Sequence[tuple[float, int]]) -> str:
    first, *later = steps
    if not later:
        return f"at equal {kind} {entries[first[1]].label} leads throughout"
    said = [f"{entries[at].label} from {_budget_text(kind, budget)}" for budget, at in later[:5]]
    more = f", and {count(len(later) - 5, 'more change')}" if len(later) > 5 else ""
    return f"at equal {kind} {entries[first[1]].label} leads first, then {listing(said)}{more}"


def _budget_text(kind: str, budget: float) -> str:
    if kind == ec.FLOPS:
        return f"{short(budget / 1e12)} TFLOPs"
    return f"{short(budget)} s" if kind == ec.SECONDS else f"{budget:.0f} epochs"


def _spending(
    study: Study, entries: Sequence[Entry], known: dict[str, float], led: dict[str, list[tuple[float, int]]], slug: str
) -> Figure:
    panels, frames = [], []
    for kind in led:
        scale = 1e-12 if kind == ec.FLOPS else 1.0
        curves = [ec.mean_curve(ec.curves(study, entry.cell, kind)) for entry in entries]
        met: dict[str, int] = {}
        lines = []
        for entry, curve in zip(entries, curves, strict=True):
            rank = met[entry.arm.name] = met.get(entry.arm.name, -1) + 1
            shown = [(x * scale, study.sign * y) for x, y in curve]
            lines.append(figures.Spending(entry.label, study.colours[entry.arm.name], rank, shown))
            frames.append(pd.DataFrame(
                [{"encoder": entry.label, "budget": kind, "spent": x, study.metric: study.sign * y} for x, y in curve]
            ))  # fmt: skip
        label = f"training {'TFLOPs' if kind == ec.FLOPS else 'seconds'} spent (log scale)"
        best = [(x * scale, study.sign * y) for x, y in _best_so_far(curves)]
        panels.append(figures.Panel(label, lines, best, known[kind] * scale))
    what = f"{metric_text(study.metric)[0].upper()}{metric_text(study.metric)[1:]} while training"
    kinds = listing([_SAID[kind] for kind in led])
    caption = (
        f"{what}, against {kinds}: means over the seeds, {seeds_text([entry.cell for entry in entries])}. A vertical "
        "cut compares at equal budget; the broad line is the best there, the dotted one the cheapest whole training."
    )
    alt = f"{what}. " + " ".join(f"{capital(_leaders_text(entries, kind, led[kind]))}." for kind in led)
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    text = figures.Text(f"{slug}-budgets", caption, alt, pd.concat(frames, ignore_index=True), wide=True)
    return figures.spending(text, panels, f"{metric_text(study.metric)}{of}")


def _best_so_far(curves: Sequence[tiers.Curve]) -> list[tuple[float, float]]:
    """(budget, best worth from there on)."""
    found: list[tuple[float, float]] = []
    for budget in sorted({x for curve in curves for x, _ in curve}):
        worths = [curve[at][1] for curve in curves if (at := tiers.last_within(curve, budget)) is not None]
        if not found or max(worths) != found[-1][1]:
            found.append((budget, max(worths)))
    return found


def _readings(study: Study, entries: Sequence[Entry], known: dict[str, float], slug: str) -> Table:
    """Every encoder at the cheapest whole training's epochs, FLOPs and seconds."""
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    columns = ["encoder"]
    for kind, budget in known.items():
        columns += [f"epoch at {_budget_text(kind, budget)}", f"at equal {kind}{of}", f"front at equal {kind}"]
    ordered = sorted(entries, key=lambda entry: _first_cost(study, entry))
    read = {kind: [ec.reading(study, entry.cell, kind, budget) for entry in ordered] for kind, budget in known.items()}
    rows = []
    for i, entry in enumerate(ordered):
        row = [labelled(study, entry)]
        for kind in known:
            row += _reading_values(study, ordered, read[kind], i)
        rows.append(row)
    caption = (
        f"{metric_text(study.metric)[0].upper()}{metric_text(study.metric)[1:]} [95 % interval] when the cheapest "
        "encoder's whole training is spent: each encoder at its last evaluation by then, by rising cost. On the front "
        "is what no cheaper encoder beats. “—”: not one evaluated epoch fits."
    )
    return Table(f"{slug}-budgets", caption, columns, rows, provenance=True)


def _first_cost(study: Study, entry: Entry) -> float:
    own = ec.costs(study, entry.cell)
    return own.flops or own.epoch_seconds or 0.0


def _reading_values(study: Study, entries: Sequence[Entry], readings: Sequence[ec.Reading], i: int) -> list[Value]:
    nothing = Value(None, "—", tone="muted")
    mine = readings[i]
    if mine.estimate is None:
        return [nothing, nothing, nothing]
    there = [k for k, reading in enumerate(readings) if reading.estimate is not None]
    means = [study.sign * r.estimate.mean for r in readings if r.estimate is not None]
    on_front = i in [there[k] for k in tiers.front([float(k) for k in there], means)]
    shown = estimate_value(mine.estimate, study.metric, entries[i].cell)
    return [plain(mine.epoch), shown, plain("yes", "✓") if on_front else plain("no", "")]
