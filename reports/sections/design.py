"""What was asked and how: roles of the factors, seeds, sampler, selection, ROPE, primary contrast."""

from collections.abc import Mapping
from typing import Any

from reports.content import Section, Table, Value, plain
from reports.evidence import Study, encoder_names
from reports.figures.palette import PALETTE
from reports.wording import (
    count,
    difference_unit,
    duration,
    factor_text,
    listing,
    metric_text,
    name_text,
    value_text,
)


def section(study: Study) -> Section:
    return Section("design", "Design", [_roles(study), _arms(study)])


def scientific(study: Study) -> dict[str, list[Any]]:
    """Factor → values compared, as run."""
    values: dict[str, list[Any]] = {}
    for cell in study.cells:
        for path, value in cell.values.items():
            if value not in values.setdefault(path, []):
                values[path].append(value)
    return values


def nuisance(study: Study) -> list[str]:
    spec = study.sweep.spec
    named = list(spec.get("nuisance") or {})
    for arm in (spec.get("arms") or {}).values():
        named += list((arm or {}).get("nuisance") or {})
    searched = bool((study.sweep.trials["purpose"] == "search").any())
    return list(dict.fromkeys(named)) if searched else []


def _roles(study: Study) -> Table:
    spec = study.sweep.spec
    rows: list[tuple[str, str]] = []
    for path, values in scientific(study).items():
        rows.append((f"Scientific: {factor_text(path)}", listing([value_text(v) for v in values]) + ", compared"))
    if not scientific(study):
        rows.append(("Scientific", "none; the arms are compared"))
    searched = nuisance(study)
    search = spec.get("search") or {}
    if searched:
        paths = listing([factor_text(path) for path in searched])
        rows.append(("Nuisance", f"{paths}: searched in every cell, never compared"))
        rows.append(("Sampler", f"{search.get('sampler')}, {_search_text(search)} per cell"))
        confirm = spec.get("confirm") or {}
        rows.append(("Evidence", f"confirm trials only (top {confirm.get('top')}, fresh seeds); search trials never"))
    else:
        rows.append(("Nuisance", "none: every trial is evidence"))
    stopping = spec.get("stopping")
    rows.append(("Early stopping", f"{stopping['name']} per {stopping['scope']}" if stopping else "none"))
    seeds = sorted(study.evidence["seed"].dropna().astype(int).unique())
    rows.append(("Seeds of the evidence", f"{len(seeds)}: {_seed_text(seeds)}; the same in every cell, hence paired"))
    last = "; no labels, and what has collapsed ranks last" if study.label_free else ""
    rows.append(("Selected on", f"{metric_text(study.metric)} of the last epoch, mean over seeds{last}"))
    rows.append(("Judged on", f"{study.judge_text}, read once, at the end"
                 if study.judge != study.metric else f"{study.judge_text}: no test value was recorded"))  # fmt: skip
    unit = difference_unit(study.judge)
    rows.append(("Practical equivalence (ROPE)", f"±{study.rope:g} {unit}".strip()))
    declared = bool(spec.get("contrast"))
    asked = f"{name_text(study.asked[0])} − {name_text(study.asked[1])}" if study.asked else "best cell − second best"
    how = "declared" if declared else "not declared: taken by default"
    contrast = f"{study.focus.text}, on which the strength rests" if study.focus else f"{asked} ({how})"
    together = "none: the cells of the paper's table decide together" if study.together else ""
    rows.append(("Primary contrast", together or contrast))
    return Table("design", "Roles and rules of the sweep.", ["what", "how"],
                 [[Value(what, what, strong=True), plain(how)] for what, how in rows])  # fmt: skip


def _search_text(search: Mapping[str, Any]) -> str:
    trials, studies = search.get("trials"), int(search.get("studies") or 1)
    many = "every combination" if trials is None else count(int(trials), "trial")
    return many if studies == 1 else f"{studies} studies of {many}"


def _seed_text(seeds: list[int]) -> str:
    if len(seeds) > 3 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return listing([str(seed) for seed in seeds])


def _arms(study: Study) -> Table:
    names = encoder_names(study)
    trials = study.sweep.trials
    rows = []
    for arm in study.arms:
        mine = trials[(trials["arm"] == arm.name) & (trials["encoder"] == arm.encoder)].drop_duplicates("key")
        seconds = float(mine["seconds"].sum())
        rows.append([
            Value(arm.name, name_text(arm.name), tuple(mine["key"]), colour=colour_class(study, arm.name), strong=True),
            plain(arm.method), plain(names[arm.encoder]), plain(len(arm.cells)), plain(len(mine), f"{len(mine):,}"),
            plain(int(mine["done"].sum()), f"{int(mine['done'].sum()):,}"), plain(seconds, duration(seconds)),
        ])  # fmt: skip
    columns = ["arm", "method", "encoder", "cells", "trials", "epochs run", "device time"]
    caption = f"Arms and what they cost, search included ({count(trials['key'].nunique(), 'trial')} in all)."
    caption += " Device time is in seconds in the CSV."
    return Table("arms", caption, columns, rows, provenance=True)


def colour_class(study: Study, arm: str) -> str:
    if any(a.is_floor for a in study.arms if a.name == arm):
        return "floor"
    again, place = divmod(study.colours[arm], len(PALETTE))
    return f"arm-{place} again-{min(again, 3)}" if again else f"arm-{place}"
