"""One Document → HTML (self-contained), Markdown (diffable), LaTeX (booktabs), CSV, and figures as SVG, PNG and PDF."""

from reports.render.files import Files, write
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.page import html

__all__ = ["Files", "html", "latex", "markdown", "write"]
