"""A report as Markdown, made to be compared by `diff`."""

import re

from reports.content import Card, Code, Document, Figure, Heading, Items, Prose, Table, Value

_SPECIAL = re.compile(r"([\\`*_\[\]{}|~])")


def markdown(document: Document) -> str:
    lines = [f"# {escaped(document.title)}", "", *_card_lines(document.card)]
    for section in document.sections:
        lines += [f"## {escaped(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block_lines(block), ""]
    lines += ["---", escaped(document.footer), ""]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    flat = " ".join(text.split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", flat)


def _card_lines(card: Card) -> list[str]:
    lines = [f"**Question.** {escaped(card.question)}", "", f"**Answer.** {escaped(card.answer)}", ""]
    lines += [f"**Strength: {card.strength}** — {escaped(card.strength_note)}.", ""]
    lines += [f"- **{escaped(label)}**: {escaped(text)}" for label, text, _ in card.facts]
    if card.changes:
        lines += ["", "**What would change it**", "", *[f"- {escaped(text)}" for text in card.changes]]
    lines += [""]
    if card.figure is not None:
        lines += [*_block_lines(card.figure), ""]
    lines += [f"**Next.** {escaped(card.command_note)}", ""]
    return [*lines, *_fenced(card.command), ""] if card.command else lines


def _block_lines(block: object) -> list[str]:
    match block:
        case Heading(text):
            return [f"### {escaped(text)}"]
        case Prose(paragraphs):
            return "\n\n".join(escaped(text) for text in paragraphs).split("\n")
        case Items(items):
            return [f"- {escaped(text)}" for text in items]
        case Code(caption, text):
            return [escaped(caption), "", *_fenced(text)]
        case Figure():
            return [f"![{escaped(block.alt)}](figures/{block.name}.png)", "", escaped(block.caption)]
        case Table():
            return _table_lines(block)
    raise TypeError(f"no Markdown for {type(block).__name__}")


def _table_lines(table: Table) -> list[str]:
    align = ["---:" if table.numeric(i) else "---" for i in range(len(table.columns))]
    rows = [[_cell(value) for value in row] for row in table.rows]
    lines = [[escaped(name) for name in table.columns], align, *rows]
    return [escaped(table.caption), "", *("| " + " | ".join(line) + " |" for line in lines)]


def _cell(value: Value) -> str:
    text = escaped(value.text)
    return f"**{text}**" if value.strong and text else text


def _fenced(text: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", *text.splitlines(), fence]
