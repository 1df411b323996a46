"""Hyperparameters that were carried over to an encoder, against those that were searched for it."""

import numpy as np

from reports import statistics as st
from reports.content import Block, Prose, Table, Value, plain
from reports.evidence import Study
from reports.sections.defaults import Change, against_default
from reports.sections.design import colour_class
from reports.sections.factor import difference_value
from reports.sections.lineup import Entry, Lineup
from reports.sections.searches import defaults_first
from reports.wording import amount, difference_unit, listing, minus, number, unit


def blocks(study: Study, lineup: Lineup, slug: str) -> list[Block]:
    """A sentence and a table where each search began with the settings as written; else nothing."""
    if not defaults_first(study):
        return []
    found = [(entry, change) for entry in lineup.entries if (change := against_default(study, entry.arm)) is not None]
    return [Prose([_text(study, found)]), _table(study, found, slug)] if found else []


def _before(change: Change) -> float:
    return float(np.mean(list(change.defaults.values())))


def _after(entry: Entry, change: Change) -> float | None:
    """None unless every fresh seed finished."""
    return float(np.mean(change.fresh)) if change.fresh and entry.cell.complete else None


def _text(study: Study, found: list[tuple[Entry, Change]]) -> str:
    """What tuning gained, and whether it changes which encoder is best."""
    known = [(entry, _before(change), after) for entry, change in found if (after := _after(entry, change)) is not None]
    if not known:
        return "What tuning each encoder gains over the settings carried over to it is not known: nothing is confirmed."
    gains = [study.sign * (after - before) for _, before, after in known]
    points = difference_unit(study.metric)
    low, high = (minus(amount(value, study.metric)) for value in (min(gains), max(gains)))
    said = f"Tuning each encoder gained {low} to {high} {points}".rstrip() + f" {study.selected_on} with fresh seeds"
    if len(known) < 2:
        return f"{said}."
    first = max(known, key=lambda item: study.sign * item[1])[0]
    last = max(known, key=lambda item: study.sign * item[2])[0]
    order = (
        f"{first.label} is best with the settings carried over and with its own" if first is last
        else f"with the settings carried over {first.label} is best, with its own {last.label}"
    )  # fmt: skip
    rho = st.spearman([before for _, before, _ in known], [after for _, _, after in known])
    agreement = "" if rho is None or rho.low is None or rho.high is None else (
        f"; the two orders correlate with ρ = {number(round(rho.mean, 2))} "
        f"[{number(round(rho.low, 2))}, {number(round(rho.high, 2))}] over {len(known)} encoders"
    )  # fmt: skip
    kept = [entry.label for entry, change in found if change.same]
    return f"{said}; {order}{agreement}." + (f" For {listing(kept)} nothing better was found." if kept else "")


def _table(study: Study, found: list[tuple[Entry, Change]], slug: str) -> Table:
    of = f" ({unit(study.metric)})" if unit(study.metric) else ""
    points = f" ({difference_unit(study.metric)})" if difference_unit(study.metric) else ""
    columns = [
        "encoder", "studies", f"carried over{of}", f"gain within the search, paired by study [95 % interval]{points}",
        "fresh seeds", f"tuned, fresh seeds{of}", f"gain on fresh seeds{points}",
    ]  # fmt: skip
    caption = (
        "The settings carried over to an encoder (the first trial of each study) against those searched for it, "
        f"{study.selected_on}. The gain within the search chose its own best and is never negative; the gain on fresh "
        "seeds did not, but compares different seeds, so it has no paired interval."
    )
    return Table(f"{slug}-tuning", caption, columns, [_row(study, *pair) for pair in found], provenance=True)


def _row(study: Study, entry: Entry, change: Change) -> list[Value]:
    shared = [number for number in change.defaults if number in change.best]
    within = [study.sign * (change.best[number] - change.defaults[number]) for number in shared]
    after, before = _after(entry, change), _before(change)
    keys = (*change.default_keys, *change.fresh_keys)
    gain = None if after is None else st.Estimate(study.sign * (after - before), None, None, len(change.fresh), "")
    return [
        Value(entry.label, entry.label, keys, colour=colour_class(study, entry.arm.name), strong=True),
        plain(len(change.defaults)),
        Value(before, minus(amount(before, study.metric)), change.default_keys),
        difference_value(st.mean_interval(within) if within else None, study.metric),
        plain(len(change.fresh)),
        Value(None, "— " + entry.cell.losses, tone="muted")
        if after is None
        else Value(after, minus(amount(after, study.metric)), change.fresh_keys),
        difference_value(gain, study.metric, keys),
    ]
