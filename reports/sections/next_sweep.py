"""The next sweep: a command that can be pasted, with why and its price."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import pandas as pd

from reports import statistics as st
from reports.evidence import FLOOR_METHODS, Cell, Contrast, Study
from reports.load import EVIDENCE
from reports.sections.gate import Check, failures
from reports.sections.reproduce import folder_text
from reports.wording import count, duration, listing, name_text

SPREAD = 3  # pairs that show how much seeds differ, roughly
SHOWN = 5  # pairs that are proposed where fewer than that are there
Proposal = tuple[str, str]  # the command, empty where none is sensible; why, with its price
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


@dataclass(frozen=True)
class Open:
    """A difference that the answer rests on and leaves open."""

    text: str
    contrast: Contrast
    pairs: int | None  # of seeds, that would settle it; None where MOST_SEEDS would not, or where too few show a spread

    @property
    def seen(self) -> int:
        return len(self.contrast.differences)

    @property
    def beyond(self) -> bool:
        """Whether MOST_SEEDS would hardly settle it."""
        return self.pairs is None and self.seen >= SPREAD

    @property
    def wanted(self) -> int:
        """Pairs that settle it, or that show first how much seeds differ."""
        return self.pairs or SHOWN


def of_contrast(study: Study, strength: str, unsettled: Sequence[Open] = ()) -> Proposal:
    """What settles what is open, else the same question on fresh seeds."""
    if strength in (st.UNDECIDED, st.LEANING) and unsettled:
        return settling(study, unsettled)
    used = _used(study)
    first = max(used, default=-1) + 1
    seeds = list(range(first, first + max(len(used), 5)))
    return _run(study, "fresh", seeds, "The same question on fresh seeds", study.cells)


def settling(study: Study, unsettled: Sequence[Open]) -> Proposal:
    """So many seeds that what can be settled is, of its cells alone; no command where nothing affordable would."""
    within = [one for one in unsettled if not one.beyond]
    if not within:
        said = listing([one.text for one in unsettled])
        return "", (
            f"Nothing affordable settles {said}: {st.MOST_SEEDS} pairs of seeds would hardly do, if mean and spread "
            "are what they seem."
        )
    seeds = max(one.wanted for one in within)
    cells = {id(cell): cell for one in within for cell in (one.contrast.a, one.contrast.b)}
    why = f"{count(seeds, 'pair')} of seeds for {listing([one.text for one in within])}"
    return more_seeds(study, seeds, why, list(cells.values()))


def more_seeds(study: Study, seeds: int, why: str, cells: Sequence[Cell] | None = None) -> Proposal:
    """So many for these cells (else all)."""
    chosen, sets = (study.cells, []) if cells is None else only(study, cells)
    return _run(study, f"{seeds}-seeds", list(range(seeds)), why, chosen, sets)


def only(study: Study, cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """What a sweep of these cells trains, floors of their encoders among it, and the overrides that leave the others
    out; every cell and none where overrides cannot say them."""
    if not all(_sayable(arm.name) for arm in study.arms):
        return study.cells, []
    encoders = {cell.encoder for cell in cells}
    floors = {arm.name for arm in study.arms if arm.is_floor and arm.encoder in encoders}
    kept: list[Cell] = []
    gone: list[str] = []
    changed: Values = {}
    for name in dict.fromkeys(arm.name for arm in study.arms):
        own = [cell for arm in study.arms if arm.name == name for cell in arm.cells]
        mine = own if name in floors else [cell for cell in cells if cell.arm == name]
        kept += mine
        if not mine:
            gone.append(f"arms.{name}=null")
        elif name not in floors:
            tried = grids(study, name)
            met = {path: [cell.values.get(path) for cell in mine] for path in tried}
            wanted = {path: [value for value in values if value in met[path]] for path, values in tried.items()}
            if prod(len(values) for values in wanted.values()) != len(mine):
                return study.cells, []
            changed |= {(name, path): values for path, values in wanted.items() if len(values) < len(tried[path])}
    names = {cell.arm for cell in kept}
    if any(_of_arm(study, name, "nuisance") for name in _arms(study)) and not any(
        _of_arm(study, name, "nuisance") for name in names
    ):
        return study.cells, []  # what says how to search would have nothing to be about
    unused = [
        key for key in ("scientific", "nuisance")
        if (shared := study.sweep.spec.get(key)) and all(_of_arm(study, name, key) != shared for name in names)
    ]  # fmt: skip
    if not {*(study.sweep.spec.get("contrast") or ())} <= names:
        unused.append("contrast")
    return kept, [*gone, *(f"{key}=null" for key in unused), *_sets(study, changed)]


def _sayable(arm: str) -> bool:
    """Whether `--set arms.NAME…` can be printed as it is, and names that arm."""
    return name_text(arm) == arm and "=" not in arm and all(arm.split("."))


def other_values(study: Study, suffix: str, values: Values) -> str:
    """A sweep with other values and the same seeds; what is there is not trained again."""
    parts = [part for one in _sets(study, values) for part in ("--set", one)]
    return _command(study, suffix, parts, reuse=True)


def _sets(study: Study, values: Values) -> list[str]:
    """Overrides of a sweep folder's file, where every arm has its factors; those shared by arms must be some arm's."""
    shared = study.sweep.spec.get("scientific")
    sharing = next((arm for arm, _ in values if shared and _of_arm(study, arm, "scientific") == shared), None)
    return [
        f"{where}scientific.{path}.grid=[{', '.join(_yaml(value) for value in grid)}]"
        for (arm, path), grid in values.items() for where in (*([""] if arm == sharing else []), f"arms.{arm}.")
    ]  # fmt: skip


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def grids(study: Study, arm: str) -> dict[str, list[Any]]:
    """Path → the values that the sweep file compares."""
    return {path: list(space["grid"]) for path, space in _of_arm(study, arm, "scientific").items() if "grid" in space}


def _arms(study: Study) -> Mapping[str, Any]:
    return study.sweep.spec.get("arms") or {}


def _of_arm(study: Study, arm: str, key: str) -> Mapping[str, Any]:
    """Its own `scientific` or `nuisance`, as the folder's sweep file has them."""
    return (_arms(study).get(arm) or {}).get(key) or {}


