"""The files of a report."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports.content import Document, Figure, Table
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.page import html

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Files:
    html: Path
    markdown: Path
    latex: Path


def write(document: Document, out: Path, frames: Mapping[str, pd.DataFrame]) -> Files:
    """Write everything under `out`. The texts are replaced atomically, after all that they point to is there."""
    for folder in ("figures", "tables"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for figure in figures(document):
        (out / "figures" / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
        (out / "figures" / f"{figure.name}.png").write_bytes(figure.png)
        (out / "figures" / f"{figure.name}.pdf").write_bytes(figure.pdf)
        _csv(figure.data, out / "figures" / f"{figure.name}.csv")
    for table in tables(document):
        _csv(table.frame(), out / "tables" / f"{table.name}.csv")
    for name, frame in frames.items():
        _csv(frame, out / "tables" / f"{name}.csv")
    return Files(
        write_page(document, out / "index.html"),
        _replace(out / "report.md", markdown(document)),
        _replace(out / "report.tex", latex(document)),
    )


def write_page(document: Document, path: Path) -> Path:
    """The page alone."""
    return _replace(path, html(document))


def figures(document: Document) -> Iterator[Figure]:
    if document.card.figure is not None:
        yield document.card.figure
    for section in document.sections:
        yield from (block for block in section.blocks if isinstance(block, Figure))


def tables(document: Document) -> Iterator[Table]:
    for section in document.sections:
        yield from (block for block in section.blocks if isinstance(block, Table))


def _replace(path: Path, text: str) -> Path:
    """A reader, or a report that is rebuilt while it is open, never sees half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8", errors="replace")
    partial.replace(path)
    return path


def _csv(frame: pd.DataFrame, path: Path) -> None:
    words = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    safe = frame.assign(**{str(name): frame[name].map(_no_formula) for name in words})
    safe.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")


def _no_formula(value: Any) -> Any:
    """A name that a spreadsheet would run as a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
