"""Sweeps of LeJEPA and its rivals: from a question in a YAML file to a ledger; `harness.load(folder)` reads it."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "load":
        from reports import load  # pandas: only where it is asked for

        return load
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
