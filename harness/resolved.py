"""The resolved sweep.yaml in a sweep's folder, read as it is: also where another version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.ledger import LedgerError


def read_spec(folder: Path) -> dict[str, Any]:
    """Its plain values. Raises LedgerError where there is none, or what is there is none."""
    file = folder / "sweep.yaml"
    try:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise LedgerError(f"{folder}: holds no sweep ({why}); name the folder of one, such as runs/NAME") from None
    if not isinstance(spec, dict) or not {"name", "arms", "metric", "pool"} <= spec.keys():
        raise LedgerError(f"{file}: is no resolved sweep; name the folder of one, such as runs/NAME")
    if wrong := _wrong(spec):
        raise LedgerError(f"{file}: {wrong}, so this is not the resolved sweep that `harness run` wrote there; put "
                          f"that back")  # fmt: skip
    return spec


def _wrong(spec: Mapping[str, Any]) -> str:
    """What keeps it from being read; empty where nothing does."""
    if not isinstance(spec["name"], str):
        return "name is no text"
    if not isinstance(spec["arms"], dict) or not spec["arms"]:
        return "arms are no mapping of names to arms"
    if not isinstance(spec["pool"], dict) or not isinstance(spec["pool"].get("max_concurrent"), int):
        return "pool has no max_concurrent"
    metric = spec["metric"]
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str) or metric.get("mode") not in _MODES:
        return "metric is not as a sweep has it"
    return ""


_MODES = ("max", "min")
