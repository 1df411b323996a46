"""Whether the answer stands elsewhere: under half the search, another metric, equal time, untuned."""

from collections.abc import Iterator, Sequence

from reports import statistics as st
from reports.content import Block, Prose, Section, Table, Value, plain
from reports.evidence import Arm, Contrast, Study
from reports.sections import question, recipes
from reports.sections.budget import trained_arms
from reports.sections.conditions import (
    HOLDS,
    OPEN,
    OTHER,
    REVERSED,
    SAME_TIME,
    TURNED,
    WEAKER,
    Condition,
    Elsewhere,
    conditions,
    other_metrics,
)
from reports.sections.design import colour_class
from reports.wording import count, difference_unit, listing, name_text, with_interval

_NONE = st.Estimate(float("nan"), None, None, 0, "")


def sections(study: Study) -> list[Section]:
    """Shown where the primary contrast is between two trained arms of one encoder and has an interval."""
    base = study.primary
    if base is None or base.estimate is None or study.asked is None or base.a.encoder != base.b.encoder:
        return []
    reference, rival = study.arm(base.a.arm, base.a.encoder), study.arm(base.b.arm, base.b.encoder)
    if reference is None or rival is None or reference.is_floor or rival.is_floor:
        return []
    others = [Elsewhere(study, metric) for metric in other_metrics(study)]
    found = conditions(study, reference, rival, others)
    if not found:
        return []
    blocks: list[Block] = [Prose([answer(study, base, found)]), _table(study, base, found)]
    shown = not recipes.covers(study, reference.encoder)  # else its matrix has contrasts of its own
    rest = [arm for arm in trained_arms(study, reference.encoder) if shown and arm not in (reference, rival)]
    rows = [(arm, *pair) for arm in rest if (pair := _pair(study, reference, arm, others)) is not None]
    if rows:
        blocks.append(_others_table(study, reference, rows))
    return [Section("robustness", "Does the answer hold elsewhere?", blocks)]


def _pair(
    study: Study, reference: Arm, arm: Arm, others: Sequence[Elsewhere]
) -> tuple[Contrast, list[Condition]] | None:
    if reference.selected is None or arm.selected is None:
        return None
    base = study.compare(reference.selected, arm.selected, name_text(reference.name), name_text(arm.name))
    return (base, conditions(study, reference, arm, others)) if base.estimate is not None else None


# -- what becomes of the answer ---------------------------------------------------------------------------------------


def answer(study: Study, base: Contrast, found: Sequence[Condition]) -> str:
    """`The answer (decided, for lejepa) holds in 3 of 4 other conditions; …`, naming those in which it does not."""
    told = [c for c in found if c.outcome != OPEN]
    held = sum(c.outcome == HOLDS for c in told)
    parts = [f"{_answer_text(study, base)} in {held} of {count(len(told), 'other condition')}"]
    for condition in told:
        if condition.outcome != HOLDS:
            parts.append(f"{condition.name} it is {_becomes(study, base, condition)}")
    unknown = [c.name for c in found if c.outcome == OPEN]
    if unknown:
        parts.append(f"{listing(unknown)} cannot be told")
    return "; ".join(parts) + "."


def _answer_text(study: Study, base: Contrast) -> str:
    other = question.certainty(study) is not None or question.beside(study)  # the answer is about something else
    what = f"The difference {base.text}" if other else "The answer"
    if base.verdict == st.UNDECIDED:
        return f"{what} is undecided, and stays so"
    winner = f", for {_winner(study, base.estimate or _NONE, base)}" if base.verdict != st.EQUIVALENT else ""
    return f"{what} ({base.verdict}{winner}) holds"


def _becomes(study: Study, base: Contrast, condition: Condition) -> str:
    assert condition.estimate is not None
    e = condition.estimate
    if condition.outcome in (REVERSED, TURNED):
        by = f"{with_interval(abs(e.mean), None, None, condition.metric)} {difference_unit(condition.metric)}".rstrip()
        how = "reversed" if condition.outcome == REVERSED else "unsettled and on the other side"
        return f"{how}: {_winner(study, e, base)} is ahead by {by}"
    towards = f", for {_winner(study, e, base)}" if condition.verdict in (st.DECIDED, st.LEANING) else ""
    word = "otherwise" if condition.outcome == OTHER else condition.outcome
    return f"{word} ({condition.verdict}{towards})"


