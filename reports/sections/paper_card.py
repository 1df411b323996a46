"""The card of a sweep that runs a table of the paper: does the table's shape hold, and do its cells reproduce?

The first shape of a table is what its sweep asks. The strength is that of the least certain: this shape on all its
lines, and the cells that are at the published setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports import statistics as st
from reports.content import Figure
from reports.evidence import Cell, Study
from reports.figures.canvas import Text
from reports.figures.paper import against, spots
from reports.published import PublishedTable
from reports.sections import paper, paper_cells, paper_shapes
from reports.sections.factor import raw_frame
from reports.sections.paper_cells import (
    CLOSE,
    JUDGED,
    NOT_ATTEMPTED,
    NOT_REPRODUCED,
    OTHER_SETTING,
    REPRODUCED,
    Comparison,
    two,
)
from reports.sections.paper_finding import VALUES, Finding, Quantity, Spots
from reports.shapes import FAILS, HOLDS, OPEN
from reports.wording import count, listing

_ORDER = (st.DECIDED, st.LEANING, st.UNDECIDED)  # by rising doubt


@dataclass(frozen=True)
class Verdict:
    """A table with all that the sweep has for it."""

    table: PublishedTable
    cells: list[Comparison]
    findings: list[Finding]

    @property
    def asked(self) -> list[Finding]:
        """The first shape of the table for which enough was tried, on every line."""
        tested = [one for one in self.findings if one.lack != VALUES]
        return [one for one in tested if one.claim == tested[0].claim]

    @property
    def judged(self) -> list[Comparison]:
        """Cells at the published setting."""
        return [one for one in self.cells if one.status in JUDGED]

    @property
    def open(self) -> list[Finding]:
        """What is undecided, that which is asked first."""
        rest = [one for one in self.findings if one not in self.asked]
        return [one for one in [*self.asked, *rest] if one.verdict == OPEN]

    @property
    def unattempted(self) -> list[Comparison]:
        return [one for one in self.cells if one.status == NOT_ATTEMPTED]


def verdicts(study: Study) -> list[Verdict]:
    """Of the tables that name the sweep and of which something can be judged; none where a contrast is declared, which
    then is the question."""
    if study.sweep.spec.get("contrast"):
        return []
    found = []
    for table in paper.named(study):
        cells = paper_cells.comparisons(study, table)
        found.append(Verdict(table, cells, paper_shapes.findings(study, table, cells)))
    return [one for one in found if one.asked or one.judged]


def deciding(study: Study) -> tuple[Cell, ...]:
    """The cells that the verdicts rest on."""
    found = verdicts(study)
    keys = {key for one in found for finding in one.findings for key in finding.keys}
    keys |= {key for one in found for cell in one.judged if cell.ours is not None for key in cell.ours.keys}
    return tuple(cell for cell in study.cells if cell.complete and keys & set(cell.keys))


# -- what is said -----------------------------------------------------------------------------------------------------


def strength(found: Sequence[Verdict]) -> str:
    """Of the least certain: each table's first shape, and its cells at the published setting."""
    said = [st.UNDECIDED if one.verdict == OPEN else st.DECIDED for v in found for one in v.asked]
    said += [_certainty(one) for v in found for one in v.judged]
    return max(said, key=_ORDER.index, default=st.UNDECIDED)


def _certainty(one: Comparison) -> str:
    """Leaning where the interval does not settle what the mean says, and where one seed has none."""
    reach, estimate = one.tolerance or 0.0, one.estimate
    if one.status == NOT_REPRODUCED and estimate is not None and estimate.low is not None:
        return st.DECIDED
    if one.status != REPRODUCED or estimate is None or estimate.low is None or estimate.high is None:
        return st.LEANING
    whole = max(abs(estimate.low - one.cell.value), abs(estimate.high - one.cell.value)) <= reach
    return st.DECIDED if whole else st.LEANING


NOTES = {
    st.DECIDED: "the intervals settle whether the table's first shape holds, and the cells at the published setting",
    st.LEANING: "a cell at the published setting lies near its tolerance, or is of one seed",
    st.UNDECIDED: "whether the table's first shape holds is not settled",
}


def answer(found: Sequence[Verdict]) -> str:
    """What became of the first shape, and of everything else in numbers."""
    return " ".join(text for one in found for text in (_asked_text(one), _tally(one)) if text)


