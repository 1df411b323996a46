"""What a table's numbers do along its axes, and whether ours do so, too: one verdict for each shape of the table."""

from collections.abc import Mapping, Sequence
from functools import partial

from reports import shapes
from reports import statistics as st
from reports.evidence import Study
from reports.published import Axis, Name, PublishedTable, Shape
from reports.sections import paper_whole
from reports.sections.paper_cells import Comparison, two
from reports.sections.paper_finding import VALUES, Finding, Quantity, forecast, keys_of, lack
from reports.sections.paper_lines import Placed, Run, placed, runs
from reports.sections.paper_optimum import moves, place, positive
from reports.shapes import FAILS, HOLDS, OPEN, Line
from reports.wording import count, listing, minus, value_text


def findings(study: Study, table: PublishedTable, found: Sequence[Comparison]) -> list[Finding]:
    """In the order of the table's shapes; those along an axis that the sweep does not vary are left out."""
    ours = placed(study, table)
    said: list[Finding] = []
    for shape in table.shapes:
        if shape.kind == "rank":
            said += paper_whole.rank(found)
        elif shape.kind == "loss_predicts":
            said += paper_whole.loss_predicts(study, table)
        elif shape.kind == "spread":
            said += paper_whole.spread(study, table, shape)
        else:
            said += _along(study, table, shape, ours)
    return said


def _along(study: Study, table: PublishedTable, shape: Shape, ours: Sequence[Placed]) -> list[Finding]:
    reach = shape.within or (table.tolerance.points if table.tolerance else study.rope)
    match shape.kind:
        case "optimum_moves":
            return moves(table, shape, positive(runs(table, ours, shape, 3)))
        case "optimum":
            return [place(table, shape, run, reach) for run in positive(runs(table, ours, shape, 3))]
        case "plateau":
            return [_plateau(table, shape, run, reach) for run in runs(table, ours, shape)]
        case "monotone":
            return _monotone(table, shape, runs(table, ours, shape), reach)
        case "saturation":
            return _saturation(table, shape, runs(table, ours, shape, 3), reach)
    return []


def _plateau(table: PublishedTable, shape: Shape, run: Run, reach: float) -> Finding:
    axis, line = table.axis(shape.axis), run.line
    by_seed = shapes.shortfalls(line, run.best)
    lost = [st.mean_interval(values) for values in by_seed]
    flat = _flat_in_paper(axis, run, reach)
    tested = [i for i, x in enumerate(line.xs) if x in flat and i != run.best]
    verdict = shapes.plateau_verdict([lost[i] for i in tested], reach) if tested else OPEN
    near = [value_text(x) for x, one in zip(line.xs, lost, strict=True) if one.mean <= reach]
    at = max(tested, key=lambda i: lost[i].mean, default=None)
    worst = None if at is None else lost[at]
    where = f" at {run.text}" if run.text else ""
    claim = f"flat to {reach:g} points along {axis.symbol}"
    paper = listing([value_text(x) for x in flat]) or "no such line"
    told = f"{', '.join(near)} by their means"
    n = count(line.scores.shape[1], "seed")
    shown = f"largest loss to the best {run.by} {two(worst)}, n = {n}" if worst else ""
    sentence = {
        HOLDS: f"Along {axis.symbol}{where} all that the paper cannot tell from its best is within {reach:g} points "
        f"of ours, too ({shown}).",
        FAILS: f"Along {axis.symbol}{where} some of what the paper cannot tell from its best is worse here by more "
        f"than {reach:g} points ({shown}).",
        OPEN: f"Whether {axis.symbol}{where} is as flat as in the paper is undecided"
        + (f" ({shown})." if shown else ": too few of the paper's values were tried."),
    }[verdict]
    if at is None or worst is None:
        return Finding(claim, run.text, paper, told, None, verdict, sentence, run.keys, lack=VALUES)
    label = f"what {axis.symbol} = {value_text(line.xs[at])}{where} loses to the best (points)"
    quantity = Quantity(label, tuple(by_seed[at]), ((0.0, "as good"), (reach, "tolerance")))
    return Finding(claim, run.text, paper, told, worst.mean, verdict, sentence, run.keys, quantity,
                   lack(verdict, worst), _seeds_for_all([by_seed[i] for i in tested], reach))  # fmt: skip


def _seeds_for_all(lost: Sequence[shapes.Floats], reach: float) -> int | None:
    """So many that every loss is on one side of the tolerance."""
    needed = [forecast(values, lambda one: shapes.plateau_verdict([one], reach)) for values in lost]
    return max(known) if len(known := [n for n in needed if n is not None]) == len(needed) else None


def _flat_in_paper(axis: Axis, run: Run, reach: float) -> list[Name]:
    """The published values that are within reach of the published best, in the axis's order."""
    best = max(run.published.values(), default=0.0)
    return [x for x in axis.values if x in run.published and run.published[x] >= best - reach]


