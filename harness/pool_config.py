"""The sweep file's `pool`, or `pools` with their `place` rules, and the `cluster`: what one trial gets, and where."""

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from harness.place import parse
from lejepa.part import Part

_UNITS = {"B": 1, **{f"{prefix}{unit}": base**power for unit, base in (("B", 1000), ("iB", 1024))
                     for power, prefix in enumerate("KMGT", start=1)}}  # fmt: skip


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _bytes(raw: Any) -> Any:
    """`20 GiB` → bytes; `measured` stays."""
    if raw is None or raw == "measured" or (isinstance(raw, int) and not isinstance(raw, bool) and raw > 0):
        return raw
    found = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]+)", raw.strip()) if isinstance(raw, str) else None
    try:
        size = int(float(found[1]) * {unit.lower(): size for unit, size in _UNITS.items()}[found[2].lower()])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        size = 0
    if size < 1:
        raise ValueError(f"{raw!r} is no size; write `20 GiB`, or `measured`")
    return size


_WRITTEN = {"type": "string", "pattern": r"^\s*[0-9.]+\s*[kKMGT]?i?B\s*$|^measured$"}
Memory = Annotated[
    int | Literal["measured"],
    BeforeValidator(_bytes),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, _WRITTEN]}),
]


class Pool(Part):
    """What one trial gets, and how many run at once."""

    cpus: int = Field(1, ge=1)  # cores per trial; torch's threads are pinned to them
    gpus: float = Field(0.0, ge=0)  # GPUs per trial; a fraction shares one
    # processes per trial, which share its batches and its cores; a GPU each, where there are GPUs
    ranks: int = Field(default_factory=lambda pool: max(1, int(pool.get("gpus", 0))), ge=1)
    # trials of this pool side by side, at most; as many as this machine's cores hold, where not given
    max_concurrent: int = Field(default_factory=lambda pool: max(1, cores() // pool.get("cpus", 1)), ge=1)
    # what a trial needs, such as 20 GiB, of its GPU where it has one, else of the node; measured: found out by a probe
    memory: Memory | None = Field(None, exclude_if=lambda memory: memory is None)
    # of the nodes on which its trials run, as `ray start --labels` gave them; `!in(a,b)` and the like are Ray's
    labels: dict[str, str] = Field({}, exclude_if=lambda labels: not labels)

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is a fraction of one or a whole number, not {self.gpus}")
        if self.gpus and self.ranks != max(1, int(self.gpus)):
            raise ValueError(f"{self.ranks} ranks on {self.gpus:g} GPUs: every rank has a GPU of its own")
        if self.ranks > self.cpus:
            raise ValueError(f"{self.ranks} ranks need a core each, and cpus is {self.cpus}")
        if self.memory is not None and self.gpus not in (0, 1):
            raise ValueError(f"memory decides what part of one GPU a trial gets, and gpus is {self.gpus:g}; take 1")
        if self.memory == "measured" and self.ranks > 1:
            raise ValueError(f"memory is measured in one process, and ranks is {self.ranks}; write it down")
        return self


class Place(Part):
    """Where trials go: the first rule that holds decides, and where none does, the first pool."""

    when: str  # `encoder.params > 80M`, `data.size >= 128`, `method.name == ijepa`, `arm == lejepa`
    pool: str  # a name in `pools`

    @field_validator("when")
    @classmethod
    def _parsed(cls, when: str) -> str:
        parse(when)
        return when


class Cluster(Part):
    """Which Ray runs the trials."""

    # local: one of its own, on this machine; auto: the cluster that this machine is a node of; or its host:port
    address: str = Field("local", pattern=r"^(local|auto|[A-Za-z0-9._-]+:[0-9]+)$")
