"""Which searched parameters mattered: PED-ANOVA over the finished search trials of each cell, kept in the ledger.

PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces")
asks how differently the best trials lie along a parameter than all trials do; here as a share of the sum over all
searched parameters. Optuna computes it, and reports, which know no Optuna, read it.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import reduce
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.ledger import Ledger, canonical
from harness.selecting import curve
from harness.space import seed_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from harness.space import Space
    from harness.spec import SweepSpec

EVENT = "importance"
FEWEST = 8  # trials of a cell
_BEST = 5  # trials that count as the best: Optuna's advice
_RESAMPLES = 200
_LEVEL = 0.95


def weigh(spec: SweepSpec, ledger: Ledger) -> None:
    """Add an `importance` event for every searched cell that has none yet of the trials that it has now.

    Payload: arm, cell, metric; n and keys of the trials that were weighed, which have finished; left_out: what became
    of the others → how many; parameters: dotted path → mean (its share), low, high (95 % interval of a bootstrap over
    trials), or {} and the reason; quantile: the share of trials that count as the best; resamples; by.
    """
    events = [event for event in ledger.events() if event.kind == EVENT]
    known = {canonical([event.payload["arm"], event.payload["cell"]]): event.payload["keys"] for event in events}
    for group in _groups(spec, ledger):
        if known.get(canonical([group.arm, group.cell])) != [key for key, _, _ in group.trials]:
            ledger.add_event(EVENT, **_payload(spec, group))


@dataclass(frozen=True)
class _Group:
    """The search trials of a cell, over all its studies."""

    arm: str
    cell: dict[str, Any]
    trials: list[tuple[str, dict[str, Any], float]]  # of the finished: key, parameter → value, last metric
    left_out: dict[str, int]


def _groups(spec: SweepSpec, ledger: Ledger) -> list[_Group]:
    keys: dict[str, dict[str, None]] = defaultdict(dict)  # a training that fills two places counts once
    cells = {}
    for place in ledger.assignments():
        if place.purpose == "search" and place.arm in spec.arms:
            name = canonical([place.arm, place.cell])
            keys[name][place.key] = None
            cells[name] = place.arm, place.cell
    if not cells:
        return []
    configs, states = {row.key: row.config for row in ledger.trials()}, ledger.states()
    groups = []
    for name, (arm, cell) in cells.items():
        trials, left_out = [], Counter[str]()
        for key in keys[name]:
            point = {path: _at(configs[key], path) for path in _always(spec, arm)}
            values = curve(ledger, key, spec.metric, configs[key]) if states[key] == "finished" else {}
            score = values[max(values)] if values else None
            if score is not None and math.isfinite(score):
                trials.append((key, point, score))
            elif score is not None:
                left_out["collapsed"] += 1  # or at λ = 0: under a metric without labels it ranks last
            else:
                left_out["unmeasured" if states[key] == "finished" else states[key]] += 1
        groups.append(_Group(arm, cell, trials, dict(left_out)))
    return groups


def _always(spec: SweepSpec, arm: str) -> dict[str, Space]:
    """The searched parameters that every trial has: PED-ANOVA knows no conditions, so others are not weighed."""
    return {path: space for path, space in spec.arms[arm].nuisance.items() if not space.when}


def _at(config: Mapping[str, Any], path: str) -> Any:
    return reduce(lambda part, name: part[name], path.split("."), config)


def _payload(spec: SweepSpec, group: _Group) -> dict[str, Any]:
    spaces = {path: space.distribution() for path, space in _always(spec, group.arm).items()}
    inside = [trial for trial in group.trials if all(_holds(spaces[path], value) for path, value in trial[1].items())]
    n, reason = len(inside), None
    if len(spaces) < 2:
        reason = "one parameter at most was searched in every trial: there is nothing to share"
    elif n < FEWEST:
        reason = f"{n} of the cell's search trials have finished, and fewer than {FEWEST} say nothing"
    elif len({score for _, _, score in inside}) == 1:
        reason = f"all {n} trials have the same score"
    quantile = min(0.5, max(0.1, _BEST / max(n, 1)))
    seed, shares = seed_of([spec.name, group.arm, group.cell, EVENT]), {}
    if reason is None:
        try:
            shares = _shares(spaces, inside, spec.metric.mode, quantile, seed)
        except Exception as error:  # of Optuna: a by-product must not keep a sweep from ending
            reason = f"it could not be computed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    outside = {"outside the space": len(group.trials) - n} if len(group.trials) > n else {}
    return {
        "arm": group.arm, "cell": group.cell, "metric": spec.metric.name, "n": n,
        "keys": [key for key, _, _ in group.trials], "left_out": {**group.left_out, **outside},
        "parameters": shares, "reason": reason,
        "quantile": quantile, "resamples": _RESAMPLES, "by": f"PED-ANOVA of optuna {metadata.version('optuna')}",
    }  # fmt: skip


def _holds(space: BaseDistribution, value: Any) -> bool:
    """A published default that a search begins with may lie outside the space."""
    try:
        return space._contains(space.to_internal_repr(value))
    except (TypeError, ValueError):
        return False


def _shares(
    spaces: dict[str, BaseDistribution], trials: Sequence[tuple[str, dict[str, Any], float]], mode: str,
    quantile: float, seed: int,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Path → mean, low, high."""
    import optuna

    frozen = [optuna.trial.create_trial(params=point, distributions=spaces, value=value) for _, point, value in trials]
    rng, n = np.random.default_rng(seed), len(frozen)
    found = _importance(frozen, mode, quantile)
    drawn = [_importance([frozen[i] for i in rng.integers(0, n, n)], mode, quantile) for _ in range(_RESAMPLES)]
    tails = [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]
    shares = {}
    for path in spaces:
        low, high = np.quantile([resample[path] for resample in drawn], tails)
        mean = found[path]  # may leave its own interval: a resample, with its repeats, is more uneven than the trials
        shares[path] = {"mean": mean, "low": min(float(low), mean), "high": max(float(high), mean)}
    return shares


def _importance(trials: Sequence[FrozenTrial], mode: str, quantile: float) -> dict[str, float]:
    """Path → share; the shares add up to 1."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    named = inspect.signature(PedAnovaImportanceEvaluator).parameters
    best = "target_quantile" if "target_quantile" in named else "baseline_quantile"  # before optuna 4.7
    chosen: dict[str, Any] = {best: quantile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental before optuna 5; too few trials in a resample
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line for every study
        study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
        optuna.logging.set_verbosity(verbosity)
        study.add_trials(trials)
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(**chosen))
