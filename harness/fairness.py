"""Before a sweep runs: where arms that will be compared are not given the same, which its report would not forgive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.ledger import canonical
from lejepa.config import FLOORS
from lejepa.masked_config import MASKED

if TYPE_CHECKING:
    from harness.plan import CellPrice, Price
    from harness.spec import SweepSpec

_GATE = "the report's validity gate compares equal budgets only"
TOLERANCE = 0.1  # share by which the searches of two arms may differ


def unequal(spec: SweepSpec, planned: Price) -> list[str]:
    """What a validity gate will refuse, in words: epochs of search, and what a trial trains; [] where all is equal.

    Of the arms of the `contrast`, else of all that share an encoder. Floors are given nothing.
    """
    compared = [cell for cell in planned.cells if cell.config.method.name not in FLOORS]
    if spec.contrast is not None:
        return [*_of(spec, [cell for cell in compared if cell.arm in spec.contrast])]
    encoders = dict.fromkeys(_encoder(cell) for cell in compared)
    return [line for one in encoders for line in _of(spec, [cell for cell in compared if _encoder(cell) == one])]


def _of(spec: SweepSpec, cells: Sequence[CellPrice]) -> Iterator[str]:
    arms = {arm: [cell for cell in cells if cell.arm == arm] for arm in dict.fromkeys(cell.arm for cell in cells)}
    searched = {arm: sum(cell.search * cell.config.length for cell in own) for arm, own in arms.items()}
    low, high = min(searched, key=searched.__getitem__, default=""), max(searched, key=searched.__getitem__, default="")
    if arms and searched[high] - searched[low] > TOLERANCE * searched[high]:
        yield (
            f"unequal tuning: {high} searches {searched[high]:,} epochs and {low} {searched[low]:,}, and {_GATE}; move "
            f"what only one of them varies into its `nuisance`, or give them as many cells"
        )
    varied = {path for cell in cells for path in (*spec.arms[cell.arm].scientific, *spec.arms[cell.arm].nuisance)}
    masking = {cell.config.method.name in MASKED for cell in cells}
    for path, values in _trained(arms).items():
        by_nature = path == "views.global_views" and len(masking) > 1  # who masks patches sees one view
        if path not in varied and not by_nature and len(set(values.values())) > 1:
            first = {value: arm for arm, value in reversed(values.items())}
            said = ", ".join(f"{value} in {first[value]}" for value in dict.fromkeys(values.values()))
            yield f"unequal training: {path} is {said}, and {_GATE}"


def _trained(arms: dict[str, list[CellPrice]]) -> dict[str, dict[str, int]]:
    first = {arm: cells[0].config for arm, cells in arms.items()}
    return {
        "epochs": {arm: config.epochs for arm, config in first.items()},
        "batch_size": {arm: config.batch_size for arm, config in first.items()},
        "views.global_views": {arm: config.views.global_views for arm, config in first.items()},
    }


def _encoder(cell: CellPrice) -> str:
    return canonical(cell.config.encoder.model_dump(mode="json"))
