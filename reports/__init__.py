"""From a sweep's folder to a decision report. Needs no torch, no Ray and no MLflow.

from reports import build, load
report = build("runs/quickstart")       # writes runs/quickstart/report/index.html, report.md, report.tex and more
frames = load("runs/quickstart")        # .trials and .epochs: tidy DataFrames
both = compare("runs/a", "runs/b")      # two sweeps side by side
"""

from reports.compare import compare
from reports.load import LoadError, Sweep, load
from reports.report import Report, build
from reports.watch import watch

__all__ = ["LoadError", "Report", "Sweep", "build", "compare", "load", "watch"]
