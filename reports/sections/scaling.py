"""Scale: error and loss against parameters, samples and FLOPs, as laws with a range; hyperparameters across scale."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports import figures
from reports import scaling as sc
from reports import statistics as st
from reports.content import Block, Figure, Heading, Items, Prose, Section
from reports.evidence import Contrast, Study
from reports.lack_of_fit import Local
from reports.sections import scaling_rules, scaling_tables
from reports.sections.scaling_laws import UNITS, Fitted, answers, at_the_largest, fitted, with_bounds, x_text
from reports.sections.scaling_lines import (
    COMPUTE,
    DATA,
    EPOCHS,
    ERROR,
    IMAGES,
    LENGTH,
    LOSS,
    SIZE,
    Line,
    ladders,
    largest_of_both,
    lines,
    others,
    rungs,
)
from reports.wording import is_percent, name_text

_STEPS = 60  # of a drawn law


def sections(study: Study) -> list[Section]:
    """One, where an arm was trained at three scales or a hyperparameter was compared at three; else none."""
    by_arm = ladders(study)
    laws = fitted(study, lines(study, by_arm))
    rules = scaling_rules.rules(study)
    if not (laws or rules):
        return []
    blocks: list[Block] = []
    if said := [*answers(study, laws), *at_the_largest(study, laws), *(scaling_rules.sentence(rule) for rule in rules)]:
        blocks.append(Items(said))
    if laws:
        blocks += [_figure(study, laws, of) for of in (ERROR, LOSS) if any(law.of == of for law in laws)]
        blocks += [scaling_tables.measured(study, by_arm), scaling_tables.laws(laws)]
        if (table := scaling_tables.beyond(laws)) is not None:
            blocks += [Heading("Beyond what was measured"), table]
    if rules:
        blocks += [Heading("Hyperparameters across scale"), scaling_rules.table(study, rules)]
    if laws:
        blocks.append(Prose([_LIMITS]))
    return [Section("scaling", "Scale", blocks)]


def answer(study: Study) -> str | None:
    """What error does with compute: its law, or that it follows none. Where neither is known of compute, the first
    way of growing of which it is. None where the sweep is not about scale."""
    if not (grown := _asked(study)):
        return None
    laws = fitted(study, grown)
    known = [law.line.along for law in laws if law.of == ERROR and (law.law or law.misfit)]
    for along in sorted(dict.fromkeys([COMPUTE, *known]), key=lambda way: way not in known):
        if said := answers(study, [law for law in laws if law.line.along == along]):
            return " ".join(said)
    return None


def _asked(study: Study) -> list[Line]:
    """The lines of a sweep that is about scale: it grows data or epochs (encoders alone are a question of their own),
    and declares no contrast; else none."""
    if study.sweep.spec.get("contrast") or not {DATA, EPOCHS} & set(study.sweep.factors):
        return []
    grown = _grown(study)
    return grown if {line.along for line in grown} & {IMAGES, LENGTH} else []


def contrast(study: Study) -> Contrast | None:
    """The two arms that are asked about, by default the first two, at the largest scale that both were trained at."""
    if study.asked is None or not set(study.asked) <= {line.arm for line in _asked(study)}:
        return None
    if (largest := largest_of_both(*(rungs(study, name) for name in study.asked))) is None:
        return None
    said = [f"{name_text(name)} at the largest scale" for name in study.asked]
    return study.compare(largest[0].cell, largest[1].cell, *said)


def covers(study: Study) -> set[str]:
    """Arms whose cells differ in scale alone and make a line: the section shows every cell of theirs."""
    return {line.arm for line in _grown(study)} if {*SIZE, DATA, EPOCHS} & set(study.sweep.factors) else set()


def _grown(study: Study) -> list[Line]:
    by_arm = ladders(study)
    return [line for line in lines(study, by_arm) if not any(others(rung) for rung in by_arm[line.arm])]


_LIMITS = (
    "Laws hold for what else stood still: data, probe, schedule, and hyperparameters that were not tuned anew at every "
    "scale. That a law is not rejected proves little where scales and seeds are few: of four scales with two seeds, a "
    "gross misfit alone shows. Cells with an unfinished seed enter no law. Arms are compared where their encoders are "
    "the same, by error, inside the scales that both were trained at; of a crossing beyond nothing is said."
)


def _figure(study: Study, laws: Sequence[Fitted], of: str) -> Figure:
    mine = [law for law in laws if law.of == of]
    panels = []
    for along in dict.fromkeys(law.line.along for law in mine):
        here = [law for law in mine if law.line.along == along]
        measure = here[0].line.measure
        title = here[0].line.at if len({law.line.at for law in here}) == 1 else ""
        label = f"{measure} ({UNITS[measure][1]}, log scale)"
        ladders = [_ladder(study, law) for law in here]
        panels.append(figures.ScalePanel(f"{along}{f': {title}' if title else ''}", label, ladders))
    accuracy = is_percent(study.judge) and study.sign > 0
    y_label = LOSS if of == LOSS else "error (%)" if accuracy else study.judge_text
    what = "Training loss of the last epoch against scale" if of == LOSS else f"Error against scale, {_of(study)}"
    note = " Losses of different methods are different quantities." if of == LOSS else ""
    drawn = [
        *(["lines the laws with their 95 % bands"] if any(law.law for law in mine) else []),
        *(["dotted lines the local exponents of what follows no law"] if any(law.misfit for law in mine) else []),
    ]
    dashes = (
        " Dashes are extrapolations: nothing was measured there." if any(_is_continued(law) for law in mine) else ""
    )
    shown = ["dots are seeds", "markers their means with 95 % intervals", *drawn]
    caption = f"{what}, both axes logarithmic: {', '.join(shown)}.{dashes}{note}"
    said = "; ".join(f"{name_text(law.line.arm)}, {law.line.along}: {_ends(law)}" for law in mine[:9])
    text = figures.Text(f"scaling-{of.split()[-1]}", caption, f"{what}. {said}.", _data(study, mine), wide=True)
    return figures.scaling(text, panels, f"{y_label}, log scale")


def _ends(law: Fitted) -> str:
    first, last = (float(np.mean(law.samples[i])) for i in (0, -1))
    return f"{first:.3g} to {last:.3g}"


def _ladder(study: Study, law: Fitted) -> figures.Ladder:
    line, scale = law.line, UNITS[law.line.measure][0]
    points = []
    for x, values in zip(line.x, law.samples, strict=True):
        estimate = st.mean_interval(values)
        bounds = None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
        shown = f"{with_bounds(estimate.mean, bounds)}, n = {estimate.n}"
        said = f"{name_text(line.arm)} at {x_text(x, line.measure)}: {shown}"
        points.append(figures.Scaled(x * scale, values, estimate, said))
    inside = _drawn(law, line.x[0], line.x[-1])
    outside = _drawn(law, line.x[-1], line.x[-1] * sc.REACH) if _is_continued(law) else None
    parts = [] if law.misfit is None else [law.misfit.halves.lower, law.misfit.halves.upper]
    local = [_local(part, scale) for part in parts]
    return figures.Ladder(line.arm, study.colours[line.arm], points, inside, outside, local)


def _is_continued(law: Fitted) -> bool:
    return isinstance(law.beyond, list)


def _local(part: Local, scale: float) -> figures.LawLine:
    x = np.array([part.low, part.high])
    return figures.LawLine(list(x * scale), list(part.start * (x / part.low) ** -part.b), None)


def _drawn(law: Fitted, low: float, high: float) -> figures.LawLine | None:
    if law.law is None:
        return None
    x, scale = np.geomspace(low, high, _STEPS), UNITS[law.line.measure][0]
    band = law.law.band(x)
    shown = None if band is None else (list(band[0]), list(band[1]))
    return figures.LawLine(list(x * scale), list(law.law.law(x)), shown)


def _data(study: Study, laws: Sequence[Fitted]) -> pd.DataFrame:
    """The trials behind a figure: one row per line, scale and seed."""
    frames = []
    for law in laws:
        for rung, x in zip(law.line.rungs, law.line.x, strict=True):
            rows = rung.cell.finished[["key", "arm", "seed"]].assign(along=law.line.along, **{law.line.measure: x})
            column = study.judge if law.of == ERROR else "train/loss"
            frames.append(rows.assign(**{column: rung.cell.finished[column]}))
    return pd.concat(frames, ignore_index=True)


def _of(study: Study) -> str:
    return f"100 − {study.judge_text}" if study.sign > 0 else study.judge_text
