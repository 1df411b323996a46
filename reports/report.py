"""The one street: folder → frames → study → checks → sections → files."""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports import evidence
from reports.content import Document, Section
from reports.load import load
from reports.render import write
from reports.sections import card, caveats, design, diagnostics, factor, gate, lambda_, methods, reproduce


@dataclass(frozen=True)
class Report:
    answer: str  # one sentence
    strength: str  # decided | equivalent | leaning | undecided | invalid
    html: Path
    markdown: Path
    document: Document
    checks: list[gate.Check]


def build(folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Report:
    """Write the report of a sweep to `out` (default: folder/report): index.html, report.md, figures/, tables/.

    Raises LoadError where the folder is no sweep's, harness.ledger.LedgerError where its ledger cannot be read.
    """
    study = evidence.study(load(folder))
    checks = gate.gate(study)
    document = Document(card.title(study), card.card(study, checks), _sections(study, checks), _footer(study))
    target = Path(out) if out is not None else Path(folder) / "report"
    html, markdown = write(document, target, {"trials-all": _all_trials(study)})
    return Report(document.card.answer, document.card.strength, html, markdown, document, checks)


def _sections(study: evidence.Study, checks: list[gate.Check]) -> list[Section]:
    arms = methods.section(study)
    return [
        gate.section(checks),
        design.section(study),
        *lambda_.sections(study),
        *factor.sections(study),
        *([arms] if arms else []),
        diagnostics.section(study),
        caveats.section(study, checks),
        reproduce.section(study),
    ]


def _all_trials(study: evidence.Study) -> pd.DataFrame:
    return study.sweep.trials.drop(columns=["variant"])


def _footer(study: evidence.Study) -> str:
    return (
        f"Made from {reproduce.folder_text(study)}/ledger.db; every number can be rebuilt from it with harness report."
    )
