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
    WARN,
    Check,
    all_keys,
    compared_arms,
    compared_cells,
    shortly,
    who,
)
from reports.sections.gate_edges import edge, searched_edge
from reports.sections.gate_labelfree import selected_without_labels
from reports.wording import (
    amount,
    count,
    difference_unit,
    encoder_text,
    listing,
    metric_text,
    name_text,
    value_text,
)

__all__ = [
    "BUDGET_TOLERANCE", "FAIL", "PASS", "WARN", "Check", "compared_arms", "compared_cells", "failures", "gate",
    "section",
]  # fmt: skip

SEEDS_ENOUGH = 3  # the first n whose Student t interval is of use
RISING_WINDOW = 0.2  # last share of the epochs in which a curve must have settled
INFEASIBLE_WARN, INFEASIBLE_FAIL = 0.0, 0.5


def gate(study: Study) -> list[Check]:
    checks = [
        _evidence_is_complete(study),
        _within_one_encoder(study),
        _same(study, "data", "Same data in what is compared", "data fingerprint"),
        _same_protocol(study),
        _same(study, "code", "Same trainer code in what is compared", "hash of the trainer's code"),
        training_budget(study),
        tuning_budget(study),
        budget_spent(study),
        _seeds(study),
        _judged_on_test(study),
        edge(study),
        searched_edge(study),
        _infeasible(study),
        _above_the_floor(study),
        _settled(study),
        _loss_and_probe(study),
        _worktree(study),
    ]
    return [check for check in checks if check is not None]


def failures(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if check.result == FAIL]


def section(checks: list[Check]) -> Section:
    words = {PASS: "✓ pass", WARN: "! warn", FAIL: "✕ fail"}
    order = [FAIL, WARN, PASS]
    rows = [
        [Value(c.result, words[c.result], c.keys, tone=c.result), plain(c.name), plain(c.finding)]
        for c in sorted(checks, key=lambda c: order.index(c.result))
    ]
    tally = [f"{sum(c.result == r for c in checks)} {r}" for r in (PASS, WARN, FAIL)]
    note = "One failed check makes the strength of the whole report invalid; a warning limits what the answer covers."
    table = Table(
        "validity", f"Validity gate: {listing(tally)}.", ["result", "check", "finding"], rows, provenance=True
    )
    return Section("validity", "Can this be trusted?", [Prose([note]), table])


# -- checks -----------------------------------------------------------------------------------------------------------


def _rows(cells: Iterable[Cell]) -> pd.DataFrame:
    frames = [cell.rows for cell in cells if len(cell.rows)]
    return pd.concat(frames) if frames else pd.DataFrame(columns=["key", "data", "code", "protocol"])


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
    encoders = {arm.encoder for arm in compared_arms(study)}
    names = [encoder_text(json.loads(e)) for e in sorted(encoders)]
    if len(encoders) > 1:
        return Check("Contrast within one encoder", FAIL, f"the contrast crosses encoders: {listing(names)}")
    return Check("Contrast within one encoder", PASS, f"both arms train {listing(names)}")


def _same(study: Study, column: str, name: str, what: str) -> Check | None:
    cells = compared_cells(study)
    rows = _rows(cells)
    if rows.empty:
        return None
    factors = {path.split(".")[0] for cell in cells for path in cell.values}
    if column in factors:  # the factor under study changes it on purpose
        return Check(name, PASS, f"the {what} differs because a factor under study is part of the {column}")
    changed = [event for event in study.sweep.events if event.kind == "code_changed"]
    if column == "code" and changed:
        hashes = " → ".join([str(changed[0].payload["old"])[:12], *(str(e.payload["new"])[:12] for e in changed)])
        return Check(name, WARN, f"the trainer's code changed while the sweep ran, accepted on resume: {hashes}")
    per_cell = [frozenset(cell.rows[column]) for cell in cells]
    everything = study.evidence[column].nunique()
    if len(set(per_cell)) > 1:
        return Check(name, FAIL, f"the {what} differs between {shortly([who(c) for c in cells])}", all_keys(cells))
    if any(len(seen) > 1 for seen in per_cell) or everything > 1:
        return Check(
            name, WARN, f"{everything} different values of the {what} among the evidence trials", all_keys(cells)
        )
    return Check(name, PASS, f"one {what}: {str(rows[column].iloc[0])[:12]}", all_keys(cells))


def _same_protocol(study: Study) -> Check | None:
    cells = compared_cells(study)
    if not cells:
        return None
    probes = {json.dumps(study.sweep.configs[key].get("probe", {}), sort_keys=True) for key in all_keys(cells)}
    swept = any(path.startswith("probe") for cell in cells for path in cell.values)
    name = "Same evaluation protocol in what is compared"
    if len(probes) > 1 and not swept:
        return Check(name, FAIL, "the settings of the probe differ", all_keys(cells))
    versions = sorted(_rows(cells)["protocol"].dropna().unique())
    if len(versions) > 1:
        return Check(name, FAIL, f"versions of the probe differ: {listing(versions)}", all_keys(cells))
    probe = json.loads(next(iter(probes)))
    shown = ", ".join(
        f"{key} {value_text(value)}" for key, value in probe.items() if key in ("on", "shots", "draws", "k")
    )
    return Check(name, PASS, ", ".join(filter(None, [*versions, shown])) or "one protocol", all_keys(cells))


