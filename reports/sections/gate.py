"""The validity gate: what must hold before a number may be called an answer. Every line is computed."""

import json
from collections.abc import Iterable
from math import prod

import pandas as pd

from reports.content import Prose, Section, Table, Value, plain
from reports.evidence import Arm, Cell, Study
from reports.sections.gate_budget import BUDGET_TOLERANCE, budget_spent, training_budget, tuning_budget
from reports.sections.gate_check import (
    FAIL,
    PASS,
    UNMEASURED,
    WARN,
    Check,
    all_keys,
    compared_arms,
    compared_cells,
    shortly,
    uncompared,
    unmeasured,
    who,
)
from reports.sections.gate_edges import edge, searched_edge
from reports.sections.gate_labelfree import selected_without_labels
from reports.sections.gate_same import same_code, same_data, same_protocol
from reports.sections.gate_training import above_the_floor, loss_and_probe, settled
from reports.wording import count, encoder_text, listing, metric_text, name_text

__all__ = [
    "BUDGET_TOLERANCE", "FAIL", "PASS", "UNMEASURED", "WARN", "Check", "compared_arms", "compared_cells", "failures",
    "gate", "section", "tally",
]  # fmt: skip

SEEDS_ENOUGH = 3  # the first n whose Student t interval is of use
INFEASIBLE_WARN, INFEASIBLE_FAIL = 0.0, 0.5
_TOLD = ("finished", "pruned", "diverged")  # of a failed or waiting trial nobody knows whether it would diverge


def gate(study: Study) -> list[Check]:
    checks = [
        _evidence_is_complete(study),
        _within_one_encoder(study),
        same_data(study),
        same_protocol(study),
        same_code(study),
        training_budget(study),
        tuning_budget(study),
        budget_spent(study),
        _seeds(study),
        _judged_on_test(study),
        edge(study),
        searched_edge(study),
        _infeasible(study),
        above_the_floor(study),
        settled(study),
        loss_and_probe(study),
        _worktree(study),
    ]
    return [check for check in checks if check is not None]


def failures(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if check.result == FAIL]


def tally(checks: Iterable[Check]) -> str:
    """`13 pass, 2 warn, 0 fail and 1 not measured`; the last only where there are some."""
    results = [check.result for check in checks]
    said = [f"{results.count(result)} {result}" for result in (PASS, WARN, FAIL)]
    return listing([*said, f"{open_} not measured"] if (open_ := results.count(UNMEASURED)) else said)


def section(checks: list[Check]) -> Section:
    words = {FAIL: "✕ fail", WARN: "! warn", UNMEASURED: "? not measured", PASS: "✓ pass"}  # in their order
    order = list(words)
    rows = [
        [
            Value(c.result, words[c.result], c.keys, tone="muted" if c.result == UNMEASURED else c.result),
            plain(c.name),
            plain(c.finding),
        ]
        for c in sorted(checks, key=lambda c: order.index(c.result))
    ]
    note = (
        "One failed check makes the strength of the whole report invalid; a warning limits what the answer covers, and "
        "so does a check that could not be made."
    )
    table = Table("validity", f"Validity gate: {tally(checks)}.", ["result", "check", "finding"], rows, provenance=True)
    return Section("validity", "Can this be trusted?", [Prose([note]), table])


# -- checks -----------------------------------------------------------------------------------------------------------


def _evidence_is_complete(study: Study) -> Check:
    name = "Every planned trial is there"
    holes = [cell for cell in study.cells if not cell.complete]
    if not study.cells:
        return Check(name, FAIL, "the ledger holds no trial")
    missing = [name for name in study.asked or () if name not in {arm.name for arm in study.arms}]
    if missing:
        return Check(name, FAIL, f"the contrast names {listing([name_text(m) for m in missing])}: no such arm")
    if absent := _absent(study):
        wanted = set(absent) & {arm.name for arm in compared_arms(study)}
        said = listing([f"{count(n, 'cell')} of {name_text(arm)}" for arm, n in absent.items()])
        return Check(name, FAIL if wanted else WARN, f"the sweep asks for what the ledger does not have: {said}")
    if not holes:
        return Check(name, PASS, f"{count(len(study.evidence['key'].unique()), 'evidence trial')}, all finished")
    compared = {arm.name for arm in compared_arms(study)}
    open_states = {"waiting", "running", "failed"}
    unfinished = [c for c in holes if not len(c.rows) or open_states & set(c.rows["state"])]
    breaks = [c for c in unfinished if c.arm in compared] + [c for c in compared_cells(study) if not c.complete]
    return Check(name, FAIL if breaks else WARN, _holes_text(holes), all_keys(holes))


def _absent(study: Study) -> dict[str, int]:
    """Arm → cells that the sweep file crosses and of which the ledger has no trial."""
    absent = {}
    for name, arm in (study.sweep.spec.get("arms") or {}).items():
        spaces = ((arm or {}).get("scientific") or {}).values()
        if any("when" in space for space in spaces):
            continue  # which values meet is then not a product
        crossed = prod(len(values) for space in spaces for values in space.values())
        if (missing := crossed - sum(len(a.cells) for a in study.arms if a.name == name)) > 0:
            absent[name] = missing
    return absent


