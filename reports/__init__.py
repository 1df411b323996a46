"""From a sweep's folder to a decision report. Needs no torch, no Ray and no MLflow.

from reports import build, load
report = build("runs/quickstart")       # writes runs/quickstart/report/index.html, report.md, report.tex and more
frames = load("runs/quickstart")        # .trials and .epochs: tidy DataFrames
both = compare("runs/a", "runs/b")      # two sweeps side by side

To read it in the way of the data:

    load              ledger → tidy frames
    evidence          frames → cells, arms and contrasts: a Study
    statistics        every interval and verdict: intervals, significance, ranking, tuning; pure functions of numbers
    labelfree, interaction, tiers, pairing, unpaired    what single sections compute, as pure
    sections/         a Study → Sections
    figures/          plain values → SVG, PNG, PDF
    content, wording  what a report is made of, and how numbers and names are said; provenance: the trials behind them
    render/           one Document → HTML, Markdown, LaTeX, CSV
    report, compare, watch, notebook    the ways in
"""

from reports.compare import compare
from reports.load import LoadError, Sweep, load
from reports.report import Report, build
from reports.watch import watch

__all__ = ["LoadError", "Report", "Sweep", "build", "compare", "load", "watch"]
