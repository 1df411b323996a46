"""Which cells of an arm differ in scale alone: along encoder size, data or epochs, and the fronts over several of them.

Lines are drawn where the other sizes are largest: there they hold the least back. On a front stand the cells that no
cell of the same or a lower cost beats on validation; test judges them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.ledger import canonical
from reports import tiers
from reports.evidence import Cell, Study
from reports.sections import encoder_costs as ec
from reports.wording import cell_text, count, encoder_text, is_percent

SIZE = ("encoder.name", "encoder.width", "encoder.depth")
DATA, EPOCHS = "data.limit", "epochs"
PARAMS, SAMPLES, FLOPS = "encoder parameters", "samples seen", "training FLOPs"
LEAST = 3  # scales of a line that is worth showing, if only to say why it has no law
ERROR, LOSS = "error", "training loss"
_TRAIN_LOSS = "train/loss"


@dataclass(frozen=True)
class Rung:
    """One scale of one arm: the encoder, the data and the epochs, with what they come to."""

    cell: Cell
    encoder: str  # in words
    limit: int | None  # training images kept; None: all
    epochs: int
    params: float | None  # of the encoder
    samples: float | None  # images seen in training
    flops: float | None  # of the training

    def x(self, measure: str) -> float | None:
        return {PARAMS: self.params, SAMPLES: self.samples, FLOPS: self.flops}[measure]

    @property
    def images(self) -> str:
        return "all images" if self.limit is None else count(self.limit, "image")

    def values(self, of: str, sign: int) -> list[float]:
        """One per seed, lower is better: the judging metric as an error, or the training loss of the last epoch."""
        if of == LOSS:
            rows = self.cell.finished
            return [] if _TRAIN_LOSS not in rows else [float(v) for v in rows[_TRAIN_LOSS].dropna()]
        judged = self.cell.judged.to_numpy(dtype=float)
        return list(100 - judged) if sign > 0 else list(judged)

    @property
    def size(self) -> tuple[str, int | None, int]:
        return self.cell.encoder, self.limit, self.epochs

    @property
    def text(self) -> str:
        return f"{self.encoder}, {self.images}, {_epochs_text(self)}"


@dataclass(frozen=True)
class Line:
    """Complete cells of an arm that differ in one way of growing, by rising x."""

    arm: str
    method: str
    along: str  # ENCODERS | IMAGES | LENGTH | SEEN | COMPUTE
    measure: str  # of x
    at: str  # the other sizes, in words
    rungs: list[Rung]
    encoders: frozenset[str]  # of the arm, as canonical JSON

    @cached_property
    def x(self) -> list[float]:
        return [float(x) for rung in self.rungs if (x := rung.x(self.measure)) is not None]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for rung in self.rungs for key in rung.cell.keys)


def has_error(study: Study) -> bool:
    """Whether the judging metric can be made an error: a percentage to be large, or anything to be small."""
    return study.sign < 0 or is_percent(study.judge)


def ladders(study: Study) -> dict[str, list[Rung]]:
    """The scales of every trained arm."""
    return {name: rungs(study, name) for name in trained(study)}


def lines(study: Study, by_arm: Mapping[str, Sequence[Rung]]) -> list[Line]:
    """By way of growing, then by arm; only those with LEAST scales, and fronts only beside another."""
    found = [line for name, mine in by_arm.items() for line in _lines_of(study, name, mine)]
    order = [along for along, *_ in _WAYS]
    return sorted(found, key=lambda line: order.index(line.along))


def trained(study: Study) -> list[str]:
    return list(dict.fromkeys(arm.name for arm in study.arms if not arm.is_floor))


def rungs(study: Study, name: str) -> list[Rung]:
    """Every scale of an arm once, by its best cell on validation where other factors are compared, too."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells_of(study, name):
        size = canonical([json.loads(cell.encoder), cell.values.get(DATA), cell.values.get(EPOCHS)])
        groups.setdefault(size, []).append(cell)
    chosen = [_best(cells, study.sign) for cells in groups.values()]
    return [_rung(study, cell) for cell in chosen if cell is not None]


def largest_of_both(a: Sequence[Rung], b: Sequence[Rung]) -> tuple[Rung, Rung] | None:
    """The largest scale that both were trained at, whole; None where they share none."""
    theirs = {rung.size: rung for rung in b if rung.cell.complete}
    shared = [rung for rung in a if rung.cell.complete and rung.size in theirs]
    if not shared:
        return None
    largest = max(shared, key=lambda rung: (rung.flops or 0.0, rung.samples or 0.0, rung.params or 0.0))
    return largest, theirs[largest.size]


def cells_of(study: Study, name: str) -> list[Cell]:
    return [cell for arm in study.arms if arm.name == name for cell in arm.cells]


