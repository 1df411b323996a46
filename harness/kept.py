"""What takes long to find out is kept between runs: a small JSON file for everything that was asked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.ledger import canonical


def read(kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What was found; {} where nothing is kept, or nothing that can be used."""
    try:
        found = json.loads(_file(kind, asked).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(kind: str, asked: dict[str, Any], **found: Any) -> None:
    """Whole or not at all, as sweeps that start together find out the same; without a cache nothing is kept."""
    file = _file(kind, asked)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as scratch:
            beside = Path(scratch) / file.name
            beside.write_text(json.dumps({**found, "asked": asked}, indent=2), encoding="utf-8")
            beside.replace(file)


def _file(kind: str, asked: dict[str, Any]) -> Path:
    from lejepa.image_sources import cache_folder

    return cache_folder() / kind / f"{hashlib.sha256(canonical(asked).encode()).hexdigest()[:16]}.json"
