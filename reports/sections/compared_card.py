"""The card of a comparison: does the second sweep differ from the first where both did the same?"""

import shlex
from collections.abc import Mapping

import pandas as pd

from reports import figures
from reports import statistics as st
from reports.content import Card, Figure
from reports.evidence import Study
from reports.pairing import MARKS, SAME_TRIALS, Pair, Pairing
from reports.sections import factor, gate, next_sweep
from reports.sections.differs import made, short
from reports.sections.next_sweep import SHOWN, SPREAD
from reports.sections.reproduce import folder_text
from reports.wording import count, difference_label, difference_unit, duration, listing, with_interval

_NOTES = {
    st.DECIDED: "the interval of the difference excludes every difference too small to matter",
    st.EQUIVALENT: "the interval of the difference lies inside what is too small to matter",
    st.LEANING: "the interval excludes zero, but not differences too small to matter",
    st.UNDECIDED: "the evidence allows no conclusion",
    st.INVALID: "the two measure different things: no difference is computed",
}


def card(pairing: Pairing, names: tuple[str, str]) -> Card:
    pair = pairing.primary
    strength = st.INVALID if pairing.refusal else _strength(pair)
    command, note = _next(pairing, names, strength)
    note_of_strength = _NOTES[strength]
    if pair is not None and pair.verdict == SAME_TRIALS:
        note_of_strength = "both hold the very same trials, so there is nothing to tell apart"
    return Card(
        question=f"Does {names[1]} differ from {names[0]} where both did the same?",
        answer=_answer(pairing, names), strength=strength, strength_note=note_of_strength,
        facts=_facts(pairing, names), changes=_changes(pairing, names, strength), command=command, command_note=note,
        figure=_effect(pairing, names),
    )  # fmt: skip


def _strength(pair: Pair | None) -> str:
    return pair.verdict if pair is not None and pair.verdict in _NOTES else st.UNDECIDED


def _answer(pairing: Pairing, names: tuple[str, str]) -> str:
    if pairing.refusal:
        return f"Not comparable: {pairing.refusal}."
    pair = pairing.primary
    if pair is None or pair.estimate is None:
        return "No answer yet: no cell that both have has finished in both."
    return f"{_headline(pairing, pair, names)}{_rest(pairing, pair)}."


def _headline(pairing: Pairing, pair: Pair, names: tuple[str, str]) -> str:
    assert pair.estimate is not None
    if pair.verdict == SAME_TRIALS:
        return f"At {pair.text} both hold the same trials, so nothing differs"
    shown = difference_text(pairing, pair.estimate)
    leads = names[1] if pairing.a.sign * pair.estimate.mean > 0 else names[0]
    who = f", for {leads}" if pair.verdict in (st.DECIDED, st.LEANING) else ""
    return f"At {pair.text}, {names[1]} − {names[0]} is {shown} in {pairing.a.judge_text}: {pair.verdict}{who}"


def _rest(pairing: Pairing, primary: Pair) -> str:
    """The other shared cells, by verdict; those that were refused."""
    others = [pair.verdict for pair in pairing.usable if pair is not primary]
    tally = [f"{others.count(verdict)} {verdict}" for verdict in dict.fromkeys(others)]
    said = f"; of {count(len(others), 'other shared cell')}, {listing(tally)}" if others else ""
    refused = len(pairing.pairs) - len(pairing.usable)
    return said + (f"; {count(refused, 'shared cell')} not comparable" if refused else "")


def difference_text(pairing: Pairing, estimate: st.Estimate) -> str:
    shown = with_interval(estimate.mean, estimate.low, estimate.high, pairing.a.judge, sign=True)
    return f"{shown} {difference_unit(pairing.a.judge)}".strip()


def _facts(pairing: Pairing, names: tuple[str, str]) -> list[tuple[str, str, tuple[str, ...]]]:
    facts: list[tuple[str, str, tuple[str, ...]]] = []
    pair = pairing.primary
    if pair is not None and pair.estimate is not None:
        how = f"95 % interval by {pair.estimate.how}" if pair.estimate.low is not None else pair.estimate.how
        text = f"{difference_text(pairing, pair.estimate)} ({how}; {pair.how}; {_n(pair)})"
        facts.append((f"Effect at {pair.text}", text, pair_keys(pair)))
    both = f"{len(pairing.pairs)}; only in {names[0]}: {len(pairing.only_a)}; only in {names[1]}: {len(pairing.only_b)}"
    facts.append(("Cells in both", both, ()))
    for name, study in zip(names, (pairing.a, pairing.b), strict=True):
        facts.append((f"Cost of {name}", _cost(study), ()))
    return facts


def _n(pair: Pair) -> str:
    a, b = len(pair.a.finished), len(pair.b.finished)
    return f"n = {a}" if a == b else f"n = {a} and {b}"


def _cost(study: Study) -> str:
    trials = study.sweep.trials.drop_duplicates("key")
    seconds = float(trials["seconds"].sum())
    return f"{count(len(trials), 'trial')}, {count(int(trials['done'].sum()), 'epoch')}, {duration(seconds)} of device"


