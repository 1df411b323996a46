"""What a reader should check before acting: what the report can say itself, and what only the reader can."""

from collections.abc import Sequence

from reports.content import Prose, Section, Table, Value, plain
from reports.evidence import Study
from reports.sections.gate import FAIL, PASS, UNMEASURED, WARN, Check, compared_cells
from reports.wording import count, difference_unit, listing, name_text

YOURS = "yours"
_WORDS = {FAIL: "✕ fails", WARN: "! limits", PASS: "✓ holds", YOURS: "? yours"}
_TONES = {FAIL: "fail", WARN: "warn", PASS: "pass", YOURS: "muted"}
_COUNTS_AS = {FAIL: FAIL, WARN: WARN, UNMEASURED: WARN, PASS: PASS}  # what was not measured limits, and never holds
# Question → beginnings of the names of the gate's checks that answer it.
_QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Is every planned trial there, and none quietly left out?", ("Every planned", "Missing", "Infeasible")),
    ("Are there enough seeds, the same on both sides?", ("Seeds",)),
    ("Did one split select and another judge?", ("Selected on validation", "Selected without labels")),
    ("Same data and evaluation on both sides?", ("Same data", "Same evaluation", "Contrast within")),
    ("Same code on both sides, and is it committed?", ("Same trainer code", "Clean worktree")),
    ("Was the training budget equal?", ("Equal training",)),
    ("Was the tuning budget equal?", ("Equal tuning",)),
    ("Were the ranges wide enough?", ("Best value", "Searched parameters")),
    ("Was anything learned?", ("Trained arms",)),
    ("Had training settled, and does its loss tell the truth?", ("Curves have", "Training loss")),
)


def section(study: Study, checks: Sequence[Check]) -> Section:
    rows = [*_answered(checks), *_open(study)]
    tally = [f"{n} {word}" for word, n in _tally(rows) if n]
    table = Table("checklist", f"Before you act on the answer: {listing(tally)}.", ["", "check", "this report"], rows)
    note = "Lines marked ✓, ! and ✕ are computed from the gate and the design; lines marked ? only a reader can answer."
    return Section("checklist", "Checklist", [Prose([note]), table])


def _answered(checks: Sequence[Check]) -> list[list[Value]]:
    """The gate by question: the worst of its checks, with what was found by all that do not hold, else by all. Checks
    of no question come last."""
    left = list(checks)
    rows: list[list[Value]] = []
    for question, names in _QUESTIONS:
        mine = [check for check in left if check.name.startswith(names)]
        left = [check for check in left if check not in mine]
        if mine:
            rows.append(_row(question, mine))
    return rows + [_row(f"{check.name}?", [check]) for check in left]


def _row(question: str, checks: Sequence[Check]) -> list[Value]:
    by_severity = sorted(checks, key=lambda check: (FAIL, WARN, UNMEASURED, PASS).index(check.result))
    worst = _COUNTS_AS[by_severity[0].result]
    telling = [check for check in by_severity if worst == PASS or check.result != PASS]
    found = "; ".join(dict.fromkeys(check.finding for check in telling))
    keys = tuple(dict.fromkeys(key for check in telling for key in check.keys))
    return [Value(worst, _WORDS[worst], keys, tone=_TONES[worst]), plain(question), plain(found)]


def _open(study: Study) -> list[list[Value]]:
    """Questions that the ledger cannot answer, with what it says about them."""
    rope = f"±{study.rope:g} {difference_unit(study.judge)}".strip()
    declared = "the sweep file declares its contrast" if study.sweep.spec.get("contrast") else (
        "shapes and tolerances are the paper's, fixed before the sweep" if study.together
        else "no contrast is declared: the default one was taken"
    )  # fmt: skip
    verdicts = sum(max(0, len(arm.cells) - 1) for arm in study.arms) + max(0, len(study.arms) - 1)
    said = [
        ("Would you act on less than the ROPE?", f"{rope} in {study.judge_text} counts as no difference"),
        ("Was the question asked before the results were seen?", declared),
        ("How many comparisons were looked at?",
         f"{count(verdicts, 'difference')} could be read off the tables beside the primary one"),
        ("Is your setting the one that was tried?", _setting(study)),
    ]  # fmt: skip
    return [[Value(YOURS, _WORDS[YOURS], tone=_TONES[YOURS]), plain(what), plain(how)] for what, how in said]


def _setting(study: Study) -> str:
    keys = [key for cell in compared_cells(study) for key in cell.keys]
    configs = [study.sweep.configs[key] for key in keys if key in study.sweep.configs]
    data = sorted({name_text((config.get("data") or {}).get("name", "?")) for config in configs})
    epochs = sorted({int(config.get("epochs", 0)) for config in configs})
    methods = sorted({name_text((config.get("method") or {}).get("name", "?")) for config in configs})
    if not configs:
        return "nothing is compared yet"
    lengths = listing([f"{n:,}" for n in epochs])
    return f"{listing(methods)} on {listing(data)}, {lengths} {'epoch' if epochs == [1] else 'epochs'}"


def _tally(rows: Sequence[Sequence[Value]]) -> list[tuple[str, int]]:
    words = {PASS: "hold", WARN: "limit the answer", FAIL: "fail", YOURS: "are yours to judge"}
    return [(word, sum(row[0].raw == result for row in rows)) for result, word in words.items()]
