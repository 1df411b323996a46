"""Which searched parameters mattered: what the harness found at the end of the search, read from the ledger."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.ledger import canonical
from reports import figures
from reports.content import Block, Figure, Prose, Section, Table, Value, plain
from reports.evidence import Study
from reports.sections.design import colour_class
from reports.wording import cell_text, count, factor_text, listing, metric_text, name_text, value_text

_EVENT = "importance"


@dataclass(frozen=True)
class Weighed:
    """The latest word on one cell."""

    arm: str
    cell: dict[str, Any]
    metric: str
    n: int
    keys: tuple[str, ...]
    left_out: dict[str, int]
    quantile: float
    resamples: int
    by: str
    parameters: dict[str, dict[str, float]]  # dotted path → mean, low, high: shares
    reason: str | None  # why there are none

    @property
    def who(self) -> str:
        return f"{name_text(self.arm)} at {cell_text(self.cell)}" if self.cell else name_text(self.arm)


def sections(study: Study) -> list[Section]:
    """One section where the ledger says what the search of a cell showed; [] else."""
    found = _latest(study)
    if not found:
        return []
    weighed = [cell for cell in found if cell.parameters]
    blocks: list[Block] = [Prose([_answer(weighed)])]
    if weighed:
        blocks += [_figure(study, weighed), _table(study, weighed), Prose([_method(weighed)])]
    if rest := [text for text in (_refused(found), *_conditional(study, found)) if text]:
        blocks.append(Prose(rest))
    return [Section("importance", "Which searched parameters mattered", blocks)]


def _latest(study: Study) -> list[Weighed]:
    """The last event of every cell, arms and cells as the report orders them."""
    last = {
        canonical([event.payload["arm"], event.payload["cell"]]): event.payload
        for event in study.sweep.events
        if event.kind == _EVENT
    }
    places = [canonical([cell.arm, cell.values]) for cell in study.cells]
    order = {place: rank for rank, place in enumerate(places)}
    return [
        Weighed(**{**last[place], "keys": tuple(last[place]["keys"])})
        for place in sorted(last, key=lambda place: (order.get(place, len(order)), place))
    ]


def _answer(weighed: Sequence[Weighed]) -> str:
    if not weighed:
        return "The search says nothing about which parameter mattered."
    clear: dict[str, list[str]] = {}
    for cell in weighed:
        if path := _leading(cell):
            clear.setdefault(path, []).append(cell.who)
    if not clear:
        return (
            f"No searched parameter stands out in any of {count(len(weighed), 'cell')}: no interval of a share lies "
            "above an equal share."
        )
    said = [f"the {factor_text(path)} in {_cells_text(who, weighed)}" for path, who in clear.items()]
    rest = len(weighed) - len({who for cells in clear.values() for who in cells})
    silent = f"; in {count(rest, 'other cell')} none stands out" if rest else ""
    return f"What decided whether a search trial was among the best was {listing(said)}{silent}."


def _leading(cell: Weighed) -> str | None:
    """The parameter with the largest share, if its interval lies above an equal share."""
    path = max(cell.parameters, key=lambda name: cell.parameters[name]["mean"])
    return path if cell.parameters[path]["low"] > 1 / len(cell.parameters) else None


def _cells_text(who: Sequence[str], weighed: Sequence[Weighed]) -> str:
    if len(weighed) == 1:
        return who[0]
    return listing(who) if len(who) <= 3 else f"{len(who)} of {count(len(weighed), 'cell')}"


def _figure(study: Study, weighed: Sequence[Weighed]) -> Figure:
    rows = []
    for arm in dict.fromkeys(cell.arm for cell in weighed):
        mine = [cell for cell in weighed if cell.arm == arm]
        paths = list(dict.fromkeys(path for cell in mine for path in cell.parameters))
        bars = [
            figures.Share(
                f"{arm}: {factor_text(path)}" if len({cell.arm for cell in weighed}) > 1 else factor_text(path),
                study.colours[arm],
                [(s["mean"], s["low"], s["high"]) for cell in mine if (s := cell.parameters.get(path))],
                1 / len(paths),
            )
            for path in paths
        ]
        rows += sorted(bars, key=lambda bar: -bar.mean)
    fewest, most = min(cell.n for cell in weighed), max(cell.n for cell in weighed)
    trials = f"n = {fewest} trials" if fewest == most else f"n = {fewest} to {most} trials per cell"
    several = any(len(row.cells) > 1 for row in rows)
    bars_are = "bars are means over cells, each cell a point with its" if several else "points with"
    caption = (
        f"Share of importance by parameter, {trials}; {bars_are} 95 % interval of a bootstrap over trials; the tick "
        "across a bar is an equal share, what chance gives."
    )
    said = "; ".join(f"{name_text(row.label)} {100 * row.mean:.0f} %" for row in rows)
    data = pd.DataFrame([
        {"arm": cell.arm, "cell": json.dumps(cell.cell), "parameter": path, "share": share["mean"],
         "low": share["low"], "high": share["high"], "n": cell.n}
        for cell in weighed for path, share in cell.parameters.items()
    ])  # fmt: skip
    alt = f"Share of importance by searched parameter. {said}."
    return figures.shares(figures.Text("importance", caption, alt, data), rows, "share of importance (%)")


def _table(study: Study, weighed: Sequence[Weighed]) -> Table:
    rows = []
    for cell in weighed:
        ranked = sorted(cell.parameters.items(), key=lambda item: -item[1]["mean"])
        for path, share in ranked:
            stands_out = share["low"] > 1 / len(cell.parameters)
            rows.append([
                Value(cell.arm, name_text(cell.arm), cell.keys, colour=colour_class(study, cell.arm), strong=True),
                plain(cell_text(cell.cell), cell_text(cell.cell) or "—"),
                plain(path, factor_text(path)),
                Value(100 * share["mean"], _interval(share), cell.keys, strong=stands_out),
                plain(100 / len(cell.parameters), f"{100 / len(cell.parameters):.0f}"),
                plain(cell.n),
            ])  # fmt: skip
    columns = ["arm", "cell", "parameter", "share [95 % interval] (%)", "equal share (%)", "n (trials)"]
    caption = (
        f"What decided {metric_text(weighed[0].metric)} of the search trials; shares of a cell add up to 100 %. Bold: "
        "the interval lies above an equal share."
    )
    return Table("importance", caption, columns, rows, provenance=True)


def _interval(share: dict[str, float]) -> str:
    return f"{100 * share['mean']:.0f} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


def _method(weighed: Sequence[Weighed]) -> str:
    best = sorted({f"{100 * cell.quantile:.0f} %" for cell in weighed}, key=lambda text: int(text.split()[0]))
    lost: dict[str, int] = {}
    for cell in weighed:
        for what, n in cell.left_out.items():
            lost[what] = lost.get(what, 0) + n
    left = f" Left out: {listing([f'{n} {what}' for what, n in lost.items()])}." if lost else ""
    return (
        f"{weighed[0].by}, {weighed[0].resamples} resamples: how differently the best trials ({listing(best)} of a "
        "cell) lie along a parameter than all its trials do, within the range that was searched. A parameter that "
        "mattered only by making trials diverge, or be stopped early, is not seen: these trials have no score."
        f"{left}"
    )


def _conditional(study: Study, found: Sequence[Weighed]) -> list[str]:
    """Parameters under a condition, which the search tried and no share is of, each with the arms that have it."""
    arms: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(cell.arm for cell in found):
        spaces = ((study.sweep.spec.get("arms") or {}).get(name) or {}).get("nuisance") or {}
        for path, space in spaces.items():
            if when := space.get("when"):
                said = listing([f"{factor_text(on)} is {_values_text(values)}" for on, values in when.items()])
                arms.setdefault((path, said), []).append(name_text(name))
    if not arms:
        return []
    said = "; ".join(f"{factor_text(path)} in {listing(names)}, where {when}" for (path, when), names in arms.items())
    return [
        f"Not weighed: {said}. Only some trials have such a parameter, and shares that compare it with the others need "
        "trials that have them all."
    ]


def _values_text(values: object) -> str:
    return " or ".join(value_text(value) for value in (values if isinstance(values, list) else [values]))


def _refused(found: Sequence[Weighed]) -> str:
    reasons: dict[str, list[str]] = {}
    for cell in found:
        if cell.reason:
            reasons.setdefault(cell.reason, []).append(cell.who)
    return " ".join(
        f"Not weighed: {listing(who) if len(who) <= 3 else count(len(who), 'cell')} ({name_text(reason)})."
        for reason, who in reasons.items()
    )