def _changes(pairing: Pairing, names: tuple[str, str], strength: str) -> list[str]:
    if pairing.refusal:
        return ["The same data, encoder, evaluation and metric on both sides."]
    pair, said = pairing.primary, []
    if strength in (st.UNDECIDED, st.LEANING) and pair is not None and pair.estimate is not None:
        said.append(_more_seeds(pair))
    if strength in (st.DECIDED, st.EQUIVALENT):
        rope = f"±{pairing.a.rope:g} {difference_unit(pairing.a.judge)}".strip()
        said.append(f"Another idea of what matters: the verdict holds for a ROPE of {rope}, that of the first sweep.")
    said += [f"Between the two, {what} changed as well: {short(a)}; {short(b)}."
             for what, a, b in made(pairing) if what in ("trainer's code",)]  # fmt: skip
    said += [f"The gate of {name}: {check.name} fails, {check.finding}."
             for name, study in zip(names, (pairing.a, pairing.b), strict=True)
             for check in gate.failures(gate.gate(study))]  # fmt: skip
    return said


def _more_seeds(pair: Pair) -> str:
    if not pair.paired:
        return "The same seeds in both: they make the difference a paired one."
    if needed := _seeds_needed(pair):
        return f"More seeds: about {needed} in both, the same ones, if mean and spread are what they seem."
    if _beyond(pair):
        return (
            "Hardly more seeds: the difference lies near the edge of what matters, or varies too much for "
            f"{st.MOST_SEEDS} pairs."
        )
    return "More seeds, the same ones in both: so few say little of how much seeds differ."


def _seeds_needed(pair: Pair) -> int | None:
    if not pair.paired:
        return None
    differences = pair.b.judged.sort_index().to_numpy() - pair.a.judged.sort_index().to_numpy()
    return st.pairs_needed(differences, pair.rope)


def _beyond(pair: Pair) -> bool:
    """Whether MOST_SEEDS pairs would hardly settle it."""
    return pair.paired and len(pair.b.finished) >= SPREAD and _seeds_needed(pair) is None


def _next(pairing: Pairing, names: tuple[str, str], strength: str) -> tuple[str, str]:
    """A command that can be pasted, with why and its price."""
    if pairing.refusal:
        again = f"{pairing.a.sweep.name}-again"[:64]
        why = f"Run {names[0]} again on the data and by the evaluation of today, then compare"
        return _run(pairing.a, {"name": again}, why, _planned(pairing.a))
    pair = pairing.primary
    if strength in (st.UNDECIDED, st.LEANING) and pair is not None:
        if _beyond(pair):
            return "", (
                f"Nothing affordable settles it: {st.MOST_SEEDS} pairs of seeds would hardly do, if mean and spread "
                "are what they seem."
            )
        seeds = _seeds_needed(pair) or max(SHOWN, len(pair.b.finished))
        why = f"{count(seeds, 'seed')} of {names[1]}; the same of {names[0]} make the difference a paired one"
        return next_sweep.more_seeds(pairing.b, seeds, why, [pair.b])
    folder = shlex.quote(folder_text(pairing.b))
    return f"harness report {folder}", f"What {names[1]} says by itself; this costs nothing."


def _run(study: Study, changed: Mapping[str, str], why: str, trials: int) -> tuple[str, str]:
    command = ["harness", "run", f"{folder_text(study)}/sweep.yaml"]
    for path, value in changed.items():
        command += ["--set", f"{path}={value}"]
    done = study.evidence.drop_duplicates("key")
    seconds = float(done.loc[done["state"] == "finished", "seconds"].mean())
    price = f", about {duration(trials * seconds)} of device time" if seconds == seconds else ""
    return shlex.join(command), f"{why}: {count(trials, 'trial')}{price}."


def _planned(study: Study) -> int:
    return int(study.sweep.trials["key"].nunique())


def _effect(pairing: Pairing, names: tuple[str, str]) -> Figure | None:
    pair = pairing.primary
    if pair is None or pair.estimate is None:
        return None
    apart = (pair.b.judged.sort_index() - pair.a.judged.sort_index()).tolist() if pair.paired else []
    points = difference_unit(pairing.a.judge)
    dots = "dots are seeds; " if apart else ""
    text = figures.Text(
        "effect",
        f"Difference in {pairing.a.judge_text} at {pair.text}, {pair.how}, {_n(pair)} seeds; {dots}the band is the "
        f"region of practical equivalence, ±{pair.rope:g} {points}".rstrip() + ".",
        f"Difference {names[1]} − {names[0]} at {pair.text}: {difference_text(pairing, pair.estimate)}.",
        raw(pairing, [pair]),
    )  # fmt: skip
    label = difference_label(names[1], names[0], points)
    return figures.effect(text, pair.estimate, apart, pair.rope, label)


def raw(pairing: Pairing, shown: list[Pair]) -> pd.DataFrame:
    """The trials behind both sides, with the sweep that they are of."""
    sides = [("first", pairing.a, [pair.a for pair in shown]), ("second", pairing.b, [pair.b for pair in shown])]
    return pd.concat(
        [factor.raw_frame(study, cells).assign(sweep=which) for which, study, cells in sides], ignore_index=True
    )


def pair_keys(pair: Pair) -> tuple[str, ...]:
    return tuple(mark + key for mark, cell in zip(MARKS, (pair.a, pair.b), strict=True) for key in cell.keys)
