"""Writes sweeps of methods with a planted truth: searches and their confirmation, and arms of heuristics."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from synthetic import SyntheticArm, config_of, write_environment, write_spec

from harness.ledger import Ledger, canonical
from harness.spec import STUDY_SEEDS
from reports import figures
from reports.content import Figure

IMAGES = 1280  # of an epoch


@dataclass
class Searched:
    """An arm whose configurations are worth `quality(study, ordinal)` on both validation and test."""

    quality: Callable[[int, int], float]
    method: str = "vicreg"
    trials: int = 16
    studies: int = 2
    epochs: int = 10
    seconds: float = 1.0  # of an epoch
    ends: Mapping[tuple[int, int], str] = field(default_factory=dict)  # (study, ordinal) → state other than finished
    collapsed: Sequence[tuple[int, int]] = ()
    knn: float = 0.0  # what k-NN adds to the linear probe
    rising: float = 25.0  # points gained over the training
    every: int = 1  # epochs between evaluations
    encoder: str = "small_resnet"


def write_searched(
    folder: Path, arms: Mapping[str, Searched], *, seeds: Sequence[int] = (0, 1, 2, 3, 4), sampler: str = "random",
    stopping: Mapping[str, Any] | None = None, defaults_first: bool = False, contrast: Sequence[str] | None = None,
    rope: float = 1.0, noise: float = 0.3,
) -> Path:  # fmt: skip
    """Every arm's search, then its best configuration on `seeds`. `noise`: standard deviation of a trial."""
    folder.mkdir(parents=True)
    write_spec(folder, list(arms), seeds, contrast, rope, "val/linear", "Which method?")
    _amend(folder, {
        "search": {"sampler": sampler, "trials": 16, "studies": 2, "defaults_first": defaults_first},
        "stopping": stopping, "confirm": {"top": 1, "seeds": list(seeds)},
        "nuisance": {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}},
    })  # fmt: skip
    write_environment(folder, None)
    rng = np.random.default_rng(11)
    shared = {seed: float(rng.normal(0, 0.5)) for seed in seeds}
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for name, arm in arms.items():
            best, won = -np.inf, (0, 0)
            for study in range(arm.studies):
                for ordinal in range(arm.trials):
                    value = arm.quality(study, ordinal) + float(rng.normal(0, noise))
                    state = arm.ends.get((study, ordinal), "finished")
                    _place(ledger, name, arm, (study, ordinal), study, ordinal, "search", STUDY_SEEDS + study, value,
                           state)  # fmt: skip
                    if state == "finished" and value > best:
                        best, won = value, (study, ordinal)
            for i, seed in enumerate(seeds):
                value = arm.quality(*won) + shared[seed] + float(rng.normal(0, noise))
                _place(ledger, name, arm, won, 0, i, "confirm", seed, value, "finished")
    return folder


def _amend(folder: Path, changes: Mapping[str, Any]) -> None:
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**spec, **changes}, sort_keys=False))


def _place(
    ledger: Ledger, name: str, arm: Searched, point: tuple[int, int], study: int, ordinal: int, purpose: str, seed: int,
    value: float, state: str,
) -> None:  # fmt: skip
    """One trial at a point of the nuisance space, which is told apart by its learning rate."""
    lr = 1e-3 * (1 + point[0] + point[1] / 1000)
    config = config_of(SyntheticArm(lambda cell: 0.0, arm.method, encoder=arm.encoder, epochs=arm.epochs),
                       {"optimizer.lr": lr}, seed)  # fmt: skip
    key = hashlib.sha256(canonical({"config": config, "arm": name}).encode()).hexdigest()[:16]
    ledger.add_trial(key, config, seed, arm.epochs, "da7a" * 16, "c0de" * 16)
    ledger.assign(name, {}, study, ordinal, purpose, key)
    ledger.add_event("started", key, attempt=1, epoch=0, info={"device": "cpu", "threads": 1})
    done = arm.epochs if state == "finished" else arm.epochs // 2
    for epoch in range(1, done + 1):
        metrics = {"train/loss": 1.0 / epoch, "diag/collapsed": float(point in arm.collapsed)}
        if epoch % arm.every == 0 or epoch == arm.epochs:
            level = value - arm.rising * (1 - epoch / arm.epochs)
            metrics |= {"val/linear": level, "val/knn": level + arm.knn}
        timing = {"seconds": arm.seconds + 0.1, "train_seconds": arm.seconds, "images_per_second": IMAGES / arm.seconds}
        ledger.add_epoch(key, epoch, metrics, timing, at=float(epoch))
    if state == "finished":
        test = {} if purpose == "search" else {"test/linear": value, "test/knn": value + arm.knn}
        ledger.add_event("finished", key, test=test, info={"device": "cpu"})
    elif state == "diverged":
        ledger.add_event("diverged", key, epoch=done, step=1, reason="the loss is NaN")
    else:
        ledger.add_event(state, key, epoch=done)


def undrawn(text: figures.Text, *drawing: object, **form: object) -> Figure:
    """Stands for a figure where a test reads words: a drawing takes a second."""
    return Figure(text.name, text.caption, text.alt, "", b"", text.data)


