"""Where the best value of an axis lies, and whether it grows along another axis, in ours and in a table of the paper.

A best value is found by what selects (validation), in every seed. A seed whose best is an end of what was tried shows
no optimum: it is averaged with nothing, and the grid is said to be too narrow there.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from reports import optima, shapes
from reports import statistics as st
from reports.figures.paper import Spot
from reports.optima import LARGEST, SMALLEST, Peaks
from reports.published import PublishedTable, Shape
from reports.sections.paper_cells import two
from reports.sections.paper_finding import VALUES, Finding, Quantity, Spots, forecast, keys_of, lack
from reports.sections.paper_lines import Run
from reports.shapes import FAILS, HOLDS, OPEN, Line
from reports.wording import count, listing, number


def positive(found: Sequence[Run]) -> list[Run]:
    """Lines without their values that have no logarithm, such as λ = 0, or nothing to select by."""
    kept = []
    for run in found:
        inside = [i for i, x in enumerate(run.line.xs)
                  if isinstance(x, int | float) and x > 0 and np.isfinite(run.selecting.scores[i]).all()]  # fmt: skip
        xs = tuple(run.line.xs[i] for i in inside)
        if len(inside) >= 3:
            kept.append(replace(run, line=Line(xs, run.line.scores[inside]),
                                selecting=Line(xs, run.selecting.scores[inside])))  # fmt: skip
    return kept


# -- whether it moves ------------------------------------------------------------------------------------------------


def moves(table: PublishedTable, shape: Shape, found: Sequence[Run]) -> list[Finding]:
    """Whether the best x grows along the shape's other axis: one finding, none of fewer than two numbers there."""
    at = {run.at[shape.along]: run for run in found}
    places = [float(value) for value in at if isinstance(value, int | float)]
    if len(places) < 2 or len(places) < len(found):
        return []
    peaks = [_peaks(run) for run in found]
    best = _best_of_paper(table, shape)
    slopes, published = optima.slopes_of(places, [one.logs for one in peaks]), shapes.published_slope(best)
    slope, judge = st.mean_interval(slopes), partial(shapes.slope_verdict, published=published, peaks=peaks)
    verdict = judge(slope)
    x, along = table.axis(shape.axis).symbol, table.axis(shape.along).symbol
    claim = f"the best {x} grows with {along}"
    listed = f"{', '.join(map(number, best.values()))} at {along} = {', '.join(map(number, best))}"
    known = f"slope {published:.2f} ({listed})"
    pairs = list(zip(found, peaks, strict=True))
    narrow = [_narrow_text(run, one, x) for run, one in pairs if one.censored]
    told = f"slope {'at least ' if narrow else ''}{two(slope)} on log axes, n = {count(slope.n, 'seed')}"
    said = _moves_text(x, along, verdict, slope, told, narrow, published, found[0].by)
    spots = Spots(f"best {x}, {found[0].by}", tuple(_spot(table, *pair) for pair in pairs))
    if narrow and verdict == OPEN:  # what is at an end of its grid is no value of a slope
        too_narrow = listing([run.text for run, one in pairs if one.censored])
        ours = f"not known: the grid of {x} is too narrow at {too_narrow}"
        return [Finding(claim, "", known, ours, None, verdict, said, keys_of(found),
                        lack=lack(verdict, slope, at_edge=True), spots=spots,
                        ends=tuple({end for one in peaks for end in one.all_ends}))]  # fmt: skip
    marks = ((0.0, "none"), (published, "paper"))
    quantity = None if narrow else Quantity(f"slope of the best {x} on {along}, log axes", tuple(slopes), marks)
    return [Finding(claim, "", known, told, slope.mean, verdict, said, keys_of(found), quantity,
                    lack(verdict, slope), forecast(slopes, judge), spots)]  # fmt: skip


def _moves_text(
    x: str, along: str, verdict: str, slope: st.Estimate, told: str, narrow: Sequence[str], published: float, by: str
) -> str:
    beyond = f", as {listing(narrow)}" if narrow else ""
    if verdict == HOLDS:
        return f"The best {x} grows with {along} here, too ({told}{beyond}; paper {published:.2f}; best {by})."
    if verdict == FAILS:
        return (
            f"The best {x} does not grow with {along} here as in the paper: {told}, below the paper's "
            f"{published:.2f} (best {by})."
        )
    head = f"Whether the best {x} grows with {along} is undecided"
    if slope.low is None:
        return f"{head}: one seed has no interval."
    if narrow:
        return f"{head}: {by} {listing(narrow)}, so the grid is too narrow there and the optimum may lie beyond."
    return f"{head}: {told}, excludes neither 0 nor the paper's {published:.2f} (best {by})."