def _holes_text(holes: list[Cell]) -> str:
    """How many trials are missing and why, then where: the first three cells by name."""
    states = pd.concat([c.rows.loc[~c.rows["key"].isin(c.finished["key"]), "state"] for c in holes])
    counts = states.replace("finished", "unmeasured").value_counts()
    planned = sum(cell.planned for cell in holes)
    said = [f"{n} {state}" for state, n in counts.items()]
    empty = sum(1 for cell in holes if not len(cell.rows))
    parts = [f"{listing(said)} of {count(planned, 'trial')}"] if said else []
    parts += [f"no evidence yet in {count(empty, 'cell')}"] if empty else []
    where = [who(cell) for cell in holes[:3]]
    more = [count(len(holes) - 3, "more cell")] if len(holes) > 3 else []
    return f"{', '.join(parts)} ({listing([*where, *more])})"


def _within_one_encoder(study: Study) -> Check | None:
    if study.asked is None or study.together:
        return None
    name, arms = "Contrast within one encoder", compared_arms(study)
    encoders = {arm.encoder for arm in arms}
    names = [encoder_text(json.loads(e)) for e in sorted(encoders)]
    if len(encoders) > 1:
        return Check(name, FAIL, f"the contrast crosses encoders: {listing(names)}")
    if len(arms) < 2:
        return unmeasured(name, "not both arms are in the ledger")
    return Check(name, PASS, f"both arms {'have' if any(arm.is_floor for arm in arms) else 'train'} {listing(names)}")


def _seeds(study: Study) -> Check:
    cells = compared_cells(study)
    if why := uncompared(study):
        return unmeasured("Seeds", why)
    name, n = "Seeds", {who(cell): len(cell.finished) for cell in cells}
    said = shortly([f"{who}: {k}" for who, k in n.items()])
    if len(n) > 2 and len(set(n.values())) == 1:
        said = f"{len(cells[0].finished)} in each of {len(n)} cells"
    if study.primary is not None and len(study.primary.differences) == 0:
        return Check(name, FAIL, f"no seed is shared, so nothing is paired ({said})", all_keys(cells))
    if len(set(n.values())) > 1 or (study.primary and len(study.primary.differences) < max(n.values())):
        return Check(name, WARN, f"unequal: {said}; the difference uses the shared seeds only", all_keys(cells))
    fewest = min(n.values())
    if fewest < SEEDS_ENOUGH:
        why = "one seed has no interval" if fewest < 2 else "two seeds give very wide intervals"
        return Check(name, WARN, f"{said}: {why}", all_keys(cells))
    return Check(name, PASS, f"{said}, paired by seed", all_keys(cells))


def _judged_on_test(study: Study) -> Check:
    if (without_labels := selected_without_labels(study)) is not None:
        return without_labels
    name = "Selected on validation, judged on test"
    if not any(len(cell.finished) for cell in study.cells):
        return unmeasured(name, "no trial has finished that could be selected or judged")
    if study.judge == study.metric:
        return Check(name, WARN, f"no trial has a test value: {metric_text(study.metric)} both selects and judges, "
                     "so what was the best of several looks better than it is")  # fmt: skip
    return Check(name, PASS, f"{metric_text(study.metric)} selects, {metric_text(study.judge)} judges")


def _infeasible(study: Study) -> Check | None:
    compared = compared_cells(study)
    trained = [c for arm in study.arms if not arm.is_floor for c in arm.cells if not _is_control(arm, c, compared)]
    total = sum(cell.planned for cell in trained)
    if not total:
        return None
    if not any(cell.rows["state"].isin(_TOLD).any() for cell in trained):
        return unmeasured("Infeasible trials", f"none of {count(total, 'trial')} has come to an end that tells")
    diverged, collapsed = (sum(cell.count(what) for cell in trained) for what in ("diverged", "collapsed"))
    share = (diverged + collapsed) / total
    rivals = [] if study.together else compared  # in a table that is crossed a collapse is one of its cells
    bad = [cell for cell in rivals if cell.count("diverged") or cell.count("collapsed")]
    found = f"{diverged} diverged and {collapsed} collapsed of {count(total, 'trial')} (controls left out)"
    searched = pd.concat([cell.searched for cell in trained])
    lost = int(searched["outcome"].isin(["diverged", "collapsed"]).sum())
    found += f", and {lost} of {count(len(searched), 'search trial')}" if len(searched) else ""
    if bad:
        worst = [f"{who(c)} ({c.count('diverged') + c.count('collapsed')} of {c.planned})" for c in bad]
        return Check("Infeasible trials", FAIL, f"{found}; what is compared did: {listing(worst)}", all_keys(bad))
    mostly = len(searched) > 0 and lost / len(searched) > INFEASIBLE_FAIL  # of the search: its space is too wide
    result = FAIL if share > INFEASIBLE_FAIL else WARN if share > INFEASIBLE_WARN or mostly else PASS
    return Check(
        "Infeasible trials",
        result,
        found,
        all_keys(c for c in trained if c.count("diverged") + c.count("collapsed")),
    )


def _is_control(arm: Arm, cell: Cell, compared: list[Cell]) -> bool:
    """Whether a collapse is no failure: at λ = 0, or where switches are taken apart to see what collapses."""
    asked = arm.method == "predictive" and not any(cell is other for other in compared)
    return asked or cell.values.get("method.lamb") == 0


def _worktree(study: Study) -> Check:
    git = study.sweep.environment.get("git")
    if not git:
        return Check("Clean worktree", WARN, "not run from a git checkout: the commit is unknown")
    sha = str(git.get("sha", "?"))[:12]
    if git.get("dirty"):
        return Check("Clean worktree", WARN, f"commit {sha} with uncommitted changes ({str(git.get('diff'))[:12]})")
    return Check("Clean worktree", PASS, f"commit {sha}")
