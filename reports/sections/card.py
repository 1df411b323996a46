"""The decision card: question, answer in one sentence, effect, strength, cost, what would change it, what next."""

from collections.abc import Sequence

from reports import figures
from reports import statistics as st
from reports.content import Card, Figure
from reports.evidence import Arm, Cell, Contrast, Study
from reports.sections import next_sweep, paper_card, paper_next, question
from reports.sections.factor import raw_frame
from reports.sections.gate import WARN, Check, failures
from reports.sections.lambda_ import LAMBDA, Plateau, plateau, sweeps_lambda
from reports.sections.next_sweep import Open
from reports.sections.paper_card import Verdict
from reports.wording import (
    amount,
    count,
    difference_label,
    difference_unit,
    duration,
    interval_text,
    listing,
    minus,
    name_text,
    number,
    unit,
)

_NOTES = {
    st.DECIDED: "the interval of the difference excludes every difference too small to matter",
    st.EQUIVALENT: "the interval of the difference lies inside what is too small to matter",
    st.LEANING: "the interval excludes zero, but not differences too small to matter",
    st.UNDECIDED: "the evidence allows no conclusion",
    st.INVALID: "a check of the validity gate failed: no conclusion may be drawn",
}


def card(study: Study, checks: list[Check]) -> Card:
    failed = failures(checks)
    of_paper = paper_card.verdicts(study) if study.together else []
    strength, note = _strength(study, of_paper)
    if failed:
        strength, note = st.INVALID, _NOTES[st.INVALID]
    unsettled = [] if of_paper or failed else question.unsettled(study)
    command, why = next_sweep.unfinished(study, checks) or (
        paper_next.propose(study, of_paper) if of_paper else next_sweep.of_contrast(study, strength, unsettled)
    )
    return Card(
        question=name_text(str(study.sweep.spec.get("question") or f"What does the sweep {study.sweep.name} show?")),
        answer=answer(study, strength, failed),
        strength=strength,
        strength_note=note,
        facts=[*(paper_card.facts(of_paper) if of_paper else _effect(study)), ("Cost", _cost(study), ())],
        changes=_changes(study, checks, strength, unsettled, of_paper),
        command=command,
        command_note=why,
        figure=paper_card.figure(study, of_paper) if of_paper else _figure(study),
    )


def _strength(study: Study, of_paper: list[Verdict]) -> tuple[str, str]:
    """Of the answer as it is printed, with what it is of."""
    if of_paper:
        found = paper_card.strength(of_paper)
        return found, paper_card.NOTES[found]
    if (own := question.certainty(study)) is not None:
        return own
    if study.primary is None:
        return st.UNDECIDED, "there are no two results to compare"
    return study.primary.verdict, f"{study.primary.text}: {_NOTES[study.primary.verdict]}"


# -- the sentence -----------------------------------------------------------------------------------------------------


def answer(study: Study, strength: str, failed: list[Check]) -> str:
    """One sentence, in plain text."""
    if failed:
        what = "; ".join(f"“{check.name}” fails: {check.finding}" for check in failed[:2])
        more = f" (and {count(len(failed) - 2, 'more failed check')})" if len(failed) > 2 else ""
        return f"No valid answer: {what}{more}."
    lead = study.leads
    if lead is None or lead.selected is None or lead.selected.estimate is None:
        return "No answer yet: no arm has finished."
    if (said := question.answer(study)) is not None:
        return f"{said}{_beside(study)}"
    clauses = [_headline(study, lead, lead.selected), *_lambda_clauses(study, lead), *_contrast_clause(study, strength)]
    return "; ".join(clauses) + "."


def _beside(study: Study) -> str:
    """The contrast that the strength rests on, where the answer is about something else."""
    contrast = study.primary
    if contrast is None or contrast.estimate is None or not question.beside(study):
        return ""
    verdict = _strength_text(study, contrast, contrast.verdict)
    return f" {contrast.text}: {_difference_text(study, contrast)}, {verdict}."


