"""The laws of a sweep's lines, and what they say of its arms against each other, in words."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reports import scaling as sc
from reports import statistics as st
from reports.crossing import Race, race
from reports.evidence import Study
from reports.lack_of_fit import LackOfFit, Local
from reports.scaling import Fit, Misfit, Refusal
from reports.sections.enough_slices import three
from reports.sections.scaling_lines import ERROR, FLOPS, LOSS, PARAMS, SAMPLES, Line, has_error, largest_of_both
from reports.wording import amount, count, difference_unit, minus, name_text, unit, with_interval

UNTESTED = "whether the law fits cannot be tested: seeds tell no noise"
UNITS = {PARAMS: (1e-6, "M"), SAMPLES: (1e-3, "thousand"), FLOPS: (1e-12, "TFLOPs")}  # scale, unit


@dataclass(frozen=True)
class Fitted:
    """A line's error or loss, and its law or why there is none."""

    line: Line
    of: str  # ERROR | LOSS
    samples: list[list[float]]  # of each scale, one per seed
    found: Fit | Refusal

    @property
    def law(self) -> Fit | None:
        return self.found if isinstance(self.found, Fit) else None

    @property
    def misfit(self) -> Misfit | None:
        return self.found if isinstance(self.found, Misfit) else None

    @cached_property
    def beyond(self) -> list[sc.Extrapolated] | Refusal | None:
        """None where there is neither a law nor one that was rejected."""
        return self.misfit if self.law is None else sc.extrapolate(self.law)


def fitted(study: Study, lines: list[Line]) -> list[Fitted]:
    """Errors, then losses; nothing where a scale was not measured."""
    kinds = [ERROR, LOSS] if has_error(study) else [LOSS]
    found = []
    for of in kinds:
        for line in lines:
            samples = [rung.values(of, study.sign) for rung in line.rungs]
            if all(values and np.isfinite(values).all() for values in samples):
                found.append(Fitted(line, of, samples, sc.fit(line.x, samples)))
    return found


def answers(study: Study, laws: list[Fitted]) -> list[str]:
    """For every way of growing: the law of each arm, and the leading arm against the others."""
    errors = [law for law in laws if law.of == ERROR]
    said = []
    for along in dict.fromkeys(law.line.along for law in errors):
        lead, *rivals = _by_lead(study, [law for law in errors if law.line.along == along])
        said += [_law_text(study, lead), *(_race_text(lead, rival) for rival in rivals)]
    return said


def _by_lead(study: Study, laws: list[Fitted]) -> list[Fitted]:
    """The leading arm's first."""
    return sorted(laws, key=lambda law: study.leads is None or law.line.arm != study.leads.name)


def _law_text(study: Study, law: Fitted) -> str:
    head = f"Error of {name_text(law.line.arm)} against {_where(law.line)}"
    if law.misfit is not None:
        return f"{head} {_bend_text(study, law, law.misfit)}"
    if law.law is None:
        return f"{head}: no law, {_reason(law)}."
    found = law.law
    form = "a power law with an offset" if found.offset else "a power law without offset"
    towards = f", towards {with_bounds(float(found.law.c), found.bounds['c'])}" if found.offset else ""
    exponent = f"exponent {with_bounds(float(found.law.b), found.bounds['b'])}"
    doubt = "" if found.identified else " (whether there is an offset is not identified)"
    untested = "" if found.lack else f" {UNTESTED[0].upper()}{UNTESTED[1:]}."
    return (
        f"{head} falls as {form}, {exponent}{towards}{doubt}; a scale that is left out is missed by "
        f"{100 * found.error:.1f} %, over {span_text(law.line)}.{untested}"
    )


def _bend_text(study: Study, law: Fitted, found: Misfit) -> str:
    """After its subject."""
    percent = f" {unit(study.judge)}" if unit(study.judge) else ""
    first, last = (amount(float(np.mean(law.samples[i])), study.judge) for i in (0, -1))
    faster = {1: ": it falls faster with scale", -1: ": it falls more slowly with scale", 0: ""}[found.halves.bends]
    return (
        f"falls from {first} to {last}{percent} over {span_text(law.line)}, but by no power law: {found.reason}"
        f" (lack of fit {lack_text(found.lack)}). {local_text(law.line, found)}{faster}. Not extrapolated."
    )


def lack_text(lack: LackOfFit) -> str:
    """`F(12, 14) = 13.2, p < 0.001`."""
    p = "p < 0.001" if lack.p < 0.001 else f"p = {lack.p:.2g}"
    return f"F({lack.between}, {lack.within}) = {lack.f:.3g}, {p}"


def local_text(line: Line, found: Misfit) -> str:
    def part(local: Local) -> str:
        low, high = x_text(local.low, line.measure, unit=False), x_text(local.high, line.measure)
        return f"{with_bounds(local.b, local.bounds)} from {low} to {high}"

    return f"Local exponents are {part(found.halves.lower)} and {part(found.halves.upper)}"


def _where(line: Line) -> str:
    return f"{line.measure} ({line.along}: {line.at})"


def _reason(law: Fitted) -> str:
    return law.found.reason if isinstance(law.found, Refusal) else ""


def span_text(line: Line) -> str:
    return f"{x_text(line.x[0], line.measure, unit=False)} to {x_text(line.x[-1], line.measure)}"