def _asked_text(one: Verdict) -> str:
    if len(one.asked) < 2:
        return "".join(finding.sentence for finding in one.asked)
    claim = one.asked[0].claim
    parts = []
    for verdict in (HOLDS, FAILS, OPEN):
        if mine := [finding.where for finding in one.asked if finding.verdict == verdict]:
            where = "everywhere" if len(mine) == len(one.asked) else f"at {listing(mine)}"
            parts.append(f"{'is undecided' if verdict == OPEN else verdict} {where}")
    return f"“{claim[0].upper()}{claim[1:]}” {listing(parts)}."


def _tally(one: Verdict) -> str:
    parts = []
    if one.asked:
        words = {HOLDS: ("holds", "hold"), FAILS: ("does not", "do not"), OPEN: ("is undecided", "are undecided")}
        shown = [f"{n} {words[verdict][n != 1]}" for verdict, n in _shapes(one).items() if n]
        parts.append(f"of {count(len(one.findings), 'tested shape')} of {one.table.id} {listing(shown)}")
    parts.append(_cells_text(one))
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _shapes(one: Verdict) -> dict[str, int]:
    return {verdict: sum(f.verdict == verdict for f in one.findings) for verdict in (HOLDS, FAILS, OPEN)}


def _cells_text(one: Verdict) -> str:
    tried = len(one.cells) - len(one.unattempted)
    if not one.judged:
        other = sum(cell.status == OTHER_SETTING for cell in one.cells)
        why = " at another setting than the published, so none can reproduce" if other == tried else ""
        return f"{tried} of {count(len(one.cells), 'cell')} attempted{why}"
    counts = {status: sum(cell.status == status for cell in one.judged) for status in (REPRODUCED, CLOSE)}
    lost = len(one.judged) - sum(counts.values())
    shown = [f"{n} {status}" for status, n in {**counts, NOT_REPRODUCED: lost}.items() if n]
    return f"{tried} of {count(len(one.cells), 'cell')} attempted: {listing(shown)}"


def facts(found: Sequence[Verdict]) -> list[tuple[str, str, tuple[str, ...]]]:
    said: list[tuple[str, str, tuple[str, ...]]] = []
    for one in found:
        for finding in one.asked[:3]:
            label = f"{finding.claim[0].upper()}{finding.claim[1:]}{f' at {finding.where}' if finding.where else ''}"
            text = f"ours {finding.ours}; paper {finding.published}: {finding.verdict}"
            said.append((label, text, finding.keys))
        worst = max(one.judged, key=lambda cell: abs(cell.gap or 0.0), default=None)
        if worst is not None and worst.estimate is not None and worst.ours is not None:
            text = f"{worst.cell.id}: {two(worst.estimate)}, published {worst.cell.value:.2f} ({worst.status})"
            said.append(("Largest gap", text, worst.ours.keys))
    return said


def figure(study: Study, found: Sequence[Verdict]) -> Figure | None:
    """What the strength rests on: the first of the shapes asked about that is not settled, else the first."""
    asked = [finding for one in found for finding in one.asked if finding.quantity or finding.spots]
    shown = next((one for one in asked if one.verdict == OPEN), asked[0] if asked else None)
    if shown is None:
        return None
    rows = raw_frame(study, [cell for cell in study.cells if set(cell.keys) & set(shown.keys)])
    if shown.quantity is not None:
        return _against(shown.quantity, rows)
    return None if shown.spots is None else _spots(shown.spots, rows)


def _against(quantity: Quantity, rows: pd.DataFrame) -> Figure:
    estimate = quantity.estimate
    told = f"{quantity.label[0].upper()}{quantity.label[1:]}"
    caption = f"{told}, n = {count(estimate.n, 'seed')} (dots) with the 95 % interval; lines say what decides."
    marks = "; ".join(f"{label}: {value:.3g}" for value, label in quantity.marks)
    text = Text("effect", caption, f"{told}: {two(estimate)}. {marks}.", rows)
    return against(text, estimate, quantity.values, quantity.marks, quantity.label)


def _spots(found: Spots, rows: pd.DataFrame) -> Figure:
    told = f"{found.label[0].upper()}{found.label[1:]}"
    caption = (
        f"{told}, in every seed; the bar is what the paper cannot tell from its best. An arrow is an end of what was "
        "tried: the best may lie beyond, so no slope is drawn."
    )
    said = "; ".join(f"{row.label}: {', '.join(map(_spot_text, row.values, row.ends))}" for row in found.rows)
    return spots(Text("effect", caption, f"{told}. {said}.", rows), found.rows, f"{found.label} (log scale)")


def _spot_text(value: float, end: str) -> str:
    return f"{value:.3g}{f' ({end} tried)' if end else ''}"
