"""The one street: folder → frames → study → checks → sections → files."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports import evidence, notebook, provenance
from reports.content import Document, Section
from reports.load import load
from reports.render import write
from reports.sections import (
    architectures,
    card,
    caveats,
    checklist,
    design,
    diagnostics,
    factor,
    gate,
    heuristics,
    importance,
    labelfree,
    lambda_,
    methods,
    paper,
    question,
    recommended,
    reproduce,
    scaling,
    slices,
)


@dataclass(frozen=True, repr=False)
class Report:
    """A report that was written: what it says, and where. In a notebook it shows its card."""

    answer: str  # one sentence
    strength: str  # decided | equivalent | leaning | undecided | invalid
    html: Path
    markdown: Path
    latex: Path
    document: Document
    checks: list[gate.Check]

    @property
    def states(self) -> dict[str, int]:
        """How many trials were trained, collapsed, diverged, wait, …"""
        return dict(Counter(trial.state for trial in self.document.trials.values()))

    def __repr__(self) -> str:
        return f"<Report {self.strength}: {self.answer} ({self.html})>"

    def _repr_html_(self) -> str:
        return notebook.report(self.document.card, self.html)


def build(
    folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, refresh: float | None = None
) -> Report:
    """Write the report of a sweep to `out` (default: folder/report): index.html, report.md, report.tex, figures/,
    tables/. `refresh`: seconds after which an open page loads itself again; for a sweep that still runs.

    Raises LoadError where the folder is no sweep's, harness.ledger.LedgerError where its ledger cannot be read.
    """
    study = question.focused(evidence.study(load(folder)))
    checks = gate.gate(study)
    document = Document(
        card.title(study), card.card(study, checks), _sections(study, checks), _footer(study),
        trials=provenance.trials(study), refresh=refresh,
    )  # fmt: skip
    target = Path(out) if out is not None else Path(folder) / "report"
    files = write(document, target, {"trials-all": _all_trials(study)})
    said = document.card
    return Report(said.answer, said.strength, files.html, files.markdown, files.latex, document, checks)


def _sections(study: evidence.Study, checks: list[gate.Check]) -> list[Section]:
    return [
        gate.section(checks),
        design.section(study),
        *labelfree.sections(study),
        *paper.sections(study),
        *lambda_.sections(study),
        *slices.sections(study),
        *factor.sections(study, scaling.covers(study)),
        *scaling.sections(study),
        *architectures.sections(study),
        *heuristics.sections(study, checks),
        *methods.sections(study, checks),
        *recommended.sections(study),
        *importance.sections(study),
        diagnostics.section(study),
        caveats.section(study, checks),
        reproduce.section(study),
        checklist.section(study, checks),
    ]


def _all_trials(study: evidence.Study) -> pd.DataFrame:
    return study.sweep.trials.drop(columns=["variant"])


def _footer(study: evidence.Study) -> str:
    return (
        f"Made from {reproduce.folder_text(study)}/ledger.db; every number can be rebuilt from it with harness report."
    )