# -- heuristics -------------------------------------------------------------------------------------------------------


@dataclass
class Switched:
    """An arm of `predictive`; `level` is its expected test accuracy."""

    level: float
    heuristics: Mapping[str, Any] = field(default_factory=dict)
    collapsed: Sequence[int] = ()  # seeds
    diverged: Sequence[int] = ()  # seeds
    seconds: float = 1.0
    method: str = "predictive"


def write_heuristics(
    folder: Path, arms: Mapping[str, Switched], *, seeds: Sequence[int] = (0, 1, 2), noise: float = 0.3,
    rope: float = 1.0, contrast: Sequence[str] | None = None,
) -> Path:  # fmt: skip
    folder.mkdir(parents=True)
    write_spec(folder, list(arms), seeds, contrast, rope, "val/linear", "Which heuristics?")
    write_environment(folder, None)
    rng = np.random.default_rng(5)
    shared = {seed: float(rng.normal(0, 1)) for seed in seeds}
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        for name, arm in arms.items():
            for ordinal, seed in enumerate(seeds):
                config = config_of(SyntheticArm(lambda cell: 0.0, arm.method, epochs=4), {}, seed)
                if arm.method == "predictive":
                    config["method"]["heuristics"] = {**_OFF, **arm.heuristics}
                key = f"{name}-{seed}"
                ledger.add_trial(key, config, seed, 4, "da7a" * 16, "c0de" * 16)
                ledger.assign(name, {}, 0, ordinal, "floor" if arm.method == "random" else "evidence", key)
                ledger.add_event("started", key, attempt=1, epoch=0, info={})
                value = arm.level + shared[seed] + float(rng.normal(0, noise))
                for epoch in range(1, 3 if seed in arm.diverged else 5):
                    metrics = {"val/linear": value, "diag/collapsed": float(seed in arm.collapsed)}
                    timing = {"seconds": arm.seconds + 0.1, "train_seconds": arm.seconds}
                    ledger.add_epoch(key, epoch, metrics, timing, at=float(epoch))
                if seed in arm.diverged:
                    ledger.add_event("diverged", key, epoch=2, step=1, reason="the loss is NaN")
                else:
                    ledger.add_event("finished", key, test={"test/linear": value}, info={})
    return folder


_OFF = {
    "ema_teacher": None, "ema_schedule": "constant", "stop_gradient": False, "predictor": False,
    "normalisation": "none", "negatives": None, "variance_covariance": None, "sigreg": None, "wd_schedule": None,
}  # fmt: skip
TEACHER = {"ema_teacher": 0.99, "stop_gradient": True}


def all_heuristics() -> dict[str, Switched]:
    """As in sweeps/heuristics.yaml, with a truth: normalisation, negatives, VICReg's terms and SIGReg keep the bare
    prediction from collapsing; a predictor helps LeJEPA by 4, whitening hurts it by 4, others do nothing."""
    every = (0, 1, 2)
    vicreg = {"variance": 0.25, "covariance": 0.01}
    sigreg = {"sigreg": 0.05}
    negatives = {"weight": 0.25, "temperature": 0.5}
    byol = {**TEACHER, "ema_schedule": "cosine", "predictor": True, "normalisation": "layer"}
    return {
        "bare": Switched(20.0, collapsed=every),
        "bare+stop_gradient": Switched(21.0, {"stop_gradient": True}, collapsed=every),
        "bare+ema_teacher": Switched(24.0, TEACHER, collapsed=(0, 1), seconds=1.3),
        "bare+ema_schedule": Switched(22.0, {**TEACHER, "ema_schedule": "cosine"}, collapsed=every, seconds=1.3),
        "bare+predictor": Switched(20.5, {"predictor": True}, collapsed=every, seconds=1.1),
        "bare+batch": Switched(58.0, {"normalisation": "batch"}),
        "bare+layer": Switched(34.0, {"normalisation": "layer"}),
        "bare+whitening": Switched(61.0, {"normalisation": "whitening"}, seconds=1.4),
        "bare+negatives": Switched(62.0, {"negatives": negatives}),
        "bare+variance_covariance": Switched(63.0, {"variance_covariance": vicreg}),
        "bare+wd_schedule": Switched(20.0, {"wd_schedule": 0.005}, collapsed=every),
        "lejepa": Switched(66.0, sigreg, seconds=1.2),
        "byol": Switched(62.0, byol, seconds=1.5),
        "byol-predictor": Switched(25.0, {**byol, "predictor": False}, diverged=(1,), seconds=1.4),
        "vicreg-variance": Switched(20.0, {"variance_covariance": {**vicreg, "variance": 0}}, collapsed=every),
        "lejepa+stop_gradient": Switched(66.0, {**sigreg, "stop_gradient": True}),
        "lejepa+ema_teacher": Switched(66.0, {**sigreg, **TEACHER}, seconds=1.5),
        "lejepa+predictor": Switched(70.0, {**sigreg, "predictor": True}, seconds=1.3),
        "lejepa+whitening": Switched(62.0, {**sigreg, "normalisation": "whitening"}, seconds=1.6),
        "random": Switched(35.0, method="random"),
    }
