"""What all parts of a config share: frozen, unknown keys refused, numbers finite; and the hint for a misspelt name."""

import difflib
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if not 0 < low <= high:
        raise ValueError(f"must be [low, high] with 0 < low ≤ high, not [{low}, {high}]")
    return pair


Shares = Annotated[tuple[Probability, Probability], AfterValidator(_ordered)]  # from low to high
Ratios = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
