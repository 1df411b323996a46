"""What encoders of one method cost, and the best for each budget, with all that cannot be told apart from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports import statistics as st
from reports import tiers
from reports.evidence import Study
from reports.sections import encoder_costs as ec
from reports.sections.encoder_costs import Costs
from reports.sections.lineup import Entry, Lineup, lineups
from reports.wording import amount, interval_text, listing, minus, unit

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


def first(study: Study) -> Priced | None:
    found = lineups(study)
    return with_costs(study, found[0]) if found else None


def with_costs(study: Study, lineup: Lineup) -> Priced:
    return Priced(lineup, {id(entry): ec.costs(study, entry.cell) for entry in lineup.entries})


def answer_of(study: Study, priced: Priced) -> str:
    budget = tiered(study, priced)
    if not budget:
        return "No answer yet: fewer than two encoders have all their seeds."
    said = [_tier_text(study, priced, tier, before) for before, tier in zip([None, *budget], budget, strict=False)]
    return f"{capital('; '.join(said))}."


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
    budget = f"up to {short(tier.bound)} {shown if before is None else ''}".strip() if shown else "at any cost"
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


def short(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.6g}"


def capital(text: str) -> str:
    return text[0].upper() + text[1:]
