"""One rank of test_distributed.py: python distributed_worker.py RANK FOLDER.

Trains nothing: the losses of a shared linear layer under DistributedDataParallel, first with 4 ranks, then with 2.
Writes what each loss read and what the layer's averaged gradient was to FOLDER/<world>-<rank>.pt.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lejepa.gaussianity import (
    AndersonDarling,
    CramerVonMises,
    ExtendedJarqueBera,
    Moments,
    ShapiroWilk,
    VCReg,
    VICReg,
    Watson,
)
from lejepa.losses import lejepa
from lejepa.sigreg import EppsPulley, SIGReg

TESTS = [AndersonDarling, CramerVonMises, Watson, ExtendedJarqueBera, ShapiroWilk, VCReg, VICReg, Moments]
VIEWS, BATCH, FEATURES, DIM, STEP = 3, 48, 6, 10, 7
# built before any process group exists: the world is looked at when they are called
LOSSES: dict[str, nn.Module] = {
    "sliced": SIGReg(200, seed=3),
    "exact": SIGReg("exact"),
    "pooled": SIGReg(100, sample="pooled"),
    "columns": SIGReg(50, nn.Sequential(EppsPulley())),  # the statistic by itself, behind a projection
    **{test.__name__: SIGReg(50, test()) for test in TESTS},
}


def readings(views: torch.Tensor, layer: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Value of each loss on views (V, n, FEATURES), and the gradient of the layer's weight."""
    weight = next(iter(layer.parameters()))
    found = {}
    for name, sigreg in LOSSES.items():
        weight.grad = None
        z = layer(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        value = lejepa(z, n_global=2, lamb=0.5, sigreg=sigreg, step=STEP)
        regularization = sigreg(z.detach(), step=STEP)
        value.backward()
        found[name] = regularization, weight.grad.clone()
    return found


def inputs() -> tuple[torch.Tensor, nn.Linear]:
    """The global batch (V, BATCH, FEATURES) and a layer that spreads it unevenly."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(FEATURES, DIM, bias=False)
    layer.weight = nn.Parameter(torch.randn(DIM, FEATURES, generator=generator))
    return torch.randn(VIEWS, BATCH, FEATURES, generator=generator) + 0.3, layer


def run(rank: int, world: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store-{world}", rank=rank, world_size=world)
    views, layer = inputs()
    mine = views.chunk(world, dim=1)[rank]
    found = dict[str, object](readings(mine, DistributedDataParallel(layer)))
    found["directions"] = SIGReg(20, seed=3).directions(DIM, step=STEP)
    found["refused"] = []
    for sigreg in LOSSES.values():
        try:
            sigreg(torch.zeros(1, 8 + 2 * (rank == 0), DIM), step=0)
        except ValueError as error:
            found["refused"] += [str(error)]
    torch.save(found, folder / f"{world}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    own, out = int(sys.argv[1]), Path(sys.argv[2])
    run(own, 4, out)
    if own < 2:
        run(own, 2, out)