def _seeds(study: Study) -> Check | None:
    cells = compared_cells(study)
    if not cells:
        return None
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
    if study.judge == study.metric:
        return Check(name, WARN, f"no trial has a test value: {metric_text(study.metric)} both selects and judges, "
                     "so the winner looks better than it is")  # fmt: skip
    return Check(name, PASS, f"{metric_text(study.metric)} selects, {metric_text(study.judge)} judges")


def _infeasible(study: Study) -> Check | None:
    compared = compared_cells(study)
    trained = [c for arm in study.arms if not arm.is_floor for c in arm.cells if not _is_control(arm, c, compared)]
    total = sum(cell.planned for cell in trained)
    if not total:
        return None
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


def _above_the_floor(study: Study) -> Check | None:
    """Whether each trained arm beats the frozen random encoder: one that does not has learned nothing to compare."""
    below: list[str] = []
    cells: list[Cell] = []
    for arm in study.arms:
        floor = next((f.selected for f in study.floors(arm.encoder) if f.method == "random"), None)
        if arm.is_floor or floor is None or arm.selected is None:
            continue
        gain = study.compare(arm.selected, floor, arm.name, "random").estimate
        cells += [arm.selected, floor]
        if gain is None or gain.low is None or gain.high is None:
            continue
        if (gain.low if study.sign > 0 else -gain.high) <= 0:
            below.append(name_text(arm.name))
    name = "Trained arms beat the random encoder"
    if below:
        said = (
            f"{listing(below)} {'does' if len(below) == 1 else 'do'} not, by the interval: at this budget nothing was "
        )
        said += "learned that the probe reads, so a contrast with it says little of the method"
        return Check(name, WARN, said, all_keys(cells))
    return Check(name, PASS, "each by more than its interval", all_keys(cells)) if cells else None


def _settled(study: Study) -> Check | None:
    """Whether the validation metric still improved over the last fifth of the epochs by more than the ROPE."""
    gains: dict[str, float] = {}
    cells = [cell for cell in compared_cells(study) if cell.complete]
    for cell in cells:
        curve = _mean_curve(study, cell, study.labels)
        if len(curve) < 3:
            continue
        start = curve[curve.index <= curve.index[-1] * (1 - RISING_WINDOW)]
        if len(start):
            gains[who(cell)] = study.sign * float(curve.iloc[-1] - start.iloc[-1])
    if not gains:
        return None
    rising = {who: gain for who, gain in gains.items() if gain > study.rope}
    shown = rising or gains
    unit = difference_unit(study.labels)
    said = shortly([f"{who} {gain:+.2g} {unit}".strip() for who, gain in shown.items()])
    finding = f"over the last fifth of the epochs: {said}"
    if rising:
        return Check("Curves have settled", WARN, f"still rising {finding}; longer training may change the order",
                     all_keys(cells))  # fmt: skip
    return Check("Curves have settled", PASS, f"{finding}, within the ROPE of ±{study.rope:g}", all_keys(cells))


def _mean_curve(study: Study, cell: Cell, metric: str) -> pd.Series:
    if metric not in study.sweep.epochs:
        return pd.Series(dtype=float)
    rows = study.sweep.epochs_of(cell.keys).dropna(subset=[metric])
    return rows.groupby("epoch")[metric].mean().sort_index()


def _loss_and_probe(study: Study) -> Check | None:
    """A training loss that falls while the probe gets worse says that the loss no longer measures the features."""
    apart: list[str] = []
    agree: list[str] = []
    for cell in compared_cells(study):
        loss, probe = _mean_curve(study, cell, "train/loss"), _mean_curve(study, cell, study.labels)
        if len(loss) < 4 or len(probe) < 4:
            continue
        half = loss.index[-1] / 2
        fell = float(loss.iloc[-1] - loss[loss.index <= half].iloc[-1]) < 0
        early = probe[probe.index <= half]
        worse = len(early) > 0 and study.sign * float(probe.iloc[-1] - early.iloc[-1]) < -study.rope
        lost = amount(abs(float(probe.iloc[-1] - early.iloc[-1])), study.labels) if len(early) else ""
        (apart if fell and worse else agree).append(f"{who(cell)}" + (f" (probe −{lost})" if fell and worse else ""))
    if apart:
        return Check("Training loss and probe agree", WARN,
                     f"in the second half the loss falls and the probe gets worse: {shortly(apart)}")  # fmt: skip
    if agree:
        return Check("Training loss and probe agree", PASS, "no falling loss with a worsening probe in the second half")
    return None


def _worktree(study: Study) -> Check:
    git = study.sweep.environment.get("git")
    if not git:
        return Check("Clean worktree", WARN, "not run from a git checkout: the commit is unknown")
    sha = str(git.get("sha", "?"))[:12]
    if git.get("dirty"):
        return Check("Clean worktree", WARN, f"commit {sha} with uncommitted changes ({str(git.get('diff'))[:12]})")
    return Check("Clean worktree", PASS, f"commit {sha}")
