"""From a sweep's folder to a decision report. Needs no torch, no Ray and no MLflow.

from reports import build, load
report = build("runs/quickstart")       # writes runs/quickstart/report/index.html, report.md, figures/, tables/
frames = load("runs/quickstart")        # .trials and .epochs: tidy DataFrames
"""

from reports.load import LoadError, Sweep, load
from reports.report import Report, build

__all__ = ["LoadError", "Report", "Sweep", "build", "load"]
