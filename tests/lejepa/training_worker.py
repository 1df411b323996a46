"""One rank of test_ranks_training.py: python training_worker.py RANK WORLD FOLDER.

Trains every one of RUNS and writes what it saw to FOLDER/<rank>.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from lejepa import ranks
from lejepa.config import TrainConfig
from lejepa.trainer import Trainer

BASE: dict[str, Any] = {
    "method": {"name": "lejepa", "slices": 64},
    "encoder": {"name": "small_resnet", "width": 8},
    "projector": {"hidden": 32, "dim": 16},
    "data": {"name": "digits", "size": 16, "limit": 300},
    "optimizer": {"name": "sgd", "lr": 1e-3},
    "probe": {"draws": 3},
    "epochs": 2,
    "batch_size": 64,
    "device": "cpu",
}
VIT = {"name": "small_vit", "width": 64, "depth": 1, "patch": 4}
RUNS: dict[str, dict[str, Any]] = {
    "lejepa": BASE,
    "exact, adamw": BASE | {"method": {"name": "lejepa", "slices": "exact"}, "optimizer": {"lr": 1e-3}},
    "teacher": BASE | {"method": {"name": "lejepa", "slices": 64, "teacher": 0.9, "centre": "all"}},
    "averaged": BASE | {"average": 0.9},
    "vit in parts": BASE | {"encoder": VIT, "accumulate": 2},
    "ijepa": BASE
    | {
        "method": {"name": "ijepa", "predictor_width": 32, "predictor_depth": 1, "min_keep": 1},
        "encoder": VIT,
        "data": {"name": "digits", "size": 16, "limit": 300},
    },
}


def train(name: str, folder: Path) -> dict[str, Any]:
    """All metrics and the norms of the evaluated weights; after the first epoch another trainer takes over."""
    torch.set_num_threads(1)
    config = TrainConfig.model_validate(RUNS[name])
    next(iter(Trainer(config, folder)))
    if ranks.world_size() > 1:
        torch.distributed.barrier()  # rank 0 has written
    trainer = Trainer(config, folder)
    assert trainer.load()
    list(trainer)
    state = trainer.evaluation.method.state_dict()
    weights = {k: v.double().norm().item() for k, v in state.items() if v.is_floating_point()}
    return {"metrics": [r.metrics for r in trainer.reports], "weights": weights, "test": trainer.test()}


def train_all(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: train(name, folder / name) for name in RUNS}


if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with ranks.joined(f"file://{folder}/meeting", rank, world):
        (folder / f"{rank}.json").write_text(json.dumps(train_all(folder)))
