"""Writes sweeps of encoders with a planted truth: what each costs, how fast it learns, and how good it becomes."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from synthetic import SyntheticArm, config_of, write_environment, write_spec

from harness.ledger import Ledger, canonical
from harness.spec import STUDY_SEEDS

IMAGES = 1280  # of an epoch
RATE = 1e11  # FLOPs a second of the planted machine


@dataclass
class Encoder:
    """`level`: validation and test accuracy at the end; `mflops`: of a training image."""

    level: float
    mflops: float
    family: str = "resnet"
    name: str = "small_resnet"
    width: int = 32
    noise: float = 0.2
    speed: float = 5.0  # time constants in a training
    state: Mapping[int, str] = field(default_factory=dict)  # seed → how it ended, where not finished
    carried: float | None = None  # level with the settings carried over, where encoders are searched
    decay: float = 5e-4
    batch: int = 128
    collapsed: Sequence[int] = ()  # seeds


def write_encoders(
    folder: Path, encoders: Sequence[Encoder], *, seeds: Sequence[int] = (0, 1, 2), epochs: int = 10,
    floors: bool = False, costs: bool = True, method: str = "lejepa", studies: int = 0,
) -> Path:  # fmt: skip
    """One cell per encoder in the arm of its family. studies: of a search whose first trial is what was carried over;
    0: nothing is searched. costs: whether the ledger says what training took beside seconds."""
    folder.mkdir(parents=True)
    families = list(dict.fromkeys(encoder.family for encoder in encoders))
    write_spec(folder, families, seeds, None, 1.0, "val/linear", "Which encoder for which budget?")
    if studies:
        spec = yaml.safe_load((folder / "sweep.yaml").read_text())
        spec |= {"nuisance": {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}}, "confirm": {"top": 1, "seeds": 3}}
        spec |= {"search": {"sampler": "random", "trials": 3, "studies": studies, "defaults_first": True}}
        (folder / "sweep.yaml").write_text(yaml.safe_dump(spec))
    write_environment(folder, None)
    rng = np.random.default_rng(3)
    shared = {seed: float(rng.normal(0, 0.4)) for seed in seeds}
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        ledger.add_event("sweep_started", command=["harness", "run", "architectures"], pid=1)
        for encoder in encoders:
            for study in range(studies):
                for ordinal in range(3):
                    level = encoder.level if ordinal else encoder.carried or encoder.level
                    lr = 1e-3 * 2**ordinal
                    _trial(ledger, rng, encoder, STUDY_SEEDS + study, level, epochs, costs, method, lr,
                           ("search", study, ordinal))  # fmt: skip
            for ordinal, seed in enumerate(seeds):
                level = encoder.level + shared[seed] + float(rng.normal(0, encoder.noise))
                place = ("confirm" if studies else "evidence", 0, ordinal)
                _trial(ledger, rng, encoder, seed, level, epochs, costs, method, 2e-3, place)
                if floors:
                    _trial(ledger, rng, encoder, seed, 30.0, 1, costs, "random", 2e-3, ("floor", 0, ordinal))
        ledger.add_event("sweep_finished")
    return folder


def _trial(
    ledger: Ledger, rng: np.random.Generator, encoder: Encoder, seed: int, level: float, epochs: int, costs: bool,
    method: str, lr: float, place: tuple[str, int, int],
) -> None:  # fmt: skip
    cell = {"encoder.width": encoder.width}
    config = config_of(SyntheticArm(lambda cell: level, method, encoder=encoder.name, epochs=epochs), cell, seed)
    config["optimizer"] |= {"lr": lr, "weight_decay": encoder.decay}
    config["batch_size"] = encoder.batch
    key = hashlib.sha256(canonical(config).encode()).hexdigest()[:16]
    ledger.add_trial(key, config, seed, epochs, "da7a" * 16, "c0de" * 16)
    purpose, study, ordinal = place
    arm = f"random-{encoder.family}" if method == "random" else encoder.family
    ledger.assign(arm, cell, study, ordinal, purpose, key)
    state = encoder.state.get(seed, "finished") if purpose in ("evidence", "confirm") else "finished"
    info = {"device": "cpu", "threads": 1, "encoder_params": int(1e4 * encoder.mflops), "probe_protocol": "p-1"}
    ledger.add_event("started", key, attempt=1, epoch=0, info=info)
    seconds = encoder.mflops * 1e6 * IMAGES / RATE
    timing = {"seconds": seconds * 1.2, "train_seconds": seconds}
    if costs:
        timing |= {"flops_per_image": encoder.mflops * 1e6, "images_per_second": IMAGES / seconds,
                   "peak_memory_mb": 500 + encoder.mflops}  # fmt: skip
    for epoch in range(1, (epochs if state == "finished" else epochs // 2) + 1):
        left = (
            0.0 if method == "random" else 20 * (math.exp(-encoder.speed * epoch / epochs) - math.exp(-encoder.speed))
        )
        metrics: dict[str, Any] = {
            "val/linear": level - left,
            "diag/collapsed": float(seed in encoder.collapsed),
            "train/loss": 1 + left,
        }
        ledger.add_epoch(key, epoch, metrics, timing if method != "random" else {"seconds": 1.0}, at=float(epoch))
    test = {"test/linear": level} if purpose != "search" else {}
    payload = (
        {"test": test, "info": info} if state == "finished" else {"epoch": epochs // 2, "step": 1, "reason": "NaN"}
    )
    ledger.add_event(state, key, **payload)