def _peaks(run: Run) -> Peaks:
    return optima.peaks(run.selecting.xs, run.selecting.scores)


def _narrow_text(run: Run, peaks: Peaks, x: str) -> str:
    """Where the best is at an end of what was tried: of the mean over seeds, and of how many seeds."""
    said, n = [], len(peaks.ends)
    for end, value in ((SMALLEST, run.selecting.xs[0]), (LARGEST, run.selecting.xs[-1])):
        if end in peaks.all_ends:
            hit = peaks.ends.count(end)
            of_mean = ["on average"] if peaks.mean_end == end else []
            of_seeds = [f"in {hit} of {count(n, 'seed')}"] if hit else []
            said.append(f"the {end} tried ({number(value)}) {listing([*of_seeds, *of_mean])}")
    where = f" at {run.text}" if run.text else ""
    return f"the best {x}{where} is {listing(said)}"


def _spot(table: PublishedTable, run: Run, peaks: Peaks) -> Spot:
    near = _near_best(run, table.tolerance.points if table.tolerance else 0.0)
    return Spot(run.text, tuple(10**peaks.logs), peaks.ends, (near[0], near[-1]) if near else None)


def _best_of_paper(table: PublishedTable, shape: Shape) -> dict[float, float]:
    """`along` → best x of the published numbers."""
    columns: dict[float, dict[float, float]] = {}
    for cell in table.cells:
        columns.setdefault(float(cell.at[shape.along]), {})[float(cell.at[shape.axis])] = cell.value
    return {at: max(values, key=lambda x: values[x]) for at, values in columns.items()}


# -- where it is ------------------------------------------------------------------------------------------------------


def _near_best(run: Run, reach: float) -> list[float]:
    """The published x that the table cannot tell from its best."""
    known = {float(value): score for value, score in run.published.items() if isinstance(value, int | float)}
    return shapes.near_best(known, reach) if known else []


def place(table: PublishedTable, shape: Shape, run: Run, reach: float) -> Finding:
    x, peaks, near = table.axis(shape.axis).symbol, _peaks(run), _near_best(run, reach)
    found = st.mean_interval(peaks.logs)
    claim, where = f"where the best {x} is", f" at {run.text}" if run.text else ""
    published = f"{_published_best(run)}; {_span(near)} within the tolerance" if near else "no such line"
    if peaks.censored:
        narrow = f"{run.by[0].upper()}{run.by[1:]} {_narrow_text(run, peaks, x)}"
        said = f"{narrow}: the grid is too narrow to say where it lies."
        return Finding(claim, run.text, published, f"none inside the grid: {_edges_text(run, peaks)}", None, OPEN, said,
                       run.keys, lack=lack(OPEN, found, at_edge=True) if near else VALUES,
                       ends=tuple(peaks.all_ends))  # fmt: skip
    judge = partial(shapes.optimum_verdict, run.selecting, published=near)
    verdict = judge(found) if near else OPEN
    shown = number(float(f"{10**found.mean:.2g}"))
    if found.low is not None and found.high is not None:
        shown += f" [{10**found.low:.2g}, {10**found.high:.2g}]"
    why = "and one seed has no interval" if found.low is None else "with an interval too wide to say where"
    reason = {
        HOLDS: "which meets the paper's range",
        FAILS: "outside the paper's range",
        OPEN: why if near else "and the paper has no such line",
    }[verdict]
    sentence = f"The best {x}{where} is {shown} {run.by} (n = {count(found.n, 'seed')}), {reason}."
    marks = tuple((math.log10(value), f"paper {number(value)}") for value in near[:1] + near[1:][-1:])
    return Finding(
        claim, run.text, published, shown, 10**found.mean, verdict, sentence, run.keys,
        Quantity(f"log10 of the best {x}{where}", tuple(peaks.logs), marks), lack(verdict, found) if near else VALUES,
        forecast(peaks.logs, judge) if near else None,
    )  # fmt: skip


def _published_best(run: Run) -> str:
    known = {value: score for value, score in run.published.items() if isinstance(value, int | float)}
    return number(float(max(known, key=lambda value: known[value])))


def _edges_text(run: Run, peaks: Peaks) -> str:
    ends = {SMALLEST: run.selecting.xs[0], LARGEST: run.selecting.xs[-1]}
    return listing([f"the {end} tried, {number(value)}" for end, value in ends.items() if end in peaks.all_ends])


def _span(values: Sequence[float]) -> str:
    return number(values[0]) if len(values) == 1 else f"{number(values[0])} to {number(values[-1])}"
