"""A check of the validity gate, and the arms and cells that it is about: those that decide the sweep's question."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.evidence import Arm, Cell, Study
from reports.wording import listing, name_text

PASS, WARN, FAIL = "pass", "warn", "fail"
_SHOWN = 6  # cells that a finding names


@dataclass(frozen=True)
class Check:
    name: str
    result: str
    finding: str
    keys: tuple[str, ...] = ()


def compared_arms(study: Study) -> list[Arm]:
    """The arms of the primary contrast, in the encoder where it is drawn."""
    if study.leads is None:
        return []
    if study.together:
        names = {(cell.arm, cell.encoder) for cell in study.together}
        return [arm for arm in study.arms if (arm.name, arm.encoder) in names]
    if study.asked is None:
        return [study.leads]
    inside = [arm for arm in study.within(study.leads.encoder) if arm.name in study.asked]
    missing = [arm for arm in study.arms if arm.name in study.asked and arm.name not in {a.name for a in inside}]
    return inside + missing[:1]


def compared_cells(study: Study) -> list[Cell]:
    if study.together:
        return list(study.together)
    if study.primary is not None:
        return [study.primary.a, study.primary.b]
    return [arm.selected for arm in compared_arms(study) if arm.selected is not None]


def shortly(said: Sequence[str]) -> str:
    """The first few of what is said of many cells."""
    return listing([*said[:_SHOWN], f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN + 1 else said)


def who(cell: Cell) -> str:
    return f"{name_text(cell.arm)} at {cell.text}" if cell.text else name_text(cell.arm)


def all_keys(cells: Iterable[Cell]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for cell in cells for key in cell.keys))
