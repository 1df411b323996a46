"""What a search recommends by the fit through all its trials: what the harness found at its end, from the ledger."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.ledger import canonical
from reports.content import Block, Prose, Section, Table, Value, plain
from reports.evidence import Study
from reports.wording import amount, cell_text, count, factor_text, listing, metric_text, name_text, value_text

_EVENT = "recommended"


def sections(study: Study) -> list[Section]:
    """One section where the ledger has a recommendation of a searched cell; [] else."""
    last = {canonical([event.payload["arm"], event.payload["cell"]]): event.payload
            for event in study.sweep.events if event.kind == _EVENT}  # fmt: skip
    order = {canonical([cell.arm, cell.values]): rank for rank, cell in enumerate(study.cells)}
    found = [last[place] for place in sorted(last, key=lambda place: (order.get(place, len(order)), place))]
    fitted = [payload for payload in found if payload["point"]]
    if not fitted:
        return []
    blocks: list[Block] = [Prose([_answer(fitted)]), _table(fitted), Prose([_method(fitted)])]
    if refused := [f"{_who(one)} ({name_text(one['reason'])})" for one in found if not one["point"]]:
        blocks.append(Prose([f"No fit: {listing(refused)}."]))
    return [Section("recommended", "What the search recommends", blocks)]


def _who(payload: Mapping[str, Any]) -> str:
    values = payload["cell"]
    return f"{name_text(payload['arm'])} at {cell_text(values)}" if values else name_text(payload["arm"])


def _answer(fitted: Sequence[Mapping[str, Any]]) -> str:
    if len(fitted) > 1:
        return f"The fit through all trials has a best config in each of {count(len(fitted), 'cell')}."
    [one] = fitted
    point = listing([f"{factor_text(path)} = {value_text(value)}" for path, value in one["point"].items()])
    stopped = f", of which {one['stopped']} were stopped early" if one["stopped"] else ""
    return (
        f"{_who(one)}: {point} is best by the fit through all {count(len(one['keys']), 'trial')}{stopped}, with a "
        f"chance of {100 * one['chance']:.0f} % to be the best config that was trained to its end."
    )


def _table(fitted: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for one in fitted:
        keys = tuple(one["keys"])
        value = f"{amount(one['mean'], one['metric'])} ± {amount(one['error'], one['metric'])}"
        for path, best in one["point"].items():
            low, high = one["intervals"][path]
            rows.append([
                Value(one["arm"], name_text(one["arm"]), keys, strong=True),
                plain(cell_text(one["cell"]), cell_text(one["cell"]) or "—"),
                plain(path, factor_text(path)),
                plain(best, value_text(best)),
                plain(low, f"{value_text(low)} to {value_text(high)}"),
                plain(one["mean"], value),
                plain(100 * one["chance"], f"{100 * one['chance']:.0f}"),
            ])  # fmt: skip
    columns = ["arm", "cell", "parameter", "best by the fit", "95 % of where the best lies", "there, ± standard error",
               "chance to be the best (%)"]  # fmt: skip
    caption = f"What the fit recommends, by {metric_text(fitted[0]['metric'])} at the end of a training."
    return Table("recommended", caption, columns, rows, provenance=True)


def _method(fitted: Sequence[Mapping[str, Any]]) -> str:
    noise = sorted(one["noise"] for one in fitted)
    metric = fitted[0]["metric"]
    spread = amount(noise[0], metric) + (f" to {amount(noise[-1], metric)}" if len(noise) > 1 else "")
    return (
        "A Gaussian process over the searched parameters and the epoch, through the values of all trials at the rungs "
        "of early stopping and at their last epoch, confirmations included: the best single trial is often the "
        "luckiest. "
        f"One training scatters around it by {spread}. Only configs that were trained to their end are chosen. It is "
        "advice for the next sweep and no evidence: cells are compared by confirmations alone."
    )
