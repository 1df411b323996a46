"""What is found of a shape, and the table of all that is found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reports import statistics as st
from reports.content import Table, Value, plain
from reports.evidence import Study
from reports.figures.paper import Spot
from reports.published import PublishedTable
from reports.sections.paper_lines import Run
from reports.shapes import FAILS, HOLDS, OPEN, Floats
from reports.wording import minus

SEEDS, RANGE, VALUES = "seeds", "range", "values"  # what an undecided shape lacks

_TONES = {HOLDS: "pass", FAILS: "fail", OPEN: "muted"}


@dataclass(frozen=True)
class Quantity:
    """The number that a verdict rests on, by seed, and what it is held against."""

    label: str
    values: tuple[float, ...]
    marks: tuple[tuple[float, str], ...]

    @property
    def estimate(self) -> st.Estimate:
        return st.mean_interval(self.values)


@dataclass(frozen=True)
class Spots:
    """Where the best of every seed lies on each line, for a slope that may not be drawn."""

    label: str
    rows: tuple[Spot, ...]


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
    quantity: Quantity | None = None
    lack: str = ""  # of an undecided one: SEEDS | RANGE | VALUES
    seeds: int | None = None  # so many would decide it, if mean and spread are what they seem
    spots: Spots | None = None
    ends: tuple[str, ...] = ()  # of what was tried, where a best lies

    @property
    def beyond(self) -> bool:
        """Whether st.MOST_SEEDS would hardly decide it."""
        return self.quantity is not None and len(self.quantity.values) > 1 and self.seeds is None


def forecast(values: Floats, verdict: Callable[[st.Estimate], str]) -> int | None:
    """Seeds that would decide a shape; None where st.MOST_SEEDS would not, or one seed shows no spread."""
    return st.seeds_needed(values, lambda found: verdict(found) != OPEN)


def lack(verdict: str, found: st.Estimate, at_edge: bool = False) -> str:
    """What would decide an undecided shape: an optimum at the end of its grid needs a wider one first."""
    return "" if verdict != OPEN else RANGE if at_edge and found.low is not None else SEEDS


def keys_of(found: Sequence[Run]) -> tuple[str, ...]:
    return tuple(key for run in found for key in run.keys)


def shape_table(study: Study, table: PublishedTable, found: Sequence[Finding], slug: str) -> Table:
    columns = ["shape", "where", "published", "ours [95 % interval]", "value", "verdict"]
    caption = (
        f"Shapes of {table.id} that another scale can test: what holds there holds in order and direction, not in "
        "height. "
        f"{_measures(study, table)}A verdict is the interval's; docs/paper.md has the rules."
    )
    return Table(f"{slug}-shapes", caption, columns, [_row(one) for one in found], provenance=True)


def _measures(study: Study, table: PublishedTable) -> str:
    """Which metric finds a best value, and which shows what it is worth; a table of several metrics names its own."""
    if any(axis.metric for axis in table.axes):
        return ""
    return f"A best value is found {study.selected_on}; losses, rises and orders are of {study.judge_text}. "


def _row(one: Finding) -> list[Value]:
    value = Value(None, "—", tone="muted") if one.raw is None else plain(one.raw, minus(f"{one.raw:.3g}"))
    return [
        Value(one.claim, one.claim, one.keys), plain(one.where), plain(one.published), plain(one.ours), value,
        Value(one.verdict, one.verdict, tone=_TONES[one.verdict]),
    ]  # fmt: skip
