"""Checks of the ranges that were tried: a best value at an end of its range may have a better one beyond."""

import math
from collections.abc import Mapping
from typing import Any

from reports.evidence import Cell, Study
from reports.sections.gate_check import PASS, SCALES, WARN, Check, all_keys, compared_cells, who
from reports.wording import factor_text, listing, value_text

NEAR = 0.05  # of a searched range, on its own scale: so near its end a best value counts as at it


def edge(study: Study) -> Check | None:
    """Whether the best value of a numeric factor is the smallest or largest tried; λ = 0 is a control, no edge.

    None where no best is sought: along a scale (encoder size, data, epochs), and in a table of the paper, which has its
    own range and whose shapes say where an optimum may lie beyond.
    """
    lead = study.leads
    if lead is None or lead.selected is None or study.together:
        return None
    edges: list[str] = []
    inside: list[str] = []
    for path, chosen in lead.selected.values.items():
        tried = sorted({float(cell.values[path]) for cell in lead.cells if _number(cell.values.get(path))})
        positive = [v for v in tried if v > 0] if path == "method.lamb" else tried
        if path in SCALES or not _number(chosen) or len(tried) < 3:
            continue
        at_edge = chosen not in positive[1:-1]
        (edges if at_edge else inside).append(f"{factor_text(path)} = {value_text(chosen)}")
    name = "Best value inside the range tried"
    if edges:
        found = f"{listing(edges)} {'lies' if len(edges) == 1 else 'lie'} at the edge: the best value may lie beyond"
        return Check(name, WARN, found, lead.selected.keys)
    have = "has" if len(inside) == 1 else "have"
    return (
        Check(name, PASS, f"{listing(inside)} {have} neighbours on both sides", lead.selected.keys) if inside else None
    )


def searched_edge(study: Study) -> Check | None:
    """Whether a searched parameter of what is compared came out near an end of its range: of either side of the
    contrast, as a rival that was held back by its range is no fair rival."""
    edges: list[str] = []
    inside = 0
    cells = [cell for cell in compared_cells(study) if cell.keys]
    for cell in cells:
        for path, space in _nuisance(study, cell).items():
            near = _near_an_end(space, _at(study.sweep.configs[cell.keys[0]], path))
            if near:
                edges.append(f"{factor_text(path)} of {who(cell)} is {near}")
            inside += near == ""
    name = "Searched parameters inside their ranges"
    if edges:
        return Check(name, WARN, f"{'; '.join(edges)}: the best value may lie beyond", all_keys(cells))
    found = f"no searched value of what is compared within {100 * NEAR:.0f} % of an end of its range"
    return Check(name, PASS, found, all_keys(cells)) if inside else None


def _nuisance(study: Study, cell: Cell) -> Mapping[str, Mapping[str, list[Any]]]:
    """Dotted path → {kind: values or bounds}, of an arm that was searched."""
    arm = (study.sweep.spec.get("arms") or {}).get(cell.arm) or {}
    return arm.get("nuisance") or {} if len(cell.searched) else {}


def _at(config: Mapping[str, Any], path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _near_an_end(space: Mapping[str, list[Any]], value: Any) -> str | None:
    """What to say of a value near an end, "" of one inside; None where the range has no ends, or fewer than three
    values."""
    (kind, values), *_ = space.items()
    if not _number(value) or not all(_number(v) for v in values):
        return None
    low, high = min(values), max(values)
    shown = f"{value_text(value)}, and {value_text(low)} to {value_text(high)} was searched"
    if kind in ("grid", "choice"):
        return None if len(values) < 3 else "" if low < value < high else shown
    scale = math.log if kind.startswith("log") else float
    place = (scale(value) - scale(low)) / (scale(high) - scale(low)) if value > 0 or scale is float else 0.0
    return "" if NEAR <= place <= 1 - NEAR else shown


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
