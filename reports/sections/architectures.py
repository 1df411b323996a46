"""Which encoder for which budget: cost and accuracy of encoders under one method, the fronts, and one per tier.

The one place where cells of different encoders are compared: as encoders, with the same everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import figures, tiers
from reports import statistics as st
from reports.content import Block, Figure, Prose, Section, Table, Value, plain
from reports.evidence import Cell, Contrast, Study
from reports.sections import encoder_costs as ec
from reports.sections import encoder_tuning
from reports.sections.design import colour_class
from reports.sections.encoder_costs import Costs
from reports.sections.factor import difference_value, estimate_value, mean_value, raw_frame, seeds_text, y_label
from reports.sections.lineup import Entry, Lineup, apart_text, lineups
from reports.wording import (
    amount,
    count,
    difference_unit,
    interval_text,
    listing,
    metric_text,
    minus,
    name_text,
    unit,
)

_SAME = {  # verdicts that do not tell two encoders apart, in words
    st.EQUIVALENT: "equivalent to",
    st.UNDECIDED: "not told apart from",
}


@dataclass(frozen=True)
class Priced:
    """A lineup with what its encoders cost."""

    lineup: Lineup
    costs: dict[int, Costs]  # id of the entry

    def of(self, entry: Entry) -> Costs:
        return self.costs[id(entry)]

    @property
    def measure(self) -> tuple[str, float, str]:
        """The cost that tiers are made of: attribute, scale, unit. The first that is known of every encoder."""
        for name, scale, shown in _MEASURES:
            if all(getattr(self.of(entry), name) is not None for entry in self.lineup.entries):
                return name, scale, shown
        return "", 1.0, ""

    def cost(self, entry: Entry) -> float:
        name, scale, _ = self.measure
        return float(getattr(self.of(entry), name)) * scale if name else 1.0


_MEASURES = (
    ("flops", 1e-6, "MFLOPs a training image"),
    ("epoch_seconds", 1.0, "s of training an epoch"),
    ("params", 1e-6, "M parameters"),
)


@dataclass(frozen=True)
class Tier:
    """A budget, the best encoder that it pays for, and those that cannot be told apart from it, the cheapest first."""

    bound: float
    best: Entry
    alike: list[Entry]
    own: bool  # whether the best or one of its equals needs this budget


def sections(study: Study) -> list[Section]:
    """One per method whose encoders are compared."""
    found = lineups(study)
    return [_section(study, lineup, rank, len(found) > 1) for rank, lineup in enumerate(found)]


def _section(study: Study, lineup: Lineup, rank: int, named: bool) -> Section:
    priced = _priced(study, lineup)
    slug = f"architectures-{rank}"
    blocks: list[Block] = [Prose([answer_of(study, priced)])]
    if len(lineup.complete) > 1 and priced.measure[0]:
        blocks.append(_front(study, priced, slug))
    blocks += [_accuracy(study, priced, slug), _costs(study, priced, slug), *_budgets(study, priced, slug)]
    blocks += encoder_tuning.blocks(study, lineup, slug)
    blocks.append(Prose(list(filter(None, [apart_text(lineup), _RULES]))))
    return Section(slug, f"Encoders under {name_text(lineup.method)}" if named else "Encoders", blocks)


_RULES = (
    "Only encoders are compared here, under one method with the same data, probe, batch, views and epochs; of methods "
    "nothing follows. Each encoder stands for its best cell on validation, and test judges. Verdicts against the best "
    "are not corrected for their number; the rank intervals are."
)


# -- the answer -------------------------------------------------------------------------------------------------------


def answer(study: Study) -> str | None:
    """One sentence for the sweep's first comparison of encoders; None where there is none."""
    return answer_of(study, priced) if (priced := _first(study)) else None


def contrast(study: Study) -> Contrast | None:
    """The best encoder at any cost against the next, both by validation; None where two are not complete."""
    priced = _first(study)
    if priced is None or not (budget := tiered(study, priced)):
        return None
    best = budget[-1].best
    rivals = [entry for entry in priced.lineup.complete if entry is not best]
    second = max(rivals, key=lambda entry: study.sign * entry.cell.val.mean())
    return study.compare(best.cell, second.cell, best.label, second.label)


def _first(study: Study) -> Priced | None:
    found = lineups(study)
    return _priced(study, found[0]) if found else None


def _priced(study: Study, lineup: Lineup) -> Priced:
    return Priced(lineup, {id(entry): ec.costs(study, entry.cell) for entry in lineup.entries})


def answer_of(study: Study, priced: Priced) -> str:
    budget = tiered(study, priced)
    if not budget:
        return "No answer yet: fewer than two encoders have all their seeds."
    said = [_tier_text(study, priced, tier, before) for before, tier in zip([None, *budget], budget, strict=False)]
    return f"{_capital('; '.join(said))}."


def tiered(study: Study, priced: Priced) -> list[Tier]:
    """The best for each budget: chosen on validation among all that the budget pays for, judged on test."""
    entries = priced.lineup.complete
    if len(entries) < 2:
        return []
    costs = {id(entry): priced.cost(entry) for entry in entries}
    found: list[Tier] = []
    lowest = 0.0
    for bound in tiers.tiers(list(costs.values())):
        paid = [entry for entry in entries if costs[id(entry)] <= bound]
        best = max(paid, key=lambda entry: study.sign * entry.cell.val.mean())
        alike = [entry for entry in paid if entry is not best and _verdict(study, best, entry) in _SAME]
        alike.sort(key=lambda entry: costs[id(entry)])
        own = any(costs[id(entry)] > lowest for entry in (best, *alike))
        found.append(Tier(bound, best, alike, own))
        lowest = bound
    return found


