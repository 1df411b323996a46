"""The sweep file's `budget`: what the whole sweep may cost."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from lejepa.part import Part

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    read = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|min|h|d|)\s*", raw)
    if read is None:
        raise ValueError(f"{raw!r} is no time; write seconds, or a number with s, min, h or d, such as 12h or 90min")
    return float(read[1]) * _UNITS[read[2]]


_SPAN = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^ *[0-9.]+ *(s|min|h|d)?$"}]
}
Seconds = Annotated[float, BeforeValidator(_seconds), WithJsonSchema(_SPAN), Field(gt=0)]


class Budget(Part):
    """Limits of the whole sweep; everything counts, also what was pruned, failed, diverged or repeated."""

    trials: int | None = Field(None, ge=1)  # trials that have started
    epochs: int | None = Field(None, ge=1)  # epochs trained, each time that they were
    images: int | None = Field(None, ge=1)  # training images seen, over all epochs; views of one count once
    device_seconds: Seconds | None = None  # training seconds × GPUs of a trial, or its CPUs without; 90min, 12h, 2d
    wall_clock: Seconds | None = None  # seconds in which a driver runs, all drivers of the sweep together; 90min, 12h
