"""What a search recommends: the config that is best by a fit through all of a cell's trials, kept in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.ledger import Ledger, canonical
from harness.selecting import curve
from harness.space import seed_of
from harness.surface import Seen, Surface, surface
from harness.trials import resolved

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from harness.space import Space
    from harness.spec import SweepSpec
    from harness.trials import TrialSpec

EVENT = "recommended"
_DRAWS = 2_000
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class _Cell:
    """A searched cell, with what is known of its trials that have ended and were not in error, by key."""

    arm: str
    values: dict[str, Any]
    spaces: dict[str, Space]
    seen: dict[str, Seen]

    @property
    def name(self) -> str:
        return canonical([self.arm, self.values])


def recommend(spec: SweepSpec, ledger: Ledger) -> None:
    """Add a `recommended` event for every searched cell that has none yet of the trials that it has now.

    Payload: arm, cell, metric; keys of the trials behind it, searched and confirmed, and how many of them were stopped;
    point: dotted path → value, of the best config of those that were trained to their end; mean and error (standard) of
    the metric there; chance that it is the best of them; intervals: path → [low, high], 95 % of where the best lies;
    noise: standard deviation of one training's value; values: how many were fitted. Or point {} and the reason.
    """
    events = [event.payload for event in ledger.events() if event.kind == EVENT]
    known = {canonical([payload["arm"], payload["cell"]]): payload["keys"] for payload in events}
    for cell in _cells(spec, ledger, ("search", "confirm")):
        if cell.seen and known.get(cell.name) != list(cell.seen):
            stopped = sum(not trial.finished for trial in cell.seen.values())
            ledger.add_event(
                EVENT, arm=cell.arm, cell=cell.values, metric=spec.metric.name, keys=list(cell.seen), stopped=stopped,
                **_best(spec, cell),
            )  # fmt: skip


def by_fit(spec: SweepSpec, ledger: Ledger, trials: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Finished search trials of one cell, the best by the fit through all its search trials first; in the order given
    where there is no fit."""
    if not trials:
        return []
    name = canonical([trials[0].arm, dict(trials[0].cell)])
    [cell] = [cell for cell in _cells(spec, ledger, ("search",)) if cell.name == name]
    fit = _fit(spec, cell)
    if isinstance(fit, str):
        return list(trials)
    worth = {canonical(point): float(mean) for point, mean in zip(fit.points, fit.mean, strict=True)}
    return sorted(trials, key=lambda trial: -worth.get(canonical(cell.seen[trial.key].point), -np.inf))


def _cells(spec: SweepSpec, ledger: Ledger, purposes: Collection[str]) -> list[_Cell]:
    places, states = ledger.assignments(), ledger.states()
    configs, sign = {row.key: row.config for row in ledger.trials()}, 1.0 if spec.metric.mode == "max" else -1.0
    found = []
    for cell in spec.cells():
        if not spec.arms[cell.arm].nuisance:
            continue
        values, spaces, seen = resolved(spec, cell), spec.searched(cell), {}
        for place in places:
            mine = place.purpose in purposes and (place.arm, dict(place.cell)) == (cell.arm, values)
            if mine and (state := states[place.key]) in ("finished", "pruned"):
                config = configs[place.key]
                worth = curve(ledger, place.key, spec.metric, config)
                signed = {epoch: sign * value for epoch, value in worth.items()}
                seen[place.key] = Seen({path: _at(config, path) for path in spaces}, signed, state == "finished")
        found.append(_Cell(cell.arm, values, spaces, seen))
    return found


def _at(config: Mapping[str, Any], path: str) -> Any:
    """None in a part that the config has not."""
    part: Any = config
    for name in path.split("."):
        part = part.get(name) if isinstance(part, dict) else None
    return part


def _fit(spec: SweepSpec, cell: _Cell) -> Surface | str:
    rungs = (spec.stopping.grace, spec.stopping.reduction) if spec.stopping else (1, 3)
    try:
        return surface(cell.spaces, list(cell.seen.values()), *rungs)
    except Exception as error:  # of scikit-learn: a by-product must not keep a sweep from ending
        return f"it could not be computed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _best(spec: SweepSpec, cell: _Cell) -> dict[str, Any]:
    fit = _fit(spec, cell)
    if isinstance(fit, str):
        return {"point": {}, "reason": fit}
    best = int(fit.mean.argmax())
    drawn = fit.best_of_draws(_DRAWS, seed_of([spec.name, cell.arm, cell.values, EVENT]))
    intervals = {}
    for path in fit.points[best]:
        low, high = np.quantile([fit.points[i][path] for i in drawn], _TAILS, method="inverted_cdf")
        intervals[path] = [float(low), float(high)]
    sign = 1.0 if spec.metric.mode == "max" else -1.0
    return {
        "point": fit.points[best], "reason": None, "mean": sign * float(fit.mean[best]),
        "error": float(fit.covariance[best, best] ** 0.5), "chance": float((drawn == best).mean()),
        "intervals": intervals, "noise": fit.noise, "values": fit.values,
    }  # fmt: skip
