"""The next sweep: a command that can be pasted, with why and its price."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import pandas as pd

from reports import statistics as st
from reports.evidence import Cell, Study
from reports.sections.gate import Check, failures
from reports.sections.reproduce import folder_text
from reports.wording import count, duration

MOST_SEEDS = 50  # beyond this, more seeds are no sensible next step
Proposal = tuple[str, str]  # the command; why, with its price
Values = dict[tuple[str, str], list[Any]]  # (arm, path of a factor) → what it compares


def unfinished(study: Study, checks: Sequence[Check]) -> Proposal | None:
    """What comes before any other sweep: finish this one, or correct it; None where it is whole and valid."""
    where = shlex.quote(folder_text(study))
    trials = study.sweep.trials.drop_duplicates("key")
    if waiting := int(trials["state"].isin(["waiting", "running"]).sum()):
        price = _price(waiting, waiting * _seconds(study.evidence))
        return f"harness resume {where}", f"Finish what is planned{price}."
    if len(failed := trials.loc[trials["state"] == "failed", "key"]):
        return f"harness show {failed.iloc[0]} --dir {where}", "See why a trial failed before anything is run again."
    if failures(checks):
        return f"harness plan {where}/sweep.yaml", "Correct what failed in a copy of the sweep, then price it."
    return None


def of_contrast(study: Study, strength: str) -> Proposal:
    """More seeds where the primary contrast is open, else the same question on fresh ones."""
    used = _used(study)
    if strength in (st.UNDECIDED, st.LEANING) and study.primary is not None:
        needed = st.pairs_needed(study.primary.differences.to_numpy(), study.rope, MOST_SEEDS)
        return more_seeds(study, needed or max(10, len(used) * 2), "More seeds for the same question")
    first = max(used, default=-1) + 1
    fresh = list(range(first, first + max(len(used), 5)))
    return _run(study, "fresh", fresh, "The same question on fresh seeds", study.cells)


def more_seeds(study: Study, seeds: int, why: str, cells: Sequence[Cell] | None = None) -> Proposal:
    """So many for these cells (else all); those that are there are not trained again."""
    chosen, sets = (study.cells, []) if cells is None else only(study, cells)
    why = f"{why}; those that are there are not trained again"
    return _run(study, f"{seeds}-seeds", list(range(seeds)), why, chosen, sets)


def only(study: Study, cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """What a sweep of these cells trains, floors among it, and the overrides that leave the others out; every cell and
    none where a grid cannot say them."""
    kept = [cell for arm in study.arms if arm.is_floor for cell in arm.cells]
    gone: list[str] = []
    changed: Values = {}
    for name in dict.fromkeys(arm.name for arm in study.arms if not arm.is_floor):
        mine = [cell for cell in cells if cell.arm == name]
        if not mine:
            gone.append(f"arms.{name}=null")
            continue
        tried = grids(study, name)
        met = {path: [cell.values.get(path) for cell in mine] for path in tried}
        wanted = {path: [value for value in values if value in met[path]] for path, values in tried.items()}
        if prod(len(values) for values in wanted.values()) != len(mine):
            return study.cells, []
        kept += mine
        changed |= {(name, path): values for path, values in wanted.items() if len(values) < len(tried[path])}
    return kept, [*gone, *_sets(study, changed)]


def other_values(study: Study, suffix: str, values: Values) -> str:
    """A sweep with other values and the same seeds; what is there is not trained again."""
    parts = [part for one in _sets(study, values) for part in ("--set", one)]
    return _command(study, suffix, parts, reuse=True)


def _sets(study: Study, values: Values) -> list[str]:
    """Overrides of a sweep folder's file, where every arm has its factors; those shared by arms must be some arm's."""
    shared = study.sweep.spec.get("scientific")
    sharing = next((arm for arm, _ in values if shared and _spaces(study, arm) == shared), None)
    return [
        f"{where}scientific.{path}.grid=[{', '.join(_yaml(value) for value in grid)}]"
        for (arm, path), grid in values.items() for where in (*([""] if arm == sharing else []), f"arms.{arm}.")
    ]  # fmt: skip


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def grids(study: Study, arm: str) -> dict[str, list[Any]]:
    """Path → the values that the sweep file compares."""
    return {path: list(space["grid"]) for path, space in _spaces(study, arm).items() if "grid" in space}


def _spaces(study: Study, arm: str) -> Mapping[str, Any]:
    return ((study.sweep.spec.get("arms") or {}).get(arm) or {}).get("scientific") or {}


def _used(study: Study) -> list[int]:
    return sorted(study.evidence["seed"].dropna().astype(int).unique())


def _run(
    study: Study, suffix: str, seeds: list[int], why: str, cells: Iterable[Cell], sets: Sequence[str] = ()
) -> Proposal:
    confirms = (study.sweep.trials["purpose"] == "confirm").any() and study.sweep.spec.get("confirm")
    value = str(len(seeds)) if seeds == list(range(len(seeds))) else str(seeds).replace(" ", "")
    parts = ["--set", f"{'confirm.seeds' if confirms else 'seeds'}={value}"]
    parts += [part for one in sets for part in ("--set", one)]
    fresh = set(seeds) - set(_used(study))
    there = [cell for cell in cells if len(cell.rows)]
    mean = _seconds(study.evidence)
    seconds = [own if (own := _seconds(cell.rows)) == own else mean for cell in there]
    price = _price(len(there) * len(fresh), sum(seconds) * len(fresh))
    return _command(study, suffix, parts, reuse=len(fresh) < len(seeds)), f"{why}{price}."


def _command(study: Study, suffix: str, parts: Sequence[str], reuse: bool) -> str:
    folder = folder_text(study)
    name = f"{study.sweep.name}-{suffix}"[:64]
    again = ["--reuse", folder] if reuse else []
    return shlex.join(["harness", "run", f"{folder}/sweep.yaml", "--set", f"name={name}", *parts, *again])


def _seconds(rows: pd.DataFrame) -> float:
    """Mean over the trainings that finished; NaN where none has."""
    done = rows.drop_duplicates("key")
    return float(done.loc[done["state"] == "finished", "seconds"].mean())


def _price(trials: int, seconds: float) -> str:
    known = f", about {duration(seconds)} of device time" if seconds == seconds else ""
    return f": {count(trials, 'trial')}{known}"
