"""What a report is made of, before any format: values apart from their display, and where each value came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Value:
    raw: Any  # goes to CSV
    text: str  # is shown
    keys: tuple[str, ...] = ()  # of the trials behind it
    tone: str = ""  # pass | warn | fail | muted
    colour: str = ""  # class of an arm's colour
    strong: bool = False

    @property
    def sort_key(self) -> str:
        """What a table's rows are sorted by: numbers by themselves, words as shown, what is missing last."""
        if self.raw is None:
            return ""
        return str(self.raw) if isinstance(self.raw, int | float) else self.text


def plain(raw: Any, text: str | None = None) -> Value:
    return Value(raw, str(raw) if text is None else text)


@dataclass(frozen=True)
class Table:
    name: str  # of the CSV file
    caption: str
    columns: list[str]
    rows: list[list[Value]]
    provenance: bool = False  # rows open the trials that they came from

    def frame(self) -> pd.DataFrame:
        frame = pd.DataFrame([[value.raw for value in row] for row in self.rows], columns=self.columns)
        if self.provenance:
            frame["trial keys"] = [" ".join(keys_of(row)) for row in self.rows]
        return frame

    @property
    def has_numbers(self) -> bool:
        return any(self._numbers)

    def numeric(self, column: int) -> bool:
        return self._numbers[column]

    @cached_property
    def _numbers(self) -> list[bool]:
        """Whether each column holds numbers, and nothing else."""
        columns = [[row[i].raw for row in self.rows if row[i].raw is not None] for i in range(len(self.columns))]
        return [
            bool(raws) and all(isinstance(raw, int | float) and not isinstance(raw, bool) for raw in raws)
            for raws in columns
        ]


def behind(table: Table, row: Sequence[Value], column: int) -> tuple[str, ...]:
    """Keys of the trials behind a cell: its own; a number without them is one of what its row is about."""
    value = row[column]
    if value.keys or not table.provenance or value.raw is None or not table.numeric(column):
        return value.keys
    return row[0].keys or tuple(keys_of(row))


def keys_of(row: Sequence[Value]) -> list[str]:
    return list(dict.fromkeys(key for value in row for key in value.keys))


@dataclass(frozen=True)
class Figure:
    name: str  # of the PNG, SVG, PDF and CSV files
    caption: str
    alt: str
    svg: str
    png: bytes
    data: pd.DataFrame
    wide: bool = False
    pdf: bytes = b""


@dataclass(frozen=True)
class Prose:
    paragraphs: list[str]


@dataclass(frozen=True)
class Items:
    items: list[str]


@dataclass(frozen=True)
class Code:
    caption: str
    text: str


@dataclass(frozen=True)
class Heading:
    text: str


Block = Table | Figure | Prose | Items | Code | Heading


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Card:
    """The decision, on one screen."""

    question: str
    answer: str  # one sentence
    strength: str  # decided | equivalent | leaning | undecided | invalid
    strength_note: str
    facts: list[tuple[str, str, tuple[str, ...]]]  # label, text, trial keys
    changes: list[str]  # what would change the answer
    command: str  # the next sweep; empty where none is sensible
    command_note: str  # why, and its price
    figure: Figure | None


@dataclass(frozen=True)
class Trial:
    """What a number's reader is shown of a trial behind it."""

    key: str
    folder: str  # of its sweep, as given to `harness show --dir`
    arm: str
    seed: int | None
    state: str  # its outcome where it has one: trained, collapsed, diverged, …
    measured: Mapping[str, str]  # what → value, as shown
    settings: Mapping[str, str]  # dotted path → value, without the seed

    @property
    def command(self) -> str:
        return f"harness show {self.key[:12]} --dir {self.folder}"


@dataclass(frozen=True)
class Document:
    title: str
    card: Card
    sections: list[Section]
    footer: str
    kind: str = "Decision report"
    trials: Mapping[str, Trial] = field(default_factory=dict)  # by the keys that values carry
    refresh: float | None = None  # seconds after which the page loads itself again: while a sweep is watched
