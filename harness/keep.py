"""What `harness gc` may keep. By itself, as the command line names it before anything heavy is imported."""

from enum import StrEnum


class Keep(StrEnum):
    """Whose newest checkpoint stays."""

    last = "last"  # of every trial that was not pruned
    best = "best"  # of the best finished trial of every cell, by the sweep's metric
    none = "none"  # of none
