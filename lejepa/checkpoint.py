"""Checkpoints: one file, whole or not at all, recognised when broken, never unpickled.

`last.pt` holds the newest state, `previous.pt` the one before. A file is torch's format followed by its own SHA-256, so
a truncated or damaged one is told from a good one before anything of it is used.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from lejepa import atomic

_DIGEST = hashlib.sha256().digest_size
LAST, PREVIOUS = "last.pt", "previous.pt"


class CheckpointError(Exception):
    """A checkpoint that cannot be used, and why."""


def write(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) as last.pt; OSError (a full disk) leaves the old files."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    atomic.write(folder / LAST, content, hashlib.sha256(content).digest(), previous=folder / PREVIOUS)


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file; CheckpointError where it is truncated, damaged, or not one of ours."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error}") from error
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"{path}: truncated, damaged, or not a checkpoint of this program ({len(content)} bytes)")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state
