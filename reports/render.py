"""One Document → HTML (self-contained), Markdown (diffable), CSV, PNG and SVG."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from reports.content import Card, Code, Document, Figure, Heading, Items, Prose, Table, Value, keys_of
from reports.figures import css_tokens, inline

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]{}|~])")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write(document: Document, out: Path, frames: Mapping[str, pd.DataFrame]) -> tuple[Path, Path]:
    """Write everything under `out`; returns the paths of index.html and report.md, which are replaced atomically."""
    for folder in ("figures", "tables"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for figure in _figures(document):
        (out / "figures" / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
        (out / "figures" / f"{figure.name}.png").write_bytes(figure.png)
        _csv(figure.data, out / "figures" / f"{figure.name}.csv")
    for table in _tables(document):
        _csv(table.frame(), out / "tables" / f"{table.name}.csv")
    for name, frame in frames.items():
        _csv(frame, out / "tables" / f"{name}.csv")
    return _replace(out / "index.html", html(document)), _replace(out / "report.md", markdown(document))


def html(document: Document) -> str:
    environment = _environment(autoescape=True)
    environment.filters["inline"] = lambda figure: Markup(inline(figure.svg, figure.name))
    return environment.get_template("report.html").render(
        document=document, tokens=css_tokens(), kind=lambda block: type(block).__name__.lower(), keys_of=keys_of
    )


def markdown(document: Document) -> str:
    lines = [f"# {_md(document.title)}", "", *_card_lines(document.card)]
    for section in document.sections:
        lines += [f"## {_md(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block_lines(block), ""]
    lines += ["---", _md(document.footer), ""]
    return "\n".join(lines)


def _environment(autoescape: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("reports", "templates"), autoescape=autoescape, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _replace(path: Path, text: str) -> Path:
    """A reader, or a report that is rebuilt while it is open, never sees half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8", errors="replace")
    partial.replace(path)
    return path


def _figures(document: Document) -> Iterator[Figure]:
    if document.card.figure is not None:
        yield document.card.figure
    for section in document.sections:
        yield from (block for block in section.blocks if isinstance(block, Figure))


def _tables(document: Document) -> Iterator[Table]:
    for section in document.sections:
        yield from (block for block in section.blocks if isinstance(block, Table))


def _csv(frame: pd.DataFrame, path: Path) -> None:
    words = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    safe = frame.assign(**{str(name): frame[name].map(_no_formula) for name in words})
    safe.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")


def _no_formula(value: Any) -> Any:
    """A name that a spreadsheet would run as a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


# -- Markdown ---------------------------------------------------------------------------------------------------------


def _card_lines(card: Card) -> list[str]:
    lines = [f"**Question.** {_md(card.question)}", "", f"**Answer.** {_md(card.answer)}", ""]
    lines += [f"**Strength: {card.strength}** — {_md(card.strength_note)}.", ""]
    lines += [f"- **{_md(label)}**: {_md(text)}" for label, text, _ in card.facts]
    lines += ["", "**What would change it**", "", *[f"- {_md(text)}" for text in card.changes], ""]
    if card.figure is not None:
        lines += [*_block_lines(card.figure), ""]
    return [*lines, f"**Next.** {_md(card.command_note)}", "", *_fenced(card.command), ""]


def _block_lines(block: object) -> list[str]:
    match block:
        case Heading(text):
            return [f"### {_md(text)}"]
        case Prose(paragraphs):
            return "\n\n".join(_md(text) for text in paragraphs).split("\n")
        case Items(items):
            return [f"- {_md(text)}" for text in items]
        case Code(caption, text):
            return [_md(caption), "", *_fenced(text)]
        case Figure():
            return [f"![{_md(block.alt)}](figures/{block.name}.png)", "", _md(block.caption)]
        case Table():
            return _table_lines(block)
    raise TypeError(f"no Markdown for {type(block).__name__}")


def _table_lines(table: Table) -> list[str]:
    align = ["---:" if table.numeric(i) else "---" for i in range(len(table.columns))]
    rows = [[_cell(value) for value in row] for row in table.rows]
    lines = [[_md(name) for name in table.columns], align, *rows]
    return [_md(table.caption), "", *("| " + " | ".join(line) + " |" for line in lines)]


def _cell(value: Value) -> str:
    text = _md(value.text)
    return f"**{text}**" if value.strong and text else text


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    flat = " ".join(text.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SPECIAL.sub(r"\\\1", flat)


def _fenced(text: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", *text.splitlines(), fence]