def _used(study: Study) -> list[int]:
    return sorted(study.evidence["seed"].dropna().astype(int).unique())


# -- the price --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Price:
    """What a sweep trains beside what an earlier one has finished."""

    trials: int
    seconds: float  # of device time; NaN where nothing tells
    there: int  # trials of the same design that have finished
    stopped: int  # search trials among `trials` that were there, and had been stopped early


def _run(
    study: Study, suffix: str, seeds: list[int], why: str, cells: Iterable[Cell], sets: Sequence[str] = ()
) -> Proposal:
    """The same sweep with other seeds, of cells that were trained."""
    there = [cell for cell in cells if len(cell.rows)]
    value = str(len(seeds)) if seeds == list(range(len(seeds))) else str(seeds).replace(" ", "")
    parts = [part for key in _keys(there) for part in ("--set", f"{key}={value}")]
    parts += [part for one in sets for part in ("--set", one)]
    cost = _priced(study, there, seeds)
    return _command(
        study, suffix, parts, reuse=cost.there > 0
    ), f"{why}{_price(cost.trials, cost.seconds)}{_kept(cost)}."


def _keys(cells: Sequence[Cell]) -> list[str]:
    """The keys of the sweep file by which cells get other seeds: floors of a sweep that searches keep theirs."""
    searched = any(len(cell.searched) for cell in cells)
    plain = any(not len(cell.searched) and not _is_floor(cell) for cell in cells)
    return [*(["seeds"] if plain or not searched else []), *(["confirm.seeds"] if searched else [])]


def _is_floor(cell: Cell) -> bool:
    return str(cell.rows["method"].iloc[0]) in FLOOR_METHODS


def _priced(study: Study, cells: Sequence[Cell], seeds: Sequence[int]) -> Price:
    """As `harness plan` counts: trainings that two cells share once; less what has finished."""
    others, mean = "seeds" in _keys(cells), _seconds(study.evidence)
    planned: dict[Any, float] = {}  # training → its seconds
    finished: set[Any] = set()
    stopped: set[str] = set()
    for cell in cells:
        evidence = cell.everything[cell.everything["purpose"].isin(EVIDENCE)]
        given = seeds if others or not _is_floor(cell) else sorted(evidence["seed"])
        for variant, rows in evidence.groupby("variant", sort=False):
            own = _seconds(rows)
            planned |= {(variant, seed): own if own == own else mean for seed in given}
            finished |= {(variant, seed) for seed in rows.loc[rows["state"] == "finished", "seed"]}
        planned |= dict(zip(cell.searched["key"], cell.searched["seconds"].fillna(0.0), strict=True))
        done = cell.searched["state"] == "finished"
        finished |= {*cell.searched.loc[done, "key"]}
        stopped |= {*cell.searched.loc[~done, "key"]}
    missing = [seconds for training, seconds in planned.items() if training not in finished]
    return Price(len(missing), sum(missing), len(planned) - len(missing), len(stopped))


def _kept(cost: Price) -> str:
    if not cost.there:
        return ""
    again = f", {cost.stopped} of them searches that were stopped early and are begun anew" if cost.stopped else ""
    return (
        f"{again}; the {cost.there:,} that are there are taken over if trainer code, torch version, kind of device and "
        "threads are the same, else trained again"
    )


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
