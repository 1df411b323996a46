"""Writes the folder of a sweep whose truth is known: a peak over log λ, its noise, and what goes wrong on request."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from harness.ledger import Ledger, canonical

LAMBDAS = (0, 0.002, 0.01, 0.05, 0.2, 0.5)


def hill(peak: float = 70.0, best: float = 0.02, fall: float = 9.0) -> Callable[[Mapping[str, Any]], float]:
    """Accuracy `peak` at λ = `best`, `fall` points less per squared decade; 30 at λ = 0 (collapse)."""

    def truth(cell: Mapping[str, Any]) -> float:
        lamb = cell["method.lamb"]
        return 30.0 if lamb == 0 else peak - fall * math.log10(lamb / best) ** 2

    return truth


def flat(level: float) -> Callable[[Mapping[str, Any]], float]:
    return lambda cell: level


@dataclass
class SyntheticArm:
    """`truth` maps a cell to its expected test accuracy."""

    truth: Callable[[Mapping[str, Any]], float]
    method: str = "lejepa"
    cells: Sequence[Mapping[str, Any]] = ({},)
    encoder: str = "small_resnet"
    epochs: int = 20
    views: int = 2  # global ones
    seeds: Sequence[int] | None = None  # None: the sweep's
    ends: Mapping[tuple[int, int], str] = field(default_factory=dict)  # (cell index, seed) → state other than finished
    noise: float | None = None  # None: the sweep's


def lambda_cells(lambdas: Sequence[float] = LAMBDAS) -> list[dict[str, Any]]:
    return [{"method.lamb": value} for value in lambdas]


def quickstart_arms() -> dict[str, SyntheticArm]:
    return {
        "lejepa": SyntheticArm(hill(), cells=lambda_cells()),
        "vicreg": SyntheticArm(flat(64.0), "vicreg"),
        "random": SyntheticArm(flat(52.1), "random"),
        "pixels": SyntheticArm(flat(58.5), "pixels", noise=0.0),
    }


def write_sweep(
    folder: Path, arms: Mapping[str, SyntheticArm] | None = None, *, seeds: Sequence[int] = (0, 1, 2),
    noise: float = 0.7, seed_spread: float = 1.0, contrast: Sequence[str] | None = None, rope: float = 1.0,
    git: Mapping[str, Any] | None = None, code: str = "c0de" * 16, metric: str = "val/shot1",
    question: str = "Which λ should we use, and does LeJEPA beat VICReg?",
) -> Path:  # fmt: skip
    """`noise`: standard deviation of a trial; `seed_spread`: of what a seed does to all arms alike."""
    arms = arms or quickstart_arms()
    folder.mkdir(parents=True)
    write_spec(folder, list(arms), seeds, contrast, rope, metric, question)
    write_environment(folder, git)
    rng = np.random.default_rng(7)
    shared = dict(zip(seeds, rng.normal(0, seed_spread, len(seeds)), strict=True))
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        ledger.add_event("sweep_started", command=["harness", "run", "quickstart"], pid=1)
        for name, arm in arms.items():
            for index, cell in enumerate(arm.cells):
                for ordinal, seed in enumerate(arm.seeds or seeds):
                    spread = noise if arm.noise is None else arm.noise
                    level = arm.truth(cell) + (shared.get(seed, 0.0) + rng.normal(0, 1) * spread if spread else 0.0)
                    state = arm.ends.get((index, seed), "finished")
                    _write_trial(ledger, rng, name, arm, cell, ordinal, seed, level, state, code, metric)
        ledger.add_event("sweep_finished")
    return folder


def write_spec(
    folder: Path, arms: Sequence[str], seeds: Sequence[int], contrast: Sequence[str] | None, rope: float, metric: str,
    question: str,
) -> None:  # fmt: skip
    spec = {
        "name": "quickstart", "question": question, "base": {}, "scientific": {}, "nuisance": {},
        "arms": {name: {} for name in arms}, "seeds": list(seeds),
        "search": {"sampler": "random", "trials": 1, "studies": 1}, "stopping": None, "confirm": None, "budget": None,
        "pool": {"cpus": 1, "gpus": 0, "max_concurrent": 2}, "metric": {"name": metric, "mode": "max"}, "rope": rope,
        "contrast": list(contrast) if contrast else None, "profile": None,
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False))


def write_environment(folder: Path, git: Mapping[str, Any] | None) -> None:
    environment = {
        "created": "2026-01-02T03:04:05+00:00", "command": ["harness", "run", "quickstart"], "profile": None,
        "git": dict(git) if git else {"sha": "0123456789abcdef" * 2, "dirty": False, "diff": None}, "code": "c0de" * 16,
        "python": "3.11.9", "platform": "Linux-6.1-x86_64", "packages": {"torch": "2.14.1", "ray": "2.60.0"},
        "cpu": "A processor", "cores": 2, "memory_gib": 8.0, "gpus": [], "executor": "ray",
        "pool": {"cpus": 1, "gpus": 0, "max_concurrent": 2},
    }  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))


def config_of(arm: SyntheticArm, cell: Mapping[str, Any], seed: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "method": {"name": arm.method}, "encoder": {"name": arm.encoder, "width": None, "depth": None, "patch": None},
        "projector": {"layers": 3, "hidden": 512, "dim": 64}, "data": {"name": "digits", "size": 16, "limit": None},
        "views": {"recipe": "digits", "global_views": arm.views, "local_views": 2},
        "optimizer": {"lr": 2e-3, "weight_decay": 5e-4}, "epochs": arm.epochs, "batch_size": 128, "seed": seed,
        "probe": {"on": "embedding", "every": 1, "k": 20, "shots": [1], "draws": 20}, "precision": "fp32",
    }  # fmt: skip
    if arm.method == "lejepa":
        config["method"] |= {"lamb": 0.05, "slices": 1024}
    for path, value in cell.items():
        part = config
        *heads, last = path.split(".")
        for head in heads:
            part = part.setdefault(head, {})
        part[last] = value
    return config


def _write_trial(
    ledger: Ledger, rng: np.random.Generator, name: str, arm: SyntheticArm, cell: Mapping[str, Any], ordinal: int,
    seed: int, level: float, state: str, code: str, metric: str,
) -> str:  # fmt: skip
    config = config_of(arm, cell, seed)
    floor = arm.method in ("random", "pixels")
    length = 1 if floor else arm.epochs
    key = hashlib.sha256(canonical({"config": config, "arm": name}).encode()).hexdigest()[:16]
    ledger.add_trial(key, config, seed, length, "da7a" * 16, code)
    ledger.assign(name, cell, 0, ordinal, "floor" if floor else "evidence", key)
    write_run(ledger, rng, key, config, level, length, state, metric)
    return key


def write_run(
    ledger: Ledger, rng: np.random.Generator, key: str, config: Mapping[str, Any], level: float, length: int,
    state: str, metric: str,
) -> None:  # fmt: skip
    """Events and epochs of one trial whose test value is `level`."""
    if state == "waiting":
        return
    ledger.add_event("started", key, attempt=1, epoch=0, info={"device": "cpu", "threads": 1})
    for epoch in range(1, (length if state == "finished" else max(1, length // 2)) + 1):
        metrics = _metrics(rng, config, level, epoch, length, metric)
        ledger.add_epoch(key, epoch, metrics, {"seconds": 0.4}, at=float(epoch))
    info = {"device": "cpu", "threads": 1, "torch": "2.14.1"}
    payload: dict[str, dict[str, Any]] = {
        "finished": {"test": {metric.replace("val/", "test/"): level}, "info": info},
        "diverged": {"epoch": length // 2, "step": 7, "reason": "the loss is NaN"},
        "failed": {"traceback": "Traceback: it broke", "attempt": 3},
        "pruned": {"epoch": length // 2},
    }
    if state in payload:
        ledger.add_event(state, key, **payload[state])


def _metrics(
    rng: np.random.Generator, config: Mapping[str, Any], level: float, epoch: int, length: int, metric: str
) -> dict[str, float]:
    if config["method"]["name"] in ("random", "pixels"):
        return {metric: level, "diag/std": 0.5, "diag/effective_rank": 20.0, "diag/collapsed": 0.0}
    done = 1 - math.exp(-5 * epoch / length)
    lamb = config["method"].get("lamb")
    collapsed = lamb == 0
    metrics = {
        metric: level - 25 * (1 - done) * (0 if collapsed else 1) + float(rng.normal(0, 0.2)),
        "train/loss": 2.0 - done, "train/lr": 1e-3, "diag/std": 0.001 if collapsed else 0.9,
        "diag/effective_rank": 1.1 if collapsed else 24.0, "diag/collapsed": float(collapsed),
    }  # fmt: skip
    if lamb is not None:
        share = 0.97 if collapsed else 1 / (1 + 60 * lamb)
        metrics["train/sigreg"] = 1.05 + 50.4 * share**1.5 * float(np.exp(rng.normal(0, 0.05)))
        metrics["train/pred"] = 1e-4 if collapsed else 0.08 * lamb**0.4 * (2 - done)
    return metrics