def _winner(study: Study, estimate: st.Estimate, base: Contrast) -> str:
    return base.a_text if study.sign * estimate.mean > 0 else base.b_text


# -- the tables -------------------------------------------------------------------------------------------------------

_TONES = {HOLDS: "pass", WEAKER: "warn", REVERSED: "fail", TURNED: "warn", OTHER: "warn", OPEN: "muted"}


def _table(study: Study, base: Contrast, found: Sequence[Condition]) -> Table:
    e = base.estimate or _NONE
    pairs = f"{study.judge_text}, {count(len(base.differences), 'pair')} of seeds"
    first = Condition("as answered", pairs, study.judge, e, base.verdict, "", base.keys)
    difference = f"{base.a_text} − {base.b_text} [95 % interval]{_points(study)}"
    columns = ["condition", difference, "verdict", "the answer", "judged by"]
    rope = f"±{study.rope:g} {difference_unit(study.judge)}".strip()
    caption = (
        f"{base.a_text} against {base.b_text} with one thing changed at a time; practical equivalence is {rope}. "
        "Validation chose what it judges, so rows judged by it flatter: they say where an answer might turn, and do "
        "not replace it. Equal time is told where the training times differ by more than "
        f"{SAME_TIME:.0%}; schedules were not shortened for it. Verdicts are not adjusted for their number."
    )
    rows = [list(_row(condition)) for condition in (first, *found)]
    return Table("robustness", caption, columns, rows, provenance=True)


def _row(condition: Condition) -> Iterator[Value]:
    yield Value(condition.name, condition.name, condition.keys, strong=not condition.outcome)
    e = condition.estimate
    if e is None:
        yield Value(None, "—", tone="muted")
    else:
        shown = with_interval(e.mean, e.low, e.high, condition.metric, sign=True)
        yield Value(e.mean, shown, condition.keys)
    yield plain(condition.verdict)
    yield Value(condition.outcome, condition.outcome or "—", tone=_TONES.get(condition.outcome, "muted"))
    yield plain(condition.basis)


def _others_table(study: Study, reference: Arm, rows: Sequence[tuple[Arm, Contrast, list[Condition]]]) -> Table:
    names = list(dict.fromkeys(condition.name for _, _, found in rows for condition in found))
    columns = ["arm", "as answered", *names, "holds in"]
    caption = (
        f"{name_text(reference.name)} − arm{_points(study)} for the other trained arms under the same changes: "
        "mean, and what becomes of the verdict."
    )
    return Table("robustness-others", caption, columns, [list(_others_row(study, names, *row)) for row in rows],
                 provenance=True)  # fmt: skip


def _points(study: Study) -> str:
    return f" ({difference_unit(study.judge)})" if difference_unit(study.judge) else ""


def _others_row(
    study: Study, names: Sequence[str], arm: Arm, base: Contrast, found: Sequence[Condition]
) -> Iterator[Value]:
    by_name = {condition.name: condition for condition in found}
    yield Value(arm.name, name_text(arm.name), base.keys, colour=colour_class(study, arm.name), strong=True)
    yield Value(base.verdict, f"{_mean(base.estimate, study.judge)} {base.verdict}".strip(), base.keys)
    for name in names:
        condition = by_name.get(name)
        if condition is None:
            yield Value(None, "—", tone="muted")
        else:
            shown = f"{_mean(condition.estimate, condition.metric)} {condition.outcome}".strip()
            yield Value(condition.outcome, shown, condition.keys, tone=_TONES[condition.outcome])
    told = [condition for condition in found if condition.outcome != OPEN]
    held = sum(condition.outcome == HOLDS for condition in told)
    yield plain(held, f"{held} of {len(told)}")


def _mean(estimate: st.Estimate | None, metric: str) -> str:
    return "" if estimate is None else with_interval(estimate.mean, None, None, metric, sign=True)
