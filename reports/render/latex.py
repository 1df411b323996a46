"""A report as LaTeX: an article with booktabs tables and PDF figures, to be compiled where it lies or cut up.

The file is plain ASCII, so that every engine reads it: letters outside it become commands, and what has none is named
by its code point.
"""

import re
import unicodedata
from collections.abc import Iterator

from reports.content import Card, Code, Document, Figure, Heading, Items, Prose, Table, Value

_PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[margin=22mm]{geometry}
\usepackage{array,booktabs,graphicx,longtable}
\setlength{\parindent}{0pt}\setlength{\parskip}{5pt}\setlength{\emergencystretch}{3em}
\setlength{\tabcolsep}{4pt}\setlength{\LTcapwidth}{\linewidth}
\newcolumntype{L}[1]{>{\raggedright\arraybackslash}p{#1}}
\newcolumntype{R}[1]{>{\raggedleft\arraybackslash}p{#1}}
\renewcommand{\labelitemi}{\ensuremath{\bullet}}
\frenchspacing
"""
_COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\char34{}", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}",
    "−": r"\ensuremath{-}", "–": r"\textendash{}", "—": r"\textemdash{}", "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}", "½": r"\ensuremath{\frac12}", "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}",
    "⁶": r"\textsuperscript{6}", "≤": r"\ensuremath{\le}", "≥": r"\ensuremath{\ge}", "≈": r"\ensuremath{\approx}",
    "≠": r"\ensuremath{\ne}", "∞": r"\ensuremath{\infty}", "∈": r"\ensuremath{\in}", "√": r"\ensuremath{\surd}",
    "→": r"\ensuremath{\rightarrow}", "←": r"\ensuremath{\leftarrow}", "↑": r"\ensuremath{\uparrow}",
    "↓": r"\ensuremath{\downarrow}", "∑": r"\ensuremath{\Sigma}", "∂": r"\ensuremath{\partial}",
    "…": r"\ldots{}", "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}", "‘": r"\textquoteleft{}", "’": "'", "«": r"\ensuremath{\ll}",
    "»": r"\ensuremath{\gg}", "°": r"\ensuremath{^\circ}", "§": r"\S{}", "©": r"\copyright{}", "ß": r"\ss{}",
    "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
    "œ": r"\oe{}", "Œ": r"\OE{}", "å": r"\aa{}", "Å": r"\AA{}",
    "✓": r"\ensuremath{\surd}", "✕": r"\ensuremath{\times}", "\u00a0": "~", "\u2009": r"\,", "�": "{[}?{]}",
    "\u2068": "", "\u2069": "", "\u200d": "", "\ufe0f": "",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta",
    "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_COMMANDS |= {letter: rf"\ensuremath{{\{name}}}" for letter, name in _GREEK.items()}
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0328": "k",
}  # fmt: skip
_PIECE = 4  # letters between two places where a long word may be broken
_LONG_WORD = 14  # letters from which a word may be broken anywhere: hashes, keys, file names
_LETTERS, _BETWEEN = 104.0, 1.9  # of a table, on a line and between two columns


def latex(document: Document) -> str:
    """A whole document, to be compiled beside `figures/`."""
    lines = [_PREAMBLE, r"\begin{document}", rf"\section*{{{escaped(document.title)}}}", *_card_lines(document.card)]
    for section in document.sections:
        lines += ["", rf"\section{{{escaped(section.title)}}}\label{{{section.id}}}"]
        for block in section.blocks:
            lines += ["", *_block_lines(block)]
    return "\n".join([*lines, "", r"\bigskip\hrule\medskip", escaped(document.footer), r"\end{document}", ""])


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is, on one line."""
    whole = " ".join(_breakable(word) for word in text.split())
    return re.sub(r"(?<=[-'])(?=[-'])", "{}", whole)  # two of them would melt into a dash or a quotation mark


def _breakable(word: str) -> str:
    letters = [_letter(c) for c in unicodedata.normalize("NFC", word)]
    if sum(map(_letters, letters)) <= _LONG_WORD:
        return "".join(letters)
    pieces, room = [""], 0
    for letter in letters:
        if room >= _PIECE:
            pieces.append("")
            room = 0
        pieces[-1] += letter
        room += _letters(letter)
    return r"\allowbreak{}".join(pieces)


def _letters(letter: str) -> int:
    """How many letters wide: a code point is written out."""
    return 7 if letter.startswith(r"\texttt{U+") else 1


def _letter(c: str) -> str:
    if c in _COMMANDS:
        return _COMMANDS[c]
    if c.isascii():
        return c if c.isprintable() else "{[}?{]}"
    decomposed = unicodedata.normalize("NFD", c)
    base, marks = decomposed[0], decomposed[1:]
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        below = _ACCENTS[marks[0]] in "dck"
        base = base if below else {"i": r"\i{}", "j": r"\j{}"}.get(base, base)
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return rf"\texttt{{U+{ord(c):04X}}}"


# -- parts ------------------------------------------------------------------------------------------------------------


def _card_lines(card: Card) -> Iterator[str]:
    yield rf"\textit{{{escaped(card.question)}}}"
    yield ""
    yield rf"{{\large {escaped(card.answer)}\par}}"
    yield ""
    yield rf"\textbf{{Strength: {escaped(card.strength)}}} --- {escaped(card.strength_note)}."
    yield ""
    if card.figure is not None:
        yield from _figure_lines(card.figure)
    yield r"\begin{description}"
    yield from (rf"\item[{{{escaped(label)}}}] {escaped(text)}" for label, text, _ in card.facts)
    yield r"\end{description}"
    if card.changes:
        yield r"\textbf{What would change it}"
        yield from _item_lines(card.changes)
    yield rf"\textbf{{Next.}} {escaped(card.command_note)}"
    if card.command:
        yield from _code_lines(card.command)


def _block_lines(block: object) -> Iterator[str]:
    match block:
        case Heading(text):
            yield rf"\subsection*{{{escaped(text)}}}"
        case Prose(paragraphs):
            yield "\n\n".join(escaped(text) for text in paragraphs)
        case Items(items):
            yield from _item_lines(items)
        case Code(caption, text):
            yield escaped(caption)
            yield from _code_lines(text)
        case Figure():
            yield from _figure_lines(block)
        case Table():
            yield from _table_lines(block)
        case _:
            raise TypeError(f"no LaTeX for {type(block).__name__}")


def _item_lines(items: list[str]) -> Iterator[str]:
    if items:  # LaTeX refuses a list without an item
        yield r"\begin{itemize}"
        yield from (rf"\item {{}}{escaped(text)}" for text in items)
        yield r"\end{itemize}"


def _code_lines(text: str) -> Iterator[str]:
    yield r"\begin{quote}\small\ttfamily\raggedright"
    yield from (rf"{escaped(line) or '~'}\par" for line in text.splitlines())
    yield r"\end{quote}"


def _figure_lines(figure: Figure) -> Iterator[str]:
    yield r"\begin{figure}[htbp]"
    yield r"\centering"
    yield rf"\includegraphics[width={0.82 if figure.wide else 0.7}\linewidth]{{figures/{figure.name}.pdf}}"
    yield rf"\caption{{{escaped(figure.caption)}}}\label{{fig:{figure.name}}}"
    yield r"\end{figure}"


def _table_lines(table: Table) -> Iterator[str]:
    """A longtable: it may run over pages, and keeps its place in the text."""
    if not table.columns:
        return
    head = " & ".join(escaped(name) for name in table.columns) + r" \\"
    yield r"{\footnotesize"
    yield rf"\begin{{longtable}}{{@{{}}{_columns(table)}@{{}}}}"
    yield rf"\caption{{{escaped(table.caption)}}}\label{{tab:{table.name}}}\\"
    yield rf"\toprule {head} \midrule \endfirsthead"
    yield rf"\toprule {head} \midrule \endhead"
    yield r"\bottomrule \endlastfoot"
    yield from (" & ".join(_cell(value) for value in row) + r" \\" for row in table.rows)
    yield r"\end{longtable}}"


def _columns(table: Table) -> str:
    """Widths after what the columns hold, in letters: room for the longest word, and of what is left a share."""
    texts = [[name, *(row[i].text for row in table.rows)] for i, name in enumerate(table.columns)]
    need = [max((_longest(text) for text in column), default=1) for column in texts]
    want = [max(n, _most(column)) for n, column in zip(need, texts, strict=True)]
    left = _LETTERS - _BETWEEN * (len(texts) - 1) - sum(need)
    wish = sum(w - n for w, n in zip(want, need, strict=True))
    given = min(1.0, max(left, 0.0) / wish) if wish else 0.0
    letters = [n + given * (w - n) for n, w in zip(need, want, strict=True)]
    scale = 1 / max(_LETTERS, sum(letters) + _BETWEEN * (len(texts) - 1))
    kinds = ["R" if table.numeric(i) else "L" for i in range(len(texts))]
    return "".join(rf"{kind}{{{width * scale:.3f}\linewidth}}" for kind, width in zip(kinds, letters, strict=True))


def _longest(text: str) -> float:
    """Of the words that are not broken."""
    return max((min(len(word), _LONG_WORD) for word in text.split()), default=1) + 0.5


def _most(column: list[str]) -> float:
    """Letters of nine tenths of the texts, up to a limit."""
    lengths = sorted(len(text) for text in column[1:]) or [1]
    return min(60.0, lengths[int(0.9 * (len(lengths) - 1))] + 1.0)


def _cell(value: Value) -> str:
    text = escaped(value.text)
    return rf"\textbf{{{text}}}" if value.strong and text else text
