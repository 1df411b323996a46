"""Checks of equal budgets: what a trial trains, and what the search of an arm may try."""

from typing import Any

import pandas as pd

from reports.evidence import Arm, Cell, Study
from reports.sections.gate_check import (
    FAIL,
    PASS,
    WARN,
    Check,
    all_keys,
    compared_arms,
    compared_cells,
    settings,
    uncompared,
    unmeasured,
    who,
)
from reports.wording import count, listing, name_text

BUDGET_TOLERANCE = 0.1  # epochs searched by two arms may differ so much, as a share
_ENDED = ("finished", "pruned", "diverged", "failed")  # all are charged
_VIEWS = "views.global_views"
_PARTS = ("epochs", "batch_size", _VIEWS)
_MASKING = {"ijepa", "data2vec", "mae"}  # predict the patches of one view, whatever the others are given


def training_budget(study: Study) -> Check | None:
    """Epochs, images per step and views of each image; but not what was searched or compared on purpose."""
    cells = compared_cells(study)
    name = "Equal training budget"
    if any(arm.is_floor for arm in compared_arms(study)):
        return None
    if len(cells) < 2:
        return unmeasured(name, uncompared(study)) if study.asked is not None else None
    whole = {who(cell): {path: _at(study, cell, path) for path in _PARTS} for cell in cells}
    if all(budget == whole[who(cells[0])] for budget in whole.values()):
        return Check(name, PASS, f"{_budget_text(whole[who(cells[0])])} per trial", all_keys(cells))
    varied = {path for cell in cells for path in (*cell.values, *_nuisance(study, cell.arm))}
    fixed = [path for path in _PARTS if path not in varied]
    budgets = {one: {path: budget[path] for path in fixed} for one, budget in whole.items()}
    texts = {one: _budget_text(budget) for one, budget in budgets.items()}
    said = "; ".join(f"{one}: {text}" for one, text in texts.items())
    masking = [cell for cell in cells if cell.keys and _method(study, cell) in _MASKING]
    by_nature = 0 < len(masking) < len(cells)
    owed = {tuple(n for path, n in budget.items() if path != _VIEWS or not by_nature) for budget in budgets.values()}
    if len(owed) > 1:
        return Check(name, FAIL, said, all_keys(cells))
    if by_nature and len({tuple(budget.values()) for budget in budgets.values()}) > 1:
        said = f"{said}. A method that masks patches sees one view of an image; device time differs too"
        return Check(name, WARN, said, all_keys(cells))
    left = [path for path in _PARTS if path in varied]
    free = f" ({listing(left)} varied by design)" if left else ""
    return Check(name, PASS, f"{next(iter(texts.values()))} per trial{free}", all_keys(cells))


def _nuisance(study: Study, arm: str) -> dict[str, Any]:
    own = (study.sweep.spec.get("arms") or {}).get(arm) or {}
    return own.get("nuisance") or {}


def _method(study: Study, cell: Cell) -> str:
    return str(study.sweep.configs[cell.keys[0]]["method"]["name"])


def _at(study: Study, cell: Cell, path: str) -> int:
    found: Any = study.sweep.configs[cell.keys[0]] if cell.keys else {}
    for part in path.split("."):
        found = found.get(part, 0) if isinstance(found, dict) else 0
    return int(found)


def _budget_text(budget: dict[str, int]) -> str:
    words = {"epochs": "{} epoch", "batch_size": "batches of {}", _VIEWS: "{} global view"}
    said = [words[path].format(n) + ("s" if n != 1 and path != "batch_size" else "") for path, n in budget.items()]
    return listing(said) or "nothing that is fixed"


def tuning_budget(study: Study) -> Check | None:
    """Epochs of the search trials that have ended, and settings to choose from, arm by arm within the encoder of the
    contrast. Cells of other sizes, data or epochs are no choice."""
    arms = [arm for arm in compared_arms(study) if not arm.is_floor]
    if len(arms) < 2:
        return None
    name = "Equal tuning budget"
    rows = {arm.name: _search_rows(study, arm) for arm in arms}
    searched = {arm: int(part.loc[part["state"].isin(_ENDED), "planned"].sum()) for arm, part in rows.items()}
    low, high = min(searched.values()), max(searched.values())
    said = listing([f"{name_text(arm)} {count(epochs, 'epoch')}" for arm, epochs in searched.items()])
    if high and high - low > BUDGET_TOLERANCE * high:
        return Check(name, FAIL, f"searched: {said}")
    if short := [text for arm in arms if (text := _unfinished(study, arm, rows[arm.name]))]:
        return Check(name, WARN, f"searched: {said}; not to its end: {listing(short)}")
    chosen_among = {arm.name: settings(arm) for arm in arms}
    if len(set(chosen_among.values())) > 1:
        said = listing([f"{name_text(arm)} among {count(n, 'setting')}" for arm, n in chosen_among.items()])
        return Check(name, WARN, f"selected {study.selected_on}: {said}; part of a difference may be tuning")
    if high:
        return Check(name, PASS, f"searched: {said}")
    each = next(iter(chosen_among.values()))
    return Check(name, PASS, "nothing was tuned: one setting of each arm" if each == 1 else
                 f"nothing was searched; each arm was selected among {each} settings")  # fmt: skip


def budget_spent(study: Study) -> Check | None:
    """Whether the sweep's budget ended it before its plan did, and whether it would end at the same trial again."""
    spent = [event.payload for event in study.sweep.events if event.kind == "budget_spent"]
    if not spent:
        return None
    said = (
        f"{spent[-1]['budget'].replace('_', ' ')} of {spent[-1]['limit']:g} used up; what was planned beyond is missing"
    )
    again = "" if spent[-1].get("repeats", True) else ". A budget in time ends at another trial each time it is run"
    return Check("Budget left at the end", WARN, said + again)


def _search_rows(study: Study, arm: Arm) -> pd.DataFrame:
    """One row per training: what fills two places was trained once."""
    return pd.concat([cell.searched for cell in arm.cells])


def _unfinished(study: Study, arm: Arm, rows: pd.DataFrame) -> str:
    """How many search trials of an arm have ended, where some have not, or were never asked for."""
    search = study.sweep.spec.get("search") or {}
    ended = int(rows["state"].isin(_ENDED).sum())
    asked = (search.get("trials") or 0) * search.get("studies", 1) * len(arm.cells) if _nuisance(study, arm.name) else 0
    places = study.sweep.trials
    repeated = int(
        ((places["arm"] == arm.name) & (places["encoder"] == arm.encoder) & (places["purpose"] == "search")).sum()
    ) - len(rows)  # places that another place's training fills
    planned = max(len(rows), asked - repeated)
    return f"{name_text(arm.name)} {ended} of {count(planned, 'search trial')}" if ended < planned else ""
