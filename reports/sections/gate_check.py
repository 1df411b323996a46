"""A check of the validity gate, and the arms and cells that it is about: those that decide the sweep's question."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.ledger import canonical
from reports.evidence import Arm, Cell, Study
from reports.sections.scaling_lines import DATA, EPOCHS, SIZE
from reports.wording import listing, name_text

PASS, WARN, FAIL = "pass", "warn", "fail"
UNMEASURED = "unmeasured"  # the question arises, and the ledger does not hold what would answer it
SCALES = frozenset({*SIZE, DATA, EPOCHS})  # more is dearer, not better or worse: no optimum is sought along them
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


def uncompared(study: Study) -> str:
    """Why there is nothing to compare yet; "" where there is."""
    cells = compared_cells(study)
    if not cells:
        return "no trial of what is compared has finished"
    alone = len(cells) == 1 and study.asked is not None
    return f"of what is compared, only {who(cells[0])} has finished trials" if alone else ""


def settings(arm: Arm) -> int:
    """Between how many settings of an arm a choice was possible: its cells, sizes, data and epochs aside."""
    return len({canonical({p: v for p, v in cell.values.items() if p not in SCALES}) for cell in arm.cells})


def unmeasured(name: str, why: str, keys: tuple[str, ...] = ()) -> Check:
    return Check(name, UNMEASURED, f"not measured: {why}", keys)


def concluded(name: str, bad: str, good: str, why_not: Mapping[str, str], keys: tuple[str, ...]) -> Check:
    """One check of several subjects: `bad` of some, else `good` of the rest; `why_not`: subject → why it was not
    measured. It passes only where nothing is bad and all were measured."""
    found = bad or good
    subjects: dict[str, list[str]] = {}
    for subject, why in why_not.items():
        subjects.setdefault(why, []).append(subject)
    if not found and len(subjects) == 1:
        return unmeasured(name, next(iter(subjects)), keys)
    missing = [f"not measured in {shortly(names)}: {why}" for why, names in subjects.items()]
    more = [f"and {len(missing) - _SHOWN} more that were not"] if len(missing) > _SHOWN else []
    said = "; ".join([*([found] if found else []), *missing[:_SHOWN], *more])
    return Check(name, WARN if bad else UNMEASURED if missing else PASS, said, keys)


def shortly(said: Sequence[str]) -> str:
    """The first few of what is said of many cells."""
    return listing([*said[:_SHOWN], f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN + 1 else said)


def who(cell: Cell) -> str:
    return f"{name_text(cell.arm)} at {cell.text}" if cell.text else name_text(cell.arm)


def all_keys(cells: Iterable[Cell]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for cell in cells for key in cell.keys))
