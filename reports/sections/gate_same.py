"""Checks that what is compared differs only in what is under study: data, trainer's code and evaluation."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.ledger import canonical
from reports.evidence import Study
from reports.sections.gate_check import (
    FAIL,
    PASS,
    WARN,
    Check,
    all_keys,
    compared_cells,
    shortly,
    uncompared,
    unmeasured,
    who,
)
from reports.wording import factor_text, listing, value_text


def same_data(study: Study) -> Check:
    """Trials are held to one fingerprint where their own values of the `data.…` factors are the same."""
    name = "Same data in what is compared"
    if why := uncompared(study):
        return unmeasured(name, why)
    return _same(study, "data", name, "data fingerprint", [p for p in study.sweep.factors if p.startswith("data.")])


def same_code(study: Study) -> Check:
    name = "Same trainer code in what is compared"
    if why := uncompared(study):
        return unmeasured(name, why)
    changed = [event.payload for event in study.sweep.events if event.kind == "code_changed"]
    if changed:
        hashes = " → ".join([str(changed[0]["old"])[:12], *(str(payload["new"])[:12] for payload in changed)])
        return Check(name, WARN, f"the trainer's code changed while the sweep ran, accepted on resume: {hashes}")
    return _same(study, "code", name, "hash of the trainer's code", [])


def _same(study: Study, column: str, name: str, what: str, free: Sequence[str]) -> Check:
    """`free`: paths under study on which the column depends."""
    cells = compared_cells(study)
    by_cell = [_by_place(study, cell.rows, column, free) for cell in cells]
    places = list(dict.fromkeys(place for found in by_cell for place in found))
    for place in places:
        mine = [(cell, found[place]) for cell, found in zip(cells, by_cell, strict=True) if place in found]
        if len({frozenset(values) for _, values in mine}) > 1:
            names = shortly([who(cell) for cell, _ in mine])
            return Check(name, FAIL, f"the {what} differs between {names}", all_keys(cells))
    anywhere = _by_place(study, study.evidence, column, free)
    if mixed := [len(values) for values in anywhere.values() if len(values) > 1]:
        apart = f" at one value of {listing([factor_text(path) for path in free])}" if free else ""
        return Check(name, WARN, f"{max(mixed)} different values of the {what} among the evidence trials{apart}",
                     all_keys(cells))  # fmt: skip
    seen = list(dict.fromkeys(value for found in by_cell for values in found.values() for value in values))
    if len(seen) > 1:
        under = listing([factor_text(path) for path in free])
        return Check(name, PASS, f"the {what} differs only with {under}, which is under study", all_keys(cells))
    return Check(name, PASS, f"one {what}: {str(seen[0])[:12]}", all_keys(cells))


def _by_place(study: Study, rows: pd.DataFrame, column: str, free: Sequence[str]) -> dict[str, list[str]]:
    """What a trial's own config has at the free paths → the values of the column there, sorted."""
    found: dict[str, set[str]] = {}
    for key, value in zip(rows["key"], rows[column], strict=True):
        config = study.sweep.configs[str(key)]
        found.setdefault(canonical([_at(config, path) for path in free]), set()).add(str(value))
    return {place: sorted(values) for place, values in found.items()}


def _at(config: dict[str, Any], path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def same_protocol(study: Study) -> Check:
    name = "Same evaluation protocol in what is compared"
    if why := uncompared(study):
        return unmeasured(name, why)
    cells = compared_cells(study)
    swept = {path.removeprefix("probe.") for cell in cells for path in cell.values if path.startswith("probe.")}
    probes = {
        canonical({k: v for k, v in study.sweep.configs[key].get("probe", {}).items() if k not in swept})
        for key in all_keys(cells)
    }
    if len(probes) > 1:
        return Check(name, FAIL, "the settings of the probe differ", all_keys(cells))
    versions = sorted(pd.concat([cell.rows["protocol"] for cell in cells]).dropna().unique())
    if len(versions) > 1:
        return Check(name, FAIL, f"versions of the probe differ: {listing(versions)}", all_keys(cells))
    probe = json.loads(next(iter(probes)))
    shown = ", ".join(
        f"{key} {value_text(value)}" for key, value in probe.items() if key in ("on", "shots", "draws", "k")
    )
    free = f"{listing(sorted(swept))} under study" if swept else ""
    return Check(name, PASS, ", ".join(filter(None, [*versions, shown, free])) or "one protocol", all_keys(cells))
