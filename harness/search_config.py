"""The sweep file's `search`, `stopping`, `confirm`, `metric` and `seeds`: how values are found, and judged."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lejepa.part import Part

STUDY_SEEDS = 1_000_000  # study i of a search trains with seed 1,000,000 + i: never a seed of the evidence
MOST = 100_000  # cells of an arm, trials of a search, seeds: more is a slip of the keyboard


def _list_seeds(raw: Any) -> Any:
    if isinstance(raw, bool) or not isinstance(raw, int | list | tuple):
        raise ValueError(f"seeds are a count or a list of whole numbers, not {raw!r}; write 3 or [0, 1, 2]")
    if isinstance(raw, int):
        if raw < 1:
            raise ValueError(f"{raw} seeds make zero trials; take 1 or more")
        if raw > MOST:
            raise ValueError(f"{raw} seeds are more than any sweep runs; take at most {MOST}")
        return list(range(raw))
    if not raw:
        raise ValueError("an empty list makes zero trials; give at least one seed")
    for seed in raw:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < STUDY_SEEDS:
            raise ValueError(f"{seed!r} is no seed; seeds are whole numbers from 0 to {STUDY_SEEDS - 1}")
        if list(raw).count(seed) > 1:
            raise ValueError(f"seed {seed} is listed twice; every seed once")
    return list(raw)


SEEDS = (0, 1, 2)
Seeds = Annotated[tuple[int, ...], BeforeValidator(_list_seeds)]  # n means 0..n-1


class Search(Part):
    """How the nuisance parameters of every cell are searched: the same budget in each."""

    sampler: Literal["grid", "random", "qmc", "tpe"] = "qmc"  # tpe is asked while running, the others are listed before
    trials: int | None = Field(None, ge=1, le=MOST)  # per study; 16, and for `grid` all combinations
    studies: int = Field(1, ge=1, le=MOST)  # independent repetitions of the search, per cell
    defaults_first: bool = False  # the first trial of every study takes each parameter as the file's base has it

    @model_validator(mode="before")
    @classmethod
    def _count(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("trials") is None and raw.get("sampler") != "grid":
            return {**raw, "trials": 16}
        return raw

    @model_validator(mode="after")
    def _grid_counts_itself(self) -> Self:
        if self.sampler == "grid" and self.trials is not None:
            raise ValueError("sampler grid runs all combinations; leave `trials` out")
        if self.sampler == "grid" and self.studies > 1:
            raise ValueError("sampler grid repeated is the same grid; leave `studies` at 1")
        if self.sampler == "grid" and self.defaults_first:
            raise ValueError("sampler grid runs all combinations and no other; leave `defaults_first` out")
        return self


class Stopping(Part):
    """Early stopping of search trials. Trials that are evidence always run to their end."""

    name: Literal["asha"] = "asha"
    scope: Literal["cell", "arm", "sweep"] = "cell"  # who competes with whom
    grace: int = Field(1, ge=1)  # epochs of the first rung: no trial is stopped before it
    reduction: int = Field(3, ge=2)  # of so many trials that reach a rung one goes on; rungs lie so many times apart


class Confirm(Part):
    """The best `top` configs of every searched cell, trained again with fresh seeds: they are the evidence."""

    top: int = Field(1, ge=1)  # configs per cell
    by: Literal["value", "fit"] = "value"  # best by its last value, or by a smooth fit through all trials of the cell
    seeds: Seeds = SEEDS  # the same in every cell, so that cells pair; left out: the sweep's


_LOSS_OVER_LAMBDA = re.compile(r"loss/lambda\^(\d+(?:\.\d+)?)")
_PAPER_ALPHA = 0.4  # LeJEPA §4.4; `diag/loss_over_lambda` is recorded with it
_LESS_IS_BETTER = ("condition", "dead", "sigreg", "sigreg_share", "loss_over_lambda", "collapsed", "slices_variance")


def _mode(known: dict[str, Any]) -> Any:
    """The direction that a metric's name implies."""
    split, _, what = str(known.get("name", "")).partition("/")
    less = split in ("train", "loss") or (split == "diag" and what.startswith(_LESS_IS_BETTER))
    return "min" if less else "max"


class Metric(Part):
    """What cells are selected by. Never a test metric: test is read once, after selection."""

    # val/linear and the other probes; without labels: loss/lambda^0.4, diag/rankme, diag/lidar, train/loss
    name: str = "val/linear"
    mode: Literal["max", "min"] = Field(default_factory=_mode)  # which is better; left out: as the name implies

    @property
    def label_free(self) -> bool:
        """Whether it can be measured without labels; `train/loss` of a method that reads labels aside."""
        return not self.name.startswith("val/")

    @property
    def alpha(self) -> float | None:
        """Of loss / λ^α; None where the metric is another."""
        if self.name == "diag/loss_over_lambda":
            return _PAPER_ALPHA
        found = _LOSS_OVER_LAMBDA.fullmatch(self.name)
        return float(found[1]) if found else None

    @model_validator(mode="after")
    def _not_test(self) -> Self:
        if self.name.startswith("test/"):
            raise ValueError(f"{self.name} would select on test; select on val/{self.name.removeprefix('test/')}")
        return self

    @model_validator(mode="after")
    def _a_loss_is_to_be_low(self) -> Self:
        if self.name.startswith("loss/") and (self.alpha is None or self.alpha > 1):
            raise ValueError(f"{self.name!r} is not known; write loss/lambda^0.4, with an exponent from 0 to 1")
        if self.alpha is not None and self.mode == "max":
            raise ValueError(f"{self.name} is a loss, and lower is better; leave `mode` out")
        return self