def _verdict(study: Study, best: Entry, entry: Entry) -> str:
    return study.compare(best.cell, entry.cell, best.label, entry.label).verdict


def _tier_text(study: Study, priced: Priced, tier: Tier, before: Tier | None) -> str:
    shown = priced.measure[2]
    budget = f"up to {_round(tier.bound)} {shown if before is None else ''}".strip() if shown else "at any cost"
    if before is not None and before.best is tier.best:
        more = [entry for entry in tier.alike if entry not in before.alike]
        said = f"{budget} nothing measured better"
        return said + (f" (it is {_alike_text(study, tier.best, more)})" if more else "")
    estimate = tier.best.cell.estimate
    assert estimate is not None
    interval = "" if estimate.low is None else f" {interval_text(estimate.low, estimate.high or 0.0, study.judge)}"
    value = f"{minus(amount(estimate.mean, study.judge))}{interval} {unit(study.judge)}".strip()
    what = f"{study.judge_text} {value}, n = {estimate.n}" if before is None else value
    said = f"{budget} take {tier.best.label} ({'; '.join([what, *_doubts(study, tier.best)])})"
    if tier.alike:
        sound = [entry for entry in tier.alike if not entry.cell.count("collapsed")]
        cheapest = min([tier.best, *sound], key=priced.cost)
        said += f", {_alike_text(study, tier.best, tier.alike)}"
        said += f", the cheapest of them {cheapest.label}" if cheapest is not tier.best else ""
    return said


def _doubts(study: Study, entry: Entry) -> list[str]:
    """What speaks against an encoder although it is the best of its tier."""
    said = []
    if collapsed := entry.cell.count("collapsed"):
        said.append(f"{collapsed} of {entry.cell.planned} seeds collapsed")
    gain = study.compare(entry.cell, entry.floor, "", "").estimate if entry.floor is not None else None
    if gain is not None and gain.low is not None and gain.high is not None:
        low = gain.low if study.sign > 0 else -gain.high
        said += ["no better than at its initialisation"] if low <= 0 else []
    return said


def _alike_text(study: Study, best: Entry, alike: Sequence[Entry]) -> str:
    said = []
    for verdict, words in _SAME.items():
        if group := [entry for entry in alike if _verdict(study, best, entry) == verdict]:
            said.append(f"{words} {_names(group)}")
    return " and ".join(said)


def _names(entries: Sequence[Entry]) -> str:
    shown = [entry.label for entry in entries[:5]]
    return listing([*shown, f"{len(entries) - 5} more"] if len(entries) > 5 else shown)


def _round(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.6g}"


# -- cost against accuracy --------------------------------------------------------------------------------------------


def _front(study: Study, priced: Priced, slug: str) -> Figure:
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
    said = [f"{entry.label} {_round(priced.cost(entry))}: {amount(entry.cell.judged.mean(), study.judge)}"
            for entry in shown]  # fmt: skip
    alt = f"{what}. {'; '.join(said)}. On the front: {listing([shown[i].label for i in joined])}."
    text = figures.Text(f"{slug}-front", caption, alt, raw_frame(study, [entry.cell for entry in shown]), wide=True)
    return figures.front(text, spots, joined, bounds, f"{priced.measure[2]} (log scale)", y_label(study))


def _accuracy(study: Study, priced: Priced, slug: str) -> Table:
    points = f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    entries = sorted(priced.lineup.entries, key=priced.cost)
    best = max(priced.lineup.complete, key=lambda e: study.sign * e.cell.val.mean(), default=None)
    ranks, seeds = _ranks(study, priced.lineup)
    columns = [
        "encoder", "n", f"validation mean{of}", f"{study.judge_text} [95 % interval]{of}",
        f"difference to {best.label if best else 'the best'} [95 % interval]{points}", "verdict",
        "rank [95 % interval]", f"at initialisation{of}", "collapsed, diverged",
    ]  # fmt: skip
    rows = []
    for entry in entries:
        cell = entry.cell
        contrast = None if best is None or entry is best else study.compare(cell, best.cell, entry.label, best.label)
        known = contrast is not None and contrast.estimate is not None
        remark = "best on validation" if entry is best else contrast.verdict if contrast and known else cell.losses
        rank = ranks.get(id(entry))
        rows.append([
            _label(study, entry, strong=entry is best), plain(len(cell.finished)), mean_value(cell.val, study.metric),
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


def _label(study: Study, entry: Entry, strong: bool = False) -> Value:
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


def _costs(study: Study, priced: Priced, slug: str) -> Table:
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
        rows.append([_label(study, entry), plain(entry.encoder), *cells])
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
    return Value(value * scale, _round(value * scale), entry.keys)


# -- equal epochs, equal FLOPs, equal time ----------------------------------------------------------------------------

_LEAD = 1.3  # a lead that is lost again before the budget has grown so much is the grain of the measurements
_SAID = {ec.FLOPS: "training FLOPs spent", ec.SECONDS: "training seconds spent"}


def _budgets(study: Study, priced: Priced, slug: str) -> list[Block]:
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
    prose = Prose([
        f"On validation, as the budget grows: {'; '.join(_leaders_text(entries, kind, led[kind]) for kind in panels)}. "
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
        return f"{_round(budget / 1e12)} TFLOPs"
    return f"{_round(budget)} s" if kind == ec.SECONDS else f"{budget:.0f} epochs"


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
    alt = f"{what}. " + " ".join(f"{_capital(_leaders_text(entries, kind, led[kind]))}." for kind in led)
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    text = figures.Text(f"{slug}-budgets", caption, alt, pd.concat(frames, ignore_index=True), wide=True)
    return figures.spending(text, panels, f"{metric_text(study.metric)}{of}")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


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
        row = [_label(study, entry)]
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
