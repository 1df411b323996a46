"""The LaTeX of a report: whole, escaped, and compiled where there is a LaTeX."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.render.latex import escaped

sys.path.insert(0, str(Path(__file__).parent))
from hostile import HOSTILE

# What may follow a backslash, as this project writes it: a name, or one sign.
COMMAND = re.compile(r"\\([A-Za-z]+|[^A-Za-z])")
SPECIAL = set('$&#_%~^<>|"`')  # never bare in text; & parts the columns of a table


@pytest.fixture(params=["report", "hostile"])
def source(request):
    return request.getfixturevalue(request.param).latex


def unbalanced(text):
    """Where braces open and close, in plain counting: escaped ones are no braces."""
    depth = 0
    for sign in re.sub(r"\\[{}]", "", text):
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return True
    return depth != 0


def bare(text):
    """Special characters that LaTeX would obey, once commands with their names are taken away."""
    text = re.sub(r"\\(?:ensuremath|char)(?:\{[^{}]*\}|\d+\{\})", "", text)
    text = re.sub(r"""\\[`'^"~=.ucrHdvk]\{[^{}]*(?:\{\})?\}""", "", text)  # accents
    return SPECIAL & set(COMMAND.sub("", text))


@given(st.text())
def test_any_text_is_escaped_to_ascii_without_a_bare_special_character(text):
    said = escaped(text)
    assert said.isascii()
    assert "\n" not in said
    assert not unbalanced(said)
    assert not bare(said)
    assert "--" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("50 % of λ", r"50 \% of \ensuremath{\lambda}"),
        ("a_b & c#d", r"a\_b \& c\#d"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("−3.6 ± 1", r"\ensuremath{-}3.6 \ensuremath{\pm} 1"),
        ("--set", "-{}-set"),
        ("naïve Zoë", r"na\"{\i{}}ve Zo\"{e}"),
        ("🦊", r"\texttt{U+1F98A}"),
    ],
)
def test_signs_have_the_command_that_sets_them(text, said):
    assert escaped(text) == said


def test_environments_are_balanced_and_rows_have_as_many_cells_as_columns(source):
    text = source.read_text()
    assert text.isascii()
    assert not unbalanced(text)
    opened = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    tables = re.findall(r"\\begin\{longtable\}\{@\{\}(.*?)@\{\}\}\n(.*?)\\end\{longtable\}", text, re.DOTALL)
    assert len(tables) >= 5
    for columns, body in tables:
        wanted = len(re.findall(r"[LR]\{", columns))
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and not line.startswith(r"\caption")]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {wanted}
        widths = [float(width) for width in re.findall(r"\{([\d.]+)\\linewidth\}", columns)]
        assert sum(widths) < 1


def test_every_figure_is_a_pdf_that_lies_beside_it_and_every_label_is_unique(source):
    text = source.read_text()
    figures = re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", text)
    assert len(figures) >= 5
    assert all((source.parent / name).read_bytes().startswith(b"%PDF") for name in figures)
    labels = re.findall(r"\\label\{([^}]+)\}", text)
    assert len(labels) == len(set(labels))


def test_hostile_names_stay_text(hostile):
    text = hostile.latex.read_text()
    assert r"\textless{}script\textgreater{}" in text.replace(r"\allowbreak{}", "")
    body = text.split(r"\begin{document}")[1]
    assert r"\input" not in body
    assert not re.search(r"(?<!\\)[$#%^~]", body)
    assert all(name not in text for name in HOSTILE if "$" in name or "<" in name)


@pytest.mark.slow
def test_pdflatex_compiles_it_without_an_error(source, tmp_path):
    compiler = shutil.which("pdflatex")
    if compiler is None:
        pytest.skip("no pdflatex is installed")
    for _ in range(2):  # longtable learns its widths in the first run
        done = subprocess.run(
            [compiler, "-interaction=nonstopmode", "-halt-on-error", f"-output-directory={tmp_path}", source.name],
            cwd=source.parent, capture_output=True, text=True, errors="replace", timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "report.log").read_text(errors="replace")
    far = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(far, default=0) < 30
