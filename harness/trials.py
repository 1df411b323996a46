"""From a sweep to its trials: every TrialSpec has a key that says what is trained, and a place that says why.

key = first 16 hex characters of the sha256 of the canonical JSON of {config, data, length}: the resolved TrainConfig
without what only says where it runs (lejepa.config.WHERE), the fingerprint of the data, and the number of
epoch reports. Same key, same trial: never run twice.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import lejepa.config
from harness.conditions import applying
from harness.ledger import canonical
from harness.space import crossed, qmc_points, random_points
from harness.spec import STUDY_SEEDS, Cell, SweepSpec
from lejepa.config import FLOORS, WHERE, DataConfig, TrainConfig

Fingerprint = Callable[[DataConfig], str]


@dataclass(frozen=True)
class TrialSpec:
    arm: str
    cell: Mapping[str, Any] = field(hash=False)  # scientific values as resolved: dotted path → value
    study: int
    ordinal: int
    purpose: str  # evidence | floor | search | confirm
    config: TrainConfig
    data: str  # fingerprint of images and splits

    @cached_property
    def key(self) -> str:
        config = self.config.model_dump(mode="json", exclude=WHERE)
        text = canonical({"config": config, "data": self.data, "length": self.length})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def length(self) -> int:
        return self.config.length

    @property
    def reads_test(self) -> bool:
        """Search trials never do: what selects must not see test."""
        return self.purpose != "search"


def enumerate_trials(spec: SweepSpec, fingerprint: Fingerprint) -> list[TrialSpec]:
    """All trials that are known before the sweep starts, in the order in which they run.

    Floors, then evidence seed by seed and searches point by point, so that a sweep that is stopped early has looked
    at every cell. What sampler tpe asks for, and what `confirm` picks, is not among them.
    """
    data = cache(fingerprint)  # one reading per data set
    trials = [trial for cell in spec.cells() for trial in _trials_of(spec, cell, data)]
    rank = {"floor": 0, "evidence": 1, "search": 2}
    return sorted(
        trials, key=lambda trial: (rank[trial.purpose], trial.ordinal)
    )  # stable: arms and cells stay in order


def _trials_of(spec: SweepSpec, cell: Cell, data: Fingerprint) -> Iterator[TrialSpec]:
    if not spec.arms[cell.arm].nuisance:
        for ordinal, seed in enumerate(spec.seeds):
            config = spec.config(cell, seed)
            purpose = "floor" if config.method.name in FLOORS else "evidence"
            yield _trial(cell, config, 0, ordinal, purpose, data)
        return
    for study in range(spec.search.studies):
        for ordinal, point in enumerate(search_points(spec, cell, study)):
            yield search_trial(spec, cell, study, ordinal, point, data)


def search_points(spec: SweepSpec, cell: Cell, study: int) -> list[dict[str, Any]]:
    """The points of a cell's nuisance space that a study tries; [] for tpe, which is asked while the sweep runs.

    {} is the default: the config as the file's base has it. It stands instead of the first point, so that every other
    ordinal has the trial that it has without it.
    """
    nuisance, n = spec.searched(cell), spec.search.trials or 0
    name = [cell.arm, dict(cell.values), study]
    match spec.search.sampler:
        case "grid":
            return crossed(nuisance)
        case "random":
            points = random_points(nuisance, n, name)
        case "qmc":
            points = qmc_points(nuisance, n, name)
        case _:
            return []
    return [{}, *points[1:]] if spec.search.defaults_first else points


def default_point(spec: SweepSpec, cell: Cell) -> dict[str, Any]:
    """The values that a cell's nuisance parameters have in its config as written: dotted path → value."""
    dumped = spec.config(cell, spec.seeds[0]).model_dump(mode="json")
    spaces = spec.searched(cell)
    return applying(spaces, {path: _at_or_none(dumped, path) for path in spaces})


def search_trial(
    spec: SweepSpec, cell: Cell, study: int, ordinal: int, point: Mapping[str, Any], fingerprint: Fingerprint
) -> TrialSpec:
    """A search trial at a point of the nuisance space; it trains with its study's seed."""
    return _trial(cell, spec.config(cell, STUDY_SEEDS + study, point), study, ordinal, "search", fingerprint)


def confirm_trials(spec: SweepSpec, winner: TrialSpec, rank: int) -> list[TrialSpec]:
    """The winner of a search (rank 0: the best of its cell) again, once per fresh seed. ValueError without `confirm`.

    Ordinals count seeds within ranks: rank · seeds + index of the seed.
    """
    if spec.confirm is None:
        raise ValueError("the sweep has no `confirm`")
    seeds, trials = spec.confirm.seeds, []
    for i, seed in enumerate(seeds):
        config = winner.config.model_copy(update={"seed": seed})
        place = rank * len(seeds) + i
        trials.append(TrialSpec(winner.arm, winner.cell, 0, place, "confirm", config, winner.data))
    return trials


def _trial(
    cell: Cell, config: TrainConfig, study: int, ordinal: int, purpose: str, fingerprint: Fingerprint
) -> TrialSpec:
    return TrialSpec(cell.arm, _resolved(cell, config), study, ordinal, purpose, config, data_of(config, fingerprint))


def data_of(config: TrainConfig, fingerprint: Fingerprint) -> str:
    """Fingerprint of the images and splits of a training; where it is judged on other data sets too, of all of them."""
    own, *others = (fingerprint(data) for data in (config.data, *config.elsewhere.values()))
    return own if not others else hashlib.sha256(canonical([own, *others]).encode()).hexdigest()[:16]


def resolved(spec: SweepSpec, cell: Cell) -> dict[str, Any]:
    """The cell's values as its trials and the ledger have them."""
    return _resolved(cell, spec.config(cell, spec.seeds[0], spec.corners(cell)[0]))


def _resolved(cell: Cell, config: TrainConfig) -> dict[str, Any]:
    """The cell's values as the config took them (0 → 0.0), so that equal cells have equal text."""
    dumped = config.model_dump(mode="json")
    return {path: _at(dumped, path) for path in cell.values}


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree


def _at_or_none(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None  # a part that the default switches off
    return tree


def code_hash() -> str:
    """sha256 over lejepa/**/*.py, names and contents: which trainer made the numbers."""
    root = Path(lejepa.config.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py"), key=lambda file: file.relative_to(root).as_posix()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
