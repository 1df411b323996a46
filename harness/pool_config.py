"""The sweep file's `pool`: what one trial gets, and how many run at once."""

import os
from typing import Self

from pydantic import Field, model_validator

from lejepa.part import Part


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool(Part):
    """What one trial gets, and how many run at once."""

    cpus: int = Field(1, ge=1)  # cores per trial; torch's threads are pinned to them
    gpus: float = Field(0.0, ge=0)  # GPUs per trial; a fraction shares one
    # processes per trial, which share its batches and its cores; a GPU each, where there are GPUs
    ranks: int = Field(default_factory=lambda pool: max(1, int(pool.get("gpus", 0))), ge=1)
    max_concurrent: int = Field(default_factory=lambda pool: max(1, _cores() // pool.get("cpus", 1)), ge=1)

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is a fraction of one or a whole number, not {self.gpus}")
        if self.gpus and self.ranks != max(1, int(self.gpus)):
            raise ValueError(f"{self.ranks} ranks on {self.gpus:g} GPUs: every rank has a GPU of its own")
        if self.ranks > self.cpus:
            raise ValueError(f"{self.ranks} ranks need a core each, and cpus is {self.cpus}")
        return self
