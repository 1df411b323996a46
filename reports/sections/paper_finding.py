"""What is found of a shape, and the table of all that is found."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.content import Table, Value, plain
from reports.published import PublishedTable
from reports.shapes import FAILS, HOLDS, OPEN
from reports.wording import minus

_TONES = {HOLDS: "pass", FAILS: "fail", OPEN: "muted"}


@dataclass(frozen=True)
class Finding:
    """A shape, what the paper has of it, what we have, and the verdict with its reason."""

    claim: str
    where: str  # the line, where a shape has several
    published: str
    ours: str
    raw: float | None
    verdict: str
    sentence: str
    keys: tuple[str, ...]


def shape_table(table: PublishedTable, found: Sequence[Finding], slug: str) -> Table:
    columns = ["shape", "where", "published", "ours [95 % interval]", "value", "verdict"]
    caption = (
        f"Shapes of {table.id} that another scale can test: what holds there holds in order and direction, not in "
        "height. A verdict is the interval's; docs/paper.md has the rules."
    )
    return Table(f"{slug}-shapes", caption, columns, [_row(one) for one in found], provenance=True)


def _row(one: Finding) -> list[Value]:
    value = Value(None, "—", tone="muted") if one.raw is None else plain(one.raw, minus(f"{one.raw:.3g}"))
    return [
        Value(one.claim, one.claim, one.keys), plain(one.where), plain(one.published), plain(one.ours), value,
        Value(one.verdict, one.verdict, tone=_TONES[one.verdict]),
    ]  # fmt: skip