def _headline(study: Study, arm: Arm, cell: Cell) -> str:
    estimate = cell.estimate
    assert estimate is not None
    percent = f" {unit(study.judge)}" if unit(study.judge) else ""
    interval = "" if estimate.low is None else f" {interval_text(estimate.low, estimate.high or 0.0, study.judge)}"
    value = f"{study.judge_text} {minus(amount(estimate.mean, study.judge))}{percent}{interval}"
    n = f"n = {count(estimate.n, 'seed')}"
    if not cell.values:
        return f"{name_text(arm.name)} reaches {value} ({n})"
    advice = f"Use {cell.text}" if len(arm.cells) > 1 else cell.text
    return f"{advice}: {value} ({n})"


def _lambda_clauses(study: Study, arm: Arm) -> list[str]:
    if not sweeps_lambda(arm):
        return []
    said = []
    flat = plateau(arm)
    if flat is not None:
        said.append(_plateau_text(study, flat))
    if below := _collapsed_below(arm):
        said.append(below)
    return said


def _collapsed_below(arm: Arm) -> str:
    """The smallest λ, from the left without a break, at which every seed collapsed or diverged."""
    by_lambda: dict[float, list[Cell]] = {}
    for cell in arm.cells:
        if len(cell.rows):
            by_lambda.setdefault(cell.values[LAMBDA], []).append(cell)
    lost = []
    for lamb in sorted(by_lambda):
        cells = by_lambda[lamb]
        if any(cell.count("collapsed") + cell.count("diverged") < cell.planned for cell in cells):
            break
        lost.append(lamb)
    if not lost:
        return ""
    words = {"collapsed": "collapses", "diverged": "diverges"}
    gone = [cell for lamb in lost for cell in by_lambda[lamb]]
    how = " or ".join(word for what, word in words.items() if any(cell.count(what) for cell in gone))
    return f"λ = 0 {how}" if lost == [0] else f"every tried λ up to {number(lost[-1])} {how}"


def _plateau_text(study: Study, flat: Plateau) -> str:
    if flat.cells == 1:
        return "no neighbouring λ is within one standard error"
    span = f"from {number(flat.low)} to {number(flat.high)}"
    return f"any tried λ {span} is within one standard error {study.selected_on}"


def _contrast_clause(study: Study, strength: str) -> list[str]:
    contrast = study.primary
    if contrast is None:
        return []
    if contrast.estimate is None:
        return [f"the difference to {contrast.b_text} is not known: {strength}"]
    tuned = _untuned(study, contrast)
    return [f"against {contrast.b_text}{tuned} the difference is {_difference_text(study, contrast)}: "
            f"{_strength_text(study, contrast, strength)}"]  # fmt: skip


def _untuned(study: Study, contrast: Contrast) -> str:
    """Names a rival that ran one setting only, where the leading arm could choose."""
    lead = study.leads
    rival = next((arm for arm in study.arms if arm.name == contrast.b.arm and arm.encoder == contrast.b.encoder), None)
    if lead is None or rival is None or rival is lead or rival.is_floor:
        return ""
    return (
        " (one setting, not tuned)" if len(lead.cells) > 1 and len(rival.cells) == 1 and not contrast.b.values else ""
    )


def _difference_text(study: Study, contrast: Contrast) -> str:
    estimate = contrast.estimate
    assert estimate is not None
    shown = minus(f"{'+' if estimate.mean >= 0 else ''}{amount(estimate.mean, study.judge)}")
    if estimate.low is not None and estimate.high is not None:
        shown += f" {interval_text(estimate.low, estimate.high, study.judge)}"
    return f"{shown} {difference_unit(study.judge)}".strip()


def _strength_text(study: Study, contrast: Contrast, strength: str) -> str:
    estimate = contrast.estimate
    if estimate is None or strength not in (st.DECIDED, st.LEANING):
        return strength
    winner = contrast.a_text if study.sign * estimate.mean > 0 else contrast.b_text
    return f"{strength}, for {winner}"


# -- effect and cost --------------------------------------------------------------------------------------------------


