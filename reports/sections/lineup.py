"""Which arms are a comparison of encoders: one method, the same data, probe, views and length, other encoders.

This is the only comparison across encoders that a report makes. It says which encoder suits a method, and nothing of
methods. Whatever else differs (a weight decay per family, tuned parameters) is found here and said there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.ledger import canonical
from reports.evidence import Arm, Cell, Study
from reports.wording import encoder_text, factor_text, listing, name_text, short_name, value_text

ENCODER = "encoder."
_ALIKE = ("data", "probe", "epochs", "batch_size", "views.global_views", "views.local_views")
_WHERE = {"seed", "device", "threads", "data.root", "data.decode", "data.workers", "data.download"}


@dataclass(frozen=True)
class Entry:
    """One encoder, represented by the cell that validation selected."""

    arm: Arm
    cell: Cell
    label: str
    encoder: str  # in full
    floor: Cell | None  # the same encoder at its initialisation

    @property
    def keys(self) -> tuple[str, ...]:
        return self.cell.keys


@dataclass(frozen=True)
class Lineup:
    method: str
    entries: list[Entry]  # trained, with evidence
    apart: dict[str, dict[str, list[str]]]  # dotted path beside the encoder → value → labels

    @property
    def complete(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.cell.complete]


def lineups(study: Study) -> list[Lineup]:
    """One per method and setting in which at least two encoders are trained."""
    varied = _varied(study)
    groups: dict[str, dict[str, Arm]] = {}
    for arm in study.arms:
        config = _config(study, arm)
        if arm.is_floor or config is None:
            continue
        flat = {path: value for path, value in _flat(config) if path not in varied}
        alike = {path: value for path, value in flat.items() if _in(path, ("method", *_ALIKE))}
        group = groups.setdefault(canonical(alike), {})
        group[arm.encoder] = _better(group.get(arm.encoder), arm)
    return [_lineup(study, list(group.values()), varied) for group in groups.values() if len(group) > 1]


def covers(study: Study, encoder: str) -> bool:
    """Whether the comparison of encoders says all there is of an encoder: one arm trains it, and is shown there."""
    trained = [arm for arm in study.within(encoder) if not arm.is_floor]
    shown = {id(entry.arm) for lineup in lineups(study) for entry in lineup.entries}
    return len(trained) == 1 and id(trained[0]) in shown


def _better(known: Arm | None, arm: Arm) -> Arm:
    """Of two arms that train one encoder, the one with the better validation mean."""
    if known is None or known.selected is None or arm.selected is None:
        return known or arm
    return max(known, arm, key=lambda a: a.sign * a.selected.val.mean() if a.selected else float("-inf"))


def _lineup(study: Study, arms: list[Arm], varied: set[str]) -> Lineup:
    cells = [arm.selected or next(cell for cell in arm.cells if len(cell.rows)) for arm in arms]
    labels = _labels(study, arms, cells)
    entries = [
        Entry(arm, cell, label, encoder_text(study.sweep.configs[cell.keys[0]]["encoder"]), _floor(study, arm))
        for arm, cell, label in zip(arms, cells, labels, strict=True)
    ]
    apart: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        for path, value in _flat(study.sweep.configs[entry.keys[0]]):
            if path not in varied and not path.startswith(ENCODER):
                apart.setdefault(path, {}).setdefault(value_text(value), []).append(entry.label)
    return Lineup(arms[0].method, entries, {path: values for path, values in apart.items() if len(values) > 1})


def apart_text(lineup: Lineup) -> str:
    """What else differs between the encoders of a lineup; empty where nothing does."""
    said = []
    for path, values in lineup.apart.items():
        shown = [f"{value} for {_some(labels)}" for value, labels in values.items()]
        said.append(f"{factor_text(path)} ({'; '.join(shown)})")
    return f"Beside the encoder they differ in {listing(said)}." if said else ""


def _some(labels: list[str]) -> str:
    return listing([*labels[:4], f"{len(labels) - 4} more"] if len(labels) > 5 else labels)


def _labels(study: Study, arms: list[Arm], cells: list[Cell]) -> list[str]:
    """The value of `encoder.name`, or the arm and its other encoder values; the encoder in full where that repeats."""
    found = []
    for arm, cell in zip(arms, cells, strict=True):
        values = {path: value for path, value in cell.values.items() if path.startswith(ENCODER)}
        named = values.pop("encoder.name", None)
        alone = not values and named is None
        head = name_text(named if named is not None else arm.name)
        full = encoder_text(study.sweep.configs[cell.keys[0]]["encoder"])
        found.append(full if alone else short_name(" ".join([head, *map(value_text, values.values())]), 40))
    repeats = {label for label in found if found.count(label) > 1}
    return [
        f"{label} ({name_text(arm.name)}, {encoder_text(study.sweep.configs[cell.keys[0]]['encoder'])})"
        if label in repeats else label
        for label, arm, cell in zip(found, arms, cells, strict=True)
    ]  # fmt: skip


def _floor(study: Study, arm: Arm) -> Cell | None:
    floors = [floor.selected for floor in study.floors(arm.encoder) if floor.method == "random" and floor.selected]
    return floors[0] if floors else None


def _config(study: Study, arm: Arm) -> Mapping[str, Any] | None:
    cell = arm.selected or next((cell for cell in arm.cells if len(cell.rows)), None)
    return None if cell is None else study.sweep.configs[cell.keys[0]]


def _varied(study: Study) -> set[str]:
    """Paths that differ on purpose: compared, searched, or only about where a trial runs."""
    spec = study.sweep.spec
    parts = [spec, *(arm or {} for arm in (spec.get("arms") or {}).values())]
    searched = {path for part in parts for path in part.get("nuisance") or {}}
    return {path for cell in study.cells for path in cell.values} | searched | _WHERE


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _in(path: str, parts: tuple[str, ...]) -> bool:
    return any(path == part or path.startswith(f"{part}.") for part in parts)