def _monotone(table: PublishedTable, shape: Shape, found: Sequence[Run], reach: float) -> list[Finding]:
    if not found:
        return []
    axis, sign = table.axis(shape.axis), 1 if shape.direction == "up" else -1
    lines = [Line(run.line.xs, sign * run.line.scores) for run in found]
    changes = shapes.changes(lines)
    change, contrary = st.mean_interval(changes), shapes.contrary_steps(lines, 1, reach)
    judge = partial(shapes.monotone_verdict, contrary=contrary, tolerance=reach)
    verdict = judge(change)
    word = "rises" if sign > 0 else "falls"
    shown = change if sign > 0 else _mirrored(change)
    told = f"{two(shown, sign=True)} points over the axis, n = {count(change.n, 'seed')}"
    steps = listing([f"{value_text(a)} to {value_text(b)}" for a, b in dict.fromkeys(contrary)])
    turns = f"but goes the other way from {steps}" if contrary else "so it stands still or goes the other way"
    said = {
        HOLDS: f"Accuracy {word} with {axis.symbol} here, too: {told}.",
        FAILS: f"Accuracy does not simply {word.removesuffix('s')} with {axis.symbol} here: {told}, {turns}.",
        OPEN: f"Whether accuracy {word} with {axis.symbol} is undecided: {told}.",
    }[verdict]
    published = _published_change(table, shape)
    claim = f"accuracy {word} with {axis.symbol}"
    quantity = Quantity(f"change over {axis.symbol} (points)", tuple(sign * changes), ((0.0, "none"),))
    return [Finding(claim, _limits(table, shape), published, told, shown.mean, verdict, said, keys_of(found), quantity,
                    lack(verdict, change), forecast(changes, judge))]  # fmt: skip


def _mirrored(one: st.Estimate) -> st.Estimate:
    low, high = (None if bound is None else -bound for bound in (one.high, one.low))
    return st.Estimate(-one.mean, low, high, one.n, one.how)


def _published_change(table: PublishedTable, shape: Shape) -> str:
    columns: dict[tuple[Name, ...], list[float]] = {}
    for cell in table.cells:
        rest = {name: value for name, value in cell.at.items() if name != shape.axis}
        if all(rest[name] == value for name, value in shape.at.items()):
            columns.setdefault(tuple(rest.values()), []).append(cell.value)
    whole = [column for column in columns.values() if len(column) > 1]
    return f"{minus(f'{shapes.published_change(whole):+.2f}')} points over the axis" if whole else "—"


def _saturation(table: PublishedTable, shape: Shape, found: Sequence[Run], reach: float) -> list[Finding]:
    if not found:
        return []
    axis, lines = table.axis(shape.axis), [run.line for run in found]
    by_seed, at_end = shapes.rises(lines), shapes.rises(lines, -2)
    rise, last = st.mean_interval(by_seed), st.mean_interval(at_end)
    verdict = shapes.saturation_verdict(rise, last, reach)
    ends = {run.line.xs[-2:] for run in found}
    step = " to ".join(value_text(x) for x in found[0].line.xs[-2:]) if len(ends) == 1 else "the last step"
    told = f"rise {two(rise, sign=True)}, of it {step}: {two(last, sign=True)}, n = {rise.n}"
    said = {
        HOLDS: f"Accuracy rises with {axis.symbol} and then no more: {told}.",
        FAILS: f"Accuracy does not rise and then stop along {axis.symbol} here: {told}.",
        OPEN: f"Whether accuracy stops rising with {axis.symbol} is undecided: {told}.",
    }[verdict]
    gains = [_published_end(axis, run.published) for run in found]
    published = "; ".join(dict.fromkeys(gain for gain in gains if gain)) or "no such line"
    claim = f"accuracy stops rising with {axis.symbol}"
    quantity = Quantity(f"change of the last step of {axis.symbol} (points)", tuple(at_end), ((reach, "tolerance"),))
    needed = [forecast(by_seed, lambda one: OPEN if one.low is None or one.low <= 0 < (one.high or 0) else HOLDS),
              forecast(at_end, lambda one: shapes.plateau_verdict([one], reach))]  # fmt: skip
    seeds = max(known) if len(known := [n for n in needed if n is not None]) == len(needed) else None
    return [Finding(claim, _limits(table, shape), published, told, last.mean, verdict, said, keys_of(found), quantity,
                    lack(verdict, last), seeds)]  # fmt: skip


def _published_end(axis: Axis, published: Mapping[Name, float]) -> str:
    known = [published[x] for x in axis.values if x in published]
    if len(known) < 3:
        return ""
    return f"rise {minus(f'{known[-1] - known[0]:+.2f}')}, of it last {minus(f'{known[-1] - known[-2]:+.2f}')}"


def _limits(table: PublishedTable, shape: Shape) -> str:
    return ", ".join(f"{table.axis(name).symbol} = {value_text(value)}" for name, value in shape.at.items())