def _effect(study: Study) -> list[tuple[str, str, tuple[str, ...]]]:
    contrast = study.primary
    if contrast is None or contrast.estimate is None:
        return [("Effect", "not known", ())]
    n = count(contrast.estimate.n, "paired seed")
    rule = f"95 % interval by {contrast.estimate.how}" if contrast.estimate.low is not None else contrast.estimate.how
    wins = f"; {contrast.a_text} is better in {contrast.wins} pairings of any two seeds" if contrast.wins else ""
    own = "" if question.certainty(study) is None else f", {_strength_text(study, contrast, contrast.verdict)}"
    text = f"{contrast.text}: {_difference_text(study, contrast)}{own} ({rule}, {n}{wins})"
    return [("Effect", text, contrast.keys)]


def _cost(study: Study) -> str:
    trials = study.sweep.trials.drop_duplicates("key")
    seconds = float(trials["seconds"].sum())
    text = (
        f"{count(len(trials), 'trial')}, {count(int(trials['done'].sum()), 'epoch')}, "
        f"{seconds:,.0f} device-seconds ({duration(seconds)})"
    )
    taken = trials[trials["reused"].notna()]
    if len(taken):
        earlier = duration(float(taken["seconds"].sum()))
        text += f"; {count(len(taken), 'trial')} of these ({earlier}) were taken from earlier sweeps, not run again"
    return text


def _figure(study: Study) -> Figure | None:
    contrast = study.primary
    if contrast is None or contrast.estimate is None:
        return None
    points = difference_unit(study.judge)
    label = difference_label(contrast.a_text, contrast.b_text, points)
    shown = _difference_text(study, contrast)
    text = figures.Text(
        "effect",
        f"Difference in {study.judge_text}, n = {contrast.estimate.n} paired seeds (dots); the band is the region of "
        f"practical equivalence, ±{study.rope:g} {points}".rstrip()
        + ".",
        f"Difference {contrast.text}: {shown}.",
        raw_frame(study, [contrast.a, contrast.b]),
    )
    return figures.effect(text, contrast.estimate, contrast.differences.tolist(), study.rope, label)


# -- what next --------------------------------------------------------------------------------------------------------


def _changes(
    study: Study, checks: list[Check], strength: str, unsettled: Sequence[Open], of_paper: list[Verdict]
) -> list[str]:
    said = [f"{check.name}: {check.finding}." for check in failures(checks)]
    said += paper_next.changes(of_paper)
    said += [_more_seeds(one) for one in unsettled]
    if strength in (st.DECIDED, st.EQUIVALENT) and not of_paper:
        points = difference_unit(study.judge)
        said.append(
            f"Another idea of what matters: the verdict holds for a ROPE of ±{study.rope:g} {points}".rstrip() + "."
        )
    flagged = [check for check in checks if check.result == WARN and check.name in _LIMITING]
    said += [f"{_LIMITING[check.name]}: {check.finding}." for check in flagged]
    return said or ["Another data set, encoder or schedule: all were held fixed."]


def _more_seeds(one: Open) -> str:
    if one.pairs is not None:
        return (
            f"More seeds, for {one.text}: about {one.pairs} pairs settle it four times out of five, if mean and spread "
            "are what they seem."
        )
    if one.beyond:
        return (
            f"Hardly more seeds, for {one.text}: the difference lies near the edge of what matters, or varies too much "
            f"for {st.MOST_SEEDS} pairs."
        )
    lack = "one has no spread, hence no interval" if one.seen < 2 else "two say little of how much seeds differ"
    return f"More seeds, for {one.text}: {lack}."


_LIMITING = {
    "Best value inside the range tried": "A wider range",
    "Equal tuning budget": "The same tuning for both arms",
    "Curves have settled": "Longer training",
    "Infeasible trials": "Stable settings for what diverged or collapsed",
}


def title(study: Study) -> str:
    names = list(dict.fromkeys(name_text(arm.name) for arm in study.arms))
    more = [f"{len(names) - 4} more"] if len(names) > 5 else names[4:]
    return f"{name_text(study.sweep.name)}: {listing([*names[:4], *more])}"
