"""What settings that the paper leaves out do, where a sweep has them as arms: each against the arm without them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Block, Figure, Heading, Prose, Table, Value, plain
from reports.evidence import Cell, Study
from reports.figures.paper import Step, waterfall
from reports.placing import agrees, at_path
from reports.published import PublishedTable, Switch
from reports.sections.factor import raw_frame, y_label
from reports.sections.paper_cells import config_of, two
from reports.wording import amount, count, difference_unit, listing, metric_text, minus, name_text


@dataclass(frozen=True)
class Effect:
    """An arm with some of the switches against the arm with none, over the cells that both have."""

    arm: str
    switches: tuple[str, ...]  # names
    estimate: st.Estimate | None
    verdict: str
    cells: tuple[Cell, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for cell in self.cells for key in cell.keys)

    @property
    def name(self) -> str:
        return listing(self.switches)


def effects(study: Study, table: PublishedTable) -> list[Effect]:
    """Single switches in the paper's order, then arms with several."""
    arms: dict[str, list[Cell]] = {}
    for arm in study.arms:
        if agrees(arm.method, table.setting.get("method.name", "lejepa")):
            arms.setdefault(arm.name, []).extend(arm.cells)
    if len(arms) < 2:
        return []
    base, *others = arms
    found = [_effect(study, table, name, arms[base], arms[name]) for name in others]
    order = [switch.name for switch in table.undocumented]
    known = [one for one in found if one is not None and one.switches]
    return sorted(known, key=lambda one: (len(one.switches), [order.index(name) for name in one.switches]))


def _effect(
    study: Study, table: PublishedTable, name: str, base: Sequence[Cell], cells: Sequence[Cell]
) -> Effect | None:
    pairs = [(mine, other) for mine in cells for other in base if mine.values == other.values]
    if not pairs:
        return None
    switched = tuple(s.name for s in table.undocumented if _switched(study, s, *pairs[0]))
    whole = all(cell.complete for pair in pairs for cell in pair)
    by_seed = pd.concat([mine.judged - other.judged for mine, other in pairs], axis=1).dropna().mean(axis=1)
    estimate = st.mean_interval(by_seed.to_numpy()) if whole and len(by_seed) else None
    verdict = st.UNDECIDED if estimate is None else st.verdict(estimate, study.rope)
    return Effect(name, switched, estimate, verdict, tuple(cell for pair in pairs for cell in pair))


def _switched(study: Study, switch: Switch, mine: Cell, other: Cell) -> bool:
    a, b = config_of(study, mine), config_of(study, other)
    return any(at_path(a, path) != at_path(b, path) for path in switch.set)


# -- what it shows -----------------------------------------------------------------------------------------------------


def blocks(study: Study, table: PublishedTable, slug: str) -> list[Block]:
    """Empty where no arm has a switch."""
    found = effects(study, table)
    if not found:
        return []
    shown: list[Block] = [Heading("What known differences do"), Prose([sentence(study, table, found)])]
    if any(one.estimate is not None for one in found):
        shown.append(_figure(study, found, slug))
    return [*shown, _table(study, found, slug)]


def sentence(study: Study, table: PublishedTable, found: Sequence[Effect]) -> str:
    points = difference_unit(study.judge)
    said = []
    for one in found:
        if one.estimate is None:
            said.append(f"{one.name} is not measured yet")
        else:
            said.append(f"{one.name} adds {two(one.estimate, sign=True)} {points} ({one.verdict})")
    tested = {name for one in found for name in one.switches}
    missing = [switch.name for switch in table.undocumented if switch.name not in tested]
    rest = f" Not measured here: {listing(missing)}." if missing else ""
    return f"Of what the launch scripts set and the paper leaves out, {'; '.join(said)}.{rest}"


def _figure(study: Study, found: Sequence[Effect], slug: str) -> Figure:
    steps = [Step(one.name, one.estimate, len(one.switches) > 1) for one in found if one.estimate is not None]
    base = [cell for one in found for cell in one.cells[1::2]]
    start = float(pd.concat([cell.judged for cell in base]).mean())
    what = f"{metric_text(study.judge)[0].upper()}{metric_text(study.judge)[1:]} as known differences are switched on"
    caption = (
        f"{what}: every bar starts where the one before it ended, as if effects added up; hollow bars are measured "
        "together. Lines are 95 % intervals of each effect, paired by seed."
    )
    alt = f"{what}, from {amount(start, study.judge)}. " + "; ".join(
        f"{s.label} {two(s.effect, sign=True)}" for s in steps
    )
    text = figures.Text(
        f"{slug}-effects", caption, alt, raw_frame(study, [c for one in found for c in one.cells]), True
    )
    return waterfall(text, steps, start, y_label(study))


def _table(study: Study, found: Sequence[Effect], slug: str) -> Table:
    points = difference_unit(study.judge)
    columns = ["setting", "arm", f"effect [95 % interval]{f' ({points})' if points else ''}", "n", "verdict"]
    columns.append("sum so far, if effects add up")
    caption = (
        "Settings of the launch scripts that the paper leaves out, each against the arm without them, paired by seed "
        f"over {count(len(found[0].cells) // 2, 'cell')}."
    )
    return Table(f"{slug}-effects", caption, columns, list(_rows(found)), provenance=True)


def _rows(found: Sequence[Effect]) -> list[list[Value]]:
    total, rows = 0.0, []
    for one in found:
        head = [Value(one.name, one.name, one.keys), plain(name_text(one.arm))]
        if one.estimate is None:
            rows.append([*head, *[Value(None, "—", tone="muted")] * 4])
            continue
        single = len(one.switches) == 1
        total += one.estimate.mean if single else 0.0
        so_far = Value(total, minus(f"{total:+.2f}")) if single else Value(None, "measured together", tone="muted")
        effect = Value(one.estimate.mean, two(one.estimate, sign=True), one.keys)
        rows.append([*head, effect, plain(one.estimate.n), plain(one.verdict), so_far])
    return rows


def explained(found: Sequence[Effect]) -> Mapping[str, float]:
    """Effect of the arm with the most switches: its name → points; empty where none is measured."""
    known = [one for one in found if one.estimate is not None]
    if not known:
        return {}
    most = max(known, key=lambda one: len(one.switches))
    assert most.estimate is not None
    return {most.name: most.estimate.mean}
