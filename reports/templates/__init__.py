"""The page of a report: report.html, with its style and its script inside."""