def x_text(x: float, measure: str, unit: bool = True) -> str:
    scale, name = UNITS[measure]
    return f"{three(x * scale)} {name}" if unit else three(x * scale)


def with_bounds(value: float, bounds: tuple[float, float] | None) -> str:
    """Three digits, zeros at the end among them: `0.412 [0.380, 0.450]`."""
    mean, *ends = (minus(f"{x:#.3g}".rstrip(".")) for x in (value, *(bounds or ())))
    return f"{mean} [{', '.join(ends)}]" if ends else mean


# -- arm against arm --------------------------------------------------------------------------------------------------


def comparable(a: Line, b: Line) -> str:
    """Why two lines are not compared; empty where they are. Other encoders are, under one method: as encoders."""
    if a.method != b.method and a.encoders != b.encoders:
        return "they have other encoders"
    if a.at != b.at and a.method != b.method:
        return f"{a.at} against {b.at}"
    return ""


def _race_text(lead: Fitted, rival: Fitted) -> str:
    a, b, line = name_text(lead.line.arm), name_text(rival.line.arm), lead.line
    head = f"{a} or {b}, error against {line.measure} ({line.along})"
    if why := comparable(lead.line, rival.line):
        return f"{head}: not compared, {why}."
    missing = [_no_law(law) for law in (lead, rival) if law.law is None]
    if lead.law is None or rival.law is None:
        verdict = "no laws to compare" if lead.misfit or rival.misfit else st.UNDECIDED
        return f"{head}: {verdict}, {'; '.join(missing)}."
    found = race(lead.law, rival.law)
    if isinstance(found, str):
        return f"{head}: undecided, {found}."
    between = f"{x_text(found.low, line.measure, unit=False)} to {x_text(found.high, line.measure)}"
    return f"{head}, {between}: {_steeper_text(found, a, b)}; {_crossing_text(found, a, b, line.measure)}."


def _no_law(law: Fitted) -> str:
    name = name_text(law.line.arm)
    if law.misfit is not None:
        return f"{name} follows none ({lack_text(law.misfit.lack)})"
    return f"no law of {name} ({_reason(law)})"


def at_the_largest(study: Study, laws: list[Fitted]) -> list[str]:
    """Where a law was rejected, the leading arm against the others at the largest scale of both, as measured."""
    errors = [law for law in laws if law.of == ERROR]
    said = []
    for along in dict.fromkeys(law.line.along for law in errors):
        lead, *rivals = _by_lead(study, [law for law in errors if law.line.along == along])
        for rival in rivals:
            if (lead.misfit or rival.misfit) and not comparable(lead.line, rival.line):
                said.append(_largest_text(study, lead.line, rival.line))
    return list(dict.fromkeys(filter(None, said)))  # most ways of growing end at the same cells


def _largest_text(study: Study, a: Line, b: Line) -> str:
    if (both := largest_of_both(a.rungs, b.rungs)) is None:
        return ""
    names = [name_text(line.arm) for line in (a, b)]
    found = study.compare(both[0].cell, both[1].cell, *names)
    if found.estimate is None:
        return ""
    low, high, mean = found.estimate.low, found.estimate.high, found.estimate.mean
    shown = f"{with_interval(mean, low, high, study.judge, sign=True)} {difference_unit(study.judge)}".rstrip()
    ahead = names[0] if study.sign * mean > 0 else names[1]
    verdict = {
        st.DECIDED: f"{ahead} is ahead", st.LEANING: f"{ahead} is probably ahead",
        st.EQUIVALENT: "they are practically equal",
    }.get(found.verdict, f"which is ahead is {st.UNDECIDED}")  # fmt: skip
    return (
        f"{names[0]} or {names[1]} at the largest scale of both ({both[0].text}): {verdict}, {names[0]} − {names[1]} = "
        f"{shown} in {study.judge_text} ({count(found.estimate.n, 'paired seed')})."
    )


def _steeper_text(found: Race, a: str, b: str) -> str:
    change = [100 * (np.exp(value) - 1) for value in found.gain]
    shown = minus(f"{change[0]:+.1f}") + f" [{minus(f'{change[1]:+.1f}')}, {minus(f'{change[2]:+.1f}')}] %"
    ratio = f"the ratio of the errors, {a} over {b}, changes by {shown} over this range"
    if found.steeper == 0:
        return f"which of them scales better is {st.UNDECIDED} ({ratio})"
    winner, other = (a, b) if found.steeper < 0 else (b, a)
    return f"{winner} scales better than {other} ({ratio})"


def _crossing_text(found: Race, a: str, b: str, measure: str) -> str:
    names = {-1: a, 1: b}
    if found.crossing is not None:
        at, low, high = found.crossing
        interval = f"[{x_text(low, measure, unit=False)}, {x_text(high, measure, unit=False)}]"
        return (
            f"the curves cross at {x_text(at, measure)} {interval}: {names[found.ahead_low]} is better below, "
            f"{names[found.ahead_high]} above"
        )
    if found.throughout:
        return f"{names[found.ahead_low]} is better throughout, and no crossing lies inside"
    ends = [("smallest", found.ahead_low), ("largest", found.ahead_high)]
    said = [f"at the {word} scale {names[lead]} is better" for word, lead in ends if lead]
    return f"whether the curves cross inside is {st.UNDECIDED}" + (f" ({', '.join(said)})" if said else "")
