"""The sweep file's `budget`: what the whole sweep may cost."""

from pydantic import Field

from lejepa.part import Part


class Budget(Part):
    """Limits of the whole sweep; everything counts, also what was pruned, failed, diverged or repeated."""

    trials: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
