"""What settings that the paper leaves out do, where a sweep has them as arms: each against the arm without them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reports import figures, provenance
from reports import statistics as st
from reports.content import Block, Figure, Heading, Prose, Table, Value, plain
from reports.evidence import Cell, Study
from reports.figures.paper import Step, waterfall
from reports.placing import agrees
from reports.published import PublishedTable
from reports.sections.factor import raw_frame, y_label
from reports.sections.paper_cells import config_of, two
from reports.wording import amount, difference_unit, listing, metric_text, minus, name_text


@dataclass(frozen=True)
class Effect:
    """An arm with some of the switches against the arm without them, over the cells that both have."""

    arm: str
    base: str  # the arm without
    switches: tuple[str, ...]  # names
    here: str  # what they are set to in this sweep, which may be another scale
    beside: tuple[str, ...]  # dotted paths of what differs, too
    estimate: st.Estimate | None
    verdict: str
    pairs: tuple[tuple[Cell, Cell], ...]  # (with, without)

    @property
    def cells(self) -> list[Cell]:
        return [cell for pair in self.pairs for cell in pair]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for cell in self.cells for key in cell.keys)

    @property
    def name(self) -> str:
        return listing(self.switches)


def effects(study: Study, table: PublishedTable) -> list[Effect]:
    """For each arm without switches: single switches in the paper's order, then arms with several.

    An arm belongs to the earlier one that differs from it in the fewest settings; where none of those is a switch, it
    is one without switches itself.
    """
    bases: dict[str, list[Cell]] = {}
    found: list[Effect] = []
    for name, cells in _arms(study, table).items():
        near = min(
            (_near(study, name, cells, *base) for base in bases.items()), key=lambda one: one.apart, default=None
        )
        switches = () if near is None else _switches(table, near.differing)
        if near is None or not switches:
            bases[name] = cells
        else:
            found.append(_effect(study, table, near, switches))
    order, places = [switch.name for switch in table.undocumented], list(bases)
    return sorted(
        found, key=lambda one: (places.index(one.base), len(one.switches), [order.index(n) for n in one.switches])
    )


def _arms(study: Study, table: PublishedTable) -> dict[str, list[Cell]]:
    """Arm → its cells, whatever their encoders."""
    found: dict[str, list[Cell]] = {}
    for arm in study.arms:
        if agrees(arm.method, table.setting.get("method.name", "lejepa")):
            found.setdefault(arm.name, []).extend(arm.cells)
    return found


@dataclass(frozen=True)
class Near:
    """An arm beside a base: every cell of it with the cell of the base that is most like it."""

    arm: str
    base: str
    pairs: tuple[tuple[Cell, Cell], ...]
    differing: frozenset[str]  # dotted paths in which the first pair differs
    apart: int


def _near(study: Study, arm: str, cells: Sequence[Cell], base: str, others: Sequence[Cell]) -> Near:
    settings = {id(cell): dict(provenance.settings(config_of(study, cell))) for cell in [*cells, *others]}

    def differing(one: Cell, other: Cell) -> frozenset[str]:
        a, b = settings[id(one)], settings[id(other)]
        return frozenset(path for path in a | b if a.get(path) != b.get(path))

    pairs = tuple((mine, min(others, key=lambda other: len(differing(mine, other)))) for mine in cells)
    return Near(arm, base, pairs, differing(*pairs[0]), sum(len(differing(*pair)) for pair in pairs))


def _switches(table: PublishedTable, differing: frozenset[str]) -> tuple[str, ...]:
    return tuple(switch.name for switch in table.undocumented if differing & set(switch.set))


def _effect(study: Study, table: PublishedTable, near: Near, switches: tuple[str, ...]) -> Effect:
    whole = all(cell.complete for pair in near.pairs for cell in pair)
    by_seed = pd.concat([mine.judged - other.judged for mine, other in near.pairs], axis=1).dropna().mean(axis=1)
    estimate = st.mean_interval(by_seed.to_numpy()) if whole and len(by_seed) else None
    verdict = st.UNDECIDED if estimate is None else st.verdict(estimate, study.rope)
    known = {path for switch in table.undocumented for path in switch.set}
    mine, other = (dict(provenance.settings(config_of(study, cell))) for cell in near.pairs[0])
    here = [f"{path} {other.get(path, '—')} → {mine.get(path, '—')}" for path in sorted(near.differing & known)]
    beside = tuple(sorted(near.differing - known))
    return Effect(near.arm, near.base, switches, ", ".join(here), beside, estimate, verdict, near.pairs)


# -- what it shows -----------------------------------------------------------------------------------------------------


def blocks(study: Study, table: PublishedTable, slug: str) -> list[Block]:
    """Empty where no arm has a switch."""
    found = effects(study, table)
    if not found:
        return []
    shown: list[Block] = [Heading("What known differences do"), Prose([sentence(study, table, found)])]
    for rank, base in enumerate(dict.fromkeys(one.base for one in found)):
        mine = [one for one in found if one.base == base and one.estimate is not None]
        if len(mine) > 1:
            shown.append(_figure(study, mine, f"{slug}-effects-{rank}"))
    return [*shown, _table(study, found, slug)]


def sentence(study: Study, table: PublishedTable, found: Sequence[Effect]) -> str:
    points, several = difference_unit(study.judge), len({one.base for one in found}) > 1
    said = []
    for one in found:
        where = f" on {name_text(one.base)}" if several else ""
        if one.estimate is None:
            said.append(f"{one.name}{where}: not measured yet")
        else:
            said.append(f"{one.name}{where}: {two(one.estimate, sign=True)} {points} ({one.verdict})")
    tested = {name for one in found for name in one.switches}
    missing = [switch.name for switch in table.undocumented if switch.name not in tested]
    rest = f" Not measured here: {listing(missing)}." if missing else ""
    return f"What launch scripts set and the paper leaves out, as an effect: {'; '.join(said)}.{rest}"


def _figure(study: Study, found: Sequence[Effect], slug: str) -> Figure:
    steps = [
        Step(one.name if len(one.switches) == 1 else f"together: {one.arm}", one.estimate, len(one.switches) > 1)
        for one in found if one.estimate is not None
    ]  # fmt: skip
    start = float(pd.concat([other.judged for _, other in found[0].pairs]).mean())
    what = f"{metric_text(study.judge)[0].upper()}{metric_text(study.judge)[1:]} as known differences are switched on"
    caption = (
        f"{what}, from {name_text(found[0].base)}: every bar starts where the one before it ended, as if effects added "
        "up; hollow bars are measured together. Lines are 95 % intervals of each effect, paired by seed."
    )
    listed = "; ".join(f"{step.label} {two(step.effect, sign=True)}" for step in steps)
    alt = f"{what}, from {amount(start, study.judge)}. {listed}"
    data = raw_frame(study, [cell for one in found for cell in one.cells])
    return waterfall(figures.Text(slug, caption, alt, data, wide=True), steps, start, y_label(study))


def _table(study: Study, found: Sequence[Effect], slug: str) -> Table:
    points = difference_unit(study.judge)
    columns = [
        "setting", "arm", "against", "here", f"effect [95 % interval]{f' ({points})' if points else ''}", "n",
        "verdict", "sum so far, if effects add up", "differs in, too",
    ]  # fmt: skip
    caption = (
        "Settings of launch scripts that the paper leaves out, each against the arm without them, paired by seed: its "
        "cells beside those that are most like them."
    )
    return Table(f"{slug}-effects", caption, columns, list(_rows(found)), provenance=True)


def _rows(found: Sequence[Effect]) -> Iterator[list[Value]]:
    sums: dict[str, float] = {}
    for one in found:
        head = [Value(one.name, one.name, one.keys), *map(plain, (name_text(one.arm), name_text(one.base), one.here))]
        beside = plain(", ".join(one.beside))
        if one.estimate is None:
            yield [*head, *[Value(None, "—", tone="muted")] * 4, beside]
            continue
        effect = Value(one.estimate.mean, two(one.estimate, sign=True), one.keys)
        so_far = Value(None, "measured together", tone="muted")
        if len(one.switches) == 1:
            total = sums[one.base] = sums.get(one.base, 0.0) + one.estimate.mean
            so_far = Value(total, minus(f"{total:+.2f}"))
        yield [*head, effect, plain(one.estimate.n), plain(one.verdict), so_far, beside]


def explained(found: Sequence[Effect]) -> Mapping[str, float]:
    """Effect of the arm with the most switches: its name → points; empty where none is measured."""
    known = [(len(one.switches), one.name, one.estimate.mean) for one in found if one.estimate is not None]
    if not known:
        return {}
    _, name, points = max(known, key=lambda one: one[0])
    return {name: points}
