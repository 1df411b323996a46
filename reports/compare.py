"""Two sweeps side by side: what differs in how they were made, and in what came out.

Cells are compared that both have (same arm, same values), in the same encoder, on the same data, by the same
evaluation; all else is refused by name. Differences are second − first.
"""

import os
from pathlib import Path

from reports import evidence, provenance
from reports import figures as drawing
from reports.content import Block, Document, Items, Prose, Section, Table, Value, plain
from reports.evidence import Cell
from reports.figures import pairs as drawn
from reports.load import load
from reports.pairing import MARKS, Pair, Pairing, pair_up
from reports.render import write
from reports.report import Report
from reports.sections import card as cards
from reports.sections import compared_card, differs, factor, gate, question
from reports.sections.compared_card import difference_text, pair_keys, raw
from reports.sections.reproduce import folder_text
from reports.wording import count, difference_label, difference_unit, listing, name_text, short_name, unit

_MOST_ROWS = 40  # of a figure


def compare(
    first: str | os.PathLike[str], second: str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> Report:
    """Write the comparison of two sweeps to `out` (default: SECOND/against-FIRST).

    Raises LoadError where a folder is no sweep's, harness.ledger.LedgerError where its ledger cannot be read.
    """
    pairing = pair_up(evidence.study(load(first)), evidence.study(load(second)))
    names = _names(pairing)
    document = Document(
        f"{names[0]} and {names[1]}", compared_card.card(pairing, names), _sections(pairing, names), _footer(pairing),
        kind="Comparison",
        trials=provenance.trials(pairing.a, MARKS[0]) | provenance.trials(pairing.b, MARKS[1]),
    )  # fmt: skip
    target = Path(out) if out is not None else Path(second) / f"against-{Path(first).absolute().name}"
    files = write(document, target, {})
    said = document.card
    return Report(said.answer, said.strength, files.html, files.markdown, files.latex, document, [])


def _names(pairing: Pairing) -> tuple[str, str]:
    """What the sweeps are called; by their folders, then as first and second, where they have the same name."""
    a, b = (name_text(study.sweep.name) for study in (pairing.a, pairing.b))
    if a == b:
        a, b = (name_text(study.sweep.folder.absolute().name) for study in (pairing.a, pairing.b))
    return (a, b) if a != b else (f"{a} (first)", f"{b} (second)")


# -- sections ---------------------------------------------------------------------------------------------------------


def _sections(pairing: Pairing, names: tuple[str, str]) -> list[Section]:
    shared = [_shared(pairing, names)] if pairing.pairs else []
    return [_answers(pairing, names), *shared, differs.section(pairing, names), _alone(pairing, names)]


def _shared(pairing: Pairing, names: tuple[str, str]) -> Section:
    refused = [pair for pair in pairing.pairs if pair.refusal or pairing.refusal]
    said = "Cells that both have: same arm, same values. All else that differs between them is listed further down."
    if refused:
        reasons = dict.fromkeys(pair.refusal or pairing.refusal for pair in refused)
        said = f"Not comparable: {count(len(refused), 'cell')}, because {listing(list(reasons)[:4])}. {said}"
    blocks: list[Block] = [Prose([said])]
    if pairing.usable:
        blocks += _figures(pairing, names)
    return Section("shared", "Cell by cell", [*blocks, _table(pairing, names)])


def _figures(pairing: Pairing, names: tuple[str, str]) -> list[Block]:
    shown = pairing.usable[:_MOST_ROWS]
    rows = [drawn.Both(pair.text, (_side(pair.a), _side(pair.b)), pair.estimate) for pair in shown]
    n = sorted({len(cell.finished) for pair in shown for cell in (pair.a, pair.b)})
    seeds = f"n = {n[0]} seeds" if len(n) == 1 else f"n = {n[0]} to {n[-1]} seeds"
    cut = f"; the first {_MOST_ROWS} of {len(pairing.usable)} cells" if len(shown) < len(pairing.usable) else ""
    percent = f" ({unit(pairing.a.judge)})" if unit(pairing.a.judge) else ""
    points = difference_unit(pairing.a.judge)
    behind = raw(pairing, shown)
    said = "; ".join(
        f"{pair.text}: {difference_text(pairing, pair.estimate)}" for pair in shown[:12] if pair.estimate is not None
    )
    both = drawing.Text(
        "means", f"{pairing.a.judge_text} of both sweeps, {seeds} per cell{cut}; small dots are seeds, bars 95 % "
        "intervals.", f"{pairing.a.judge_text} of both sweeps, by cell. {said}", behind,
    )  # fmt: skip
    apart = drawing.Text(
        "differences", f"{names[1]} − {names[0]}, {seeds} per cell{cut}; bars are 95 % intervals, not corrected for "
        "their number; a hollow point has none.", f"{names[1]} − {names[0]}, by cell. {said}", behind,
    )  # fmt: skip
    label = difference_label(short_name(names[1], 18), short_name(names[0], 18), points)
    return [
        drawn.means(both, rows, names, pairing.a.judge_text + percent),
        drawn.differences(apart, rows, pairing.a.rope, label),
    ]


def _side(cell: Cell) -> drawn.Side:
    return drawn.Side(cell.judged.tolist(), cell.estimate)


def _table(pairing: Pairing, names: tuple[str, str]) -> Table:
    judge = pairing.a.judge
    of = f" ({unit(judge)})" if unit(judge) else ""
    points = f" ({difference_unit(judge)})" if difference_unit(judge) else ""
    columns = [
        "cell", "n", f"{names[0]} [95 % interval]{of}", f"{names[1]} [95 % interval]{of}",
        f"{names[1]} − {names[0]} [95 % interval]{points}", "how", "verdict",
    ]  # fmt: skip
    caption = f"{count(len(pairing.pairs), 'cell')} in both, by {pairing.a.judge_text}; verdicts for a ROPE of " + (
        f"±{pairing.a.rope:g} {difference_unit(judge)}".strip() + ", not corrected for their number."
    )
    return Table("shared", caption, columns, [_row(pairing, pair) for pair in pairing.pairs], provenance=True)


def _row(pairing: Pairing, pair: Pair) -> list[Value]:
    refusal = pair.refusal or pairing.refusal
    a, b = len(pair.a.finished), len(pair.b.finished)
    head = Value(pair.text, pair.text, pair_keys(pair), strong=pair is pairing.primary)
    if refusal:  # numbers that measure different things do not stand side by side
        none = Value(None, "—", tone="muted")
        return [head, none, none, none, none, plain(refusal), Value("refused", "not comparable", tone="fail")]
    return [
        head,
        plain(str(a) if a == b else f"{a}, {b}"),
        _marked(factor.estimate_value(pair.a.estimate, pairing.a.judge, pair.a), MARKS[0]),
        _marked(factor.estimate_value(pair.b.estimate, pairing.b.judge, pair.b), MARKS[1]),
        factor.difference_value(pair.estimate, pairing.a.judge, pair_keys(pair)),
        plain(pair.how or "—"),
        plain(pair.verdict),
    ]


def _marked(value: Value, mark: str) -> Value:
    return Value(value.raw, value.text, tuple(mark + key for key in value.keys), value.tone, value.colour, value.strong)


def _answers(pairing: Pairing, names: tuple[str, str]) -> Section:
    """Each sweep's own card, in a line."""
    rows = []
    for name, either in zip(names, (pairing.a, pairing.b), strict=True):
        study = question.focused(either)
        checks = gate.gate(study)
        own = cards.card(study, checks)
        rows.append([
            Value(name, name, strong=True), plain(own.question), plain(own.answer), plain(own.strength),
            plain(gate.tally(checks)),
        ])  # fmt: skip
    columns = ["sweep", "question", "answer", "strength", "gate"]
    return Section("answers", "What each says by itself", [Table("answers", "Both cards.", columns, rows)])


def _alone(pairing: Pairing, names: tuple[str, str]) -> Section:
    """What has no counterpart."""
    items = []
    for name, cells in zip(names, (pairing.only_a, pairing.only_b), strict=True):
        texts = [f"{name_text(cell.arm)}, {cell.text}" if cell.text else name_text(cell.arm) for cell in cells]
        more = f" and {len(texts) - 20} more" if len(texts) > 20 else ""
        items.append(f"Only in {name}: {'; '.join(texts[:20]) + more if texts else 'nothing'}.")
    items.append(
        "Two sweeps were not planned as one: the order of the trials, the machine and what else ran on it may differ, "
        "and a difference between them need not come from the setting that was changed on purpose."
    )
    return Section("caveats", "What this does not say", [Items(items)])


def _footer(pairing: Pairing) -> str:
    a, b = folder_text(pairing.a), folder_text(pairing.b)
    return f"Made from {a}/ledger.db and {b}/ledger.db; harness report {a} {b} --compare makes it again."