def _best(cells: list[Cell], sign: int) -> Cell | None:
    whole = [cell for cell in cells if cell.complete]
    shown = [cell for cell in cells if len(cell.rows)]
    return max(whole, key=lambda cell: sign * cell.val.mean()) if whole else next(iter(shown), None)


def _rung(study: Study, cell: Cell) -> Rung:
    config = study.sweep.configs[cell.keys[0]]
    samples, costs = _samples(study, cell), ec.costs(study, cell)
    flops = None if samples is None or costs.flops is None else samples * costs.flops
    return Rung(
        cell, encoder_text(config.get("encoder", {})), config.get("data", {}).get("limit"), int(config["epochs"]),
        costs.params, samples, flops,
    )  # fmt: skip


def _samples(study: Study, cell: Cell) -> float | None:
    """Images that one training drew, an image once per epoch however many views it has; median over seeds."""
    rows = study.sweep.epochs_of(cell.finished["key"])
    if not {"timing/images_per_second", "timing/train_seconds"} <= set(rows) or not len(rows):
        return None
    drawn = rows["timing/images_per_second"] * rows["timing/train_seconds"]
    if drawn.isna().any():
        return None
    return float(round(drawn.groupby(rows["key"], observed=True).sum().median()))


def _lines_of(study: Study, name: str, ladder: Sequence[Rung]) -> list[Line]:
    whole = [rung for rung in ladder if rung.cell.complete]
    method = next(arm.method for arm in study.arms if arm.name == name)
    encoders = frozenset(rung.cell.encoder for rung in ladder)
    found = []
    for along, measure, fixed, said in _WAYS:
        groups: dict[Any, list[Rung]] = {}
        for rung in whole:
            groups.setdefault(fixed(rung), []).append(rung)
        fronts = along in (SEEN, COMPUTE)
        ordered = [_front(g, measure, study.sign) if fronts else _distinct(g, measure) for g in groups.values()]
        ordered = [g for g in ordered if len(g) >= LEAST]
        if along == SEEN:  # with one of the two alone, it is that line
            ordered = [g for g in ordered if len({r.limit for r in g}) > 1 and len({r.epochs for r in g}) > 1]
        if ordered:
            best = max(ordered, key=lambda group: (len(group), _size(group)))
            found.append(Line(name, method, along, measure, said(best[0]), best, encoders))
    grown = any(line.along in (ENCODERS, IMAGES, LENGTH) for line in found)
    return found if grown else []  # a front over two by two was not made to ask about scale


def _epochs_text(rung: Rung) -> str:
    return count(rung.epochs, "epoch")


ENCODERS, IMAGES, LENGTH, SEEN, COMPUTE = "encoder size", "data", "epochs", "data and epochs", "compute"
_WAYS: tuple[tuple[str, str, Callable[[Rung], Any], Callable[[Rung], str]], ...] = (  # along, x, fixed, fixed in words
    (ENCODERS, PARAMS, lambda r: (r.limit, r.epochs), lambda r: f"{r.images}, {_epochs_text(r)}"),
    (IMAGES, SAMPLES, lambda r: (r.cell.encoder, r.epochs), lambda r: f"{r.encoder}, {_epochs_text(r)}"),
    (LENGTH, SAMPLES, lambda r: (r.cell.encoder, r.limit), lambda r: f"{r.encoder}, {r.images}"),
    (SEEN, SAMPLES, lambda r: r.cell.encoder, lambda r: f"{r.encoder}, the best at each cost"),
    (COMPUTE, FLOPS, lambda r: None, lambda r: "the best at each cost"),
)


def _distinct(group: Iterable[Rung], measure: str) -> list[Rung]:
    """By rising x, every x once."""
    by_x = {x: rung for rung in group if (x := rung.x(measure)) is not None and x > 0}
    return [by_x[x] for x in sorted(by_x)]


def _size(group: list[Rung]) -> tuple[float, float]:
    """Of a line, to prefer the largest: its images seen, then its parameters."""
    return max((r.samples or 0.0 for r in group), default=0.0), max((r.params or 0.0 for r in group), default=0.0)


def _front(group: Iterable[Rung], measure: str, sign: int) -> list[Rung]:
    """What nothing that costs no more beats on validation."""
    priced = [rung for rung in group if rung.x(measure)]
    worth = [sign * float(rung.cell.val.mean()) for rung in priced]
    return [priced[i] for i in tiers.front([rung.x(measure) or 0.0 for rung in priced], worth)]


def others(rung: Rung) -> str:
    """The values of compared factors that are no size."""
    return cell_text({path: v for path, v in rung.cell.values.items() if path not in (*SIZE, DATA, EPOCHS)})
