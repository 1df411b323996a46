"""One rank of test_ranks_switches.py: python switches_worker.py RANK FOLDER.

Takes a step of the masked methods and of `predictive` with its heuristics on this rank's half of the batch; writes the
loss, the averaged gradient of the encoder's first layer and the next loss to FOLDER/RANK.pt.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from lejepa.config import TrainConfig
from lejepa.methods import build_method
from lejepa.norms import synchronized
from lejepa.views import Views

WORLD, BATCH = 2, 24
VIT = {"name": "small_vit", "width": 64, "depth": 2, "patch": 2}
MASKED: dict[str, dict[str, Any]] = {
    "data2vec": {"name": "data2vec"},
    "mae": {"name": "mae", "decoder_width": 32, "decoder_depth": 1},
}
SWITCHES: dict[str, dict[str, Any]] = {
    "bare": {},
    "sigreg": {"sigreg": True},
    "byol": {"ema_teacher": True, "predictor": True, "normalisation": "layer"},
    "simsiam": {"stop_gradient": True, "predictor": True, "normalisation": "batch"},
    "whitening": {"normalisation": "whitening"},
    "negatives": {"negatives": True},
    "variance_covariance": {"variance_covariance": True},
}


def configs() -> dict[str, TrainConfig]:
    small = {"encoder": {"name": "small_resnet", "width": 8}, "projector": {"hidden": 16, "dim": 8}}
    masked = {name: {"method": method, "encoder": VIT} for name, method in MASKED.items()}
    switched = {
        name: small | {"method": {"name": "predictive", "heuristics": heuristics, "slices": 32}}
        for name, heuristics in SWITCHES.items()
    }
    return {name: TrainConfig.model_validate(c | {"data": {"size": 8}}) for name, c in (masked | switched).items()}


def steps(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    images = torch.randn(3, BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    mine = images.chunk(world, dim=1)[rank]
    found = {}
    for name, config in configs().items():
        torch.manual_seed(0)
        method = build_method(config, channels=1)
        learner = DistributedDataParallel(synchronized(method)) if world > 1 else method
        method.train()
        views = Views(mine[:1], mine[:0]) if name in MASKED else Views(mine[:2], mine[2:])
        loss = learner(views, 3)["loss"]
        loss.backward()
        gradient = next(p for p in method.encoder.parameters() if p.requires_grad).grad
        method.after_step(3, 10)
        found[name] = {"loss": loss.detach(), "gradient": gradient, "next": learner(views, 4)["loss"].detach()}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    torch.save(steps(rank, WORLD), folder / f"{rank}.pt")
    dist.destroy_process_group()
