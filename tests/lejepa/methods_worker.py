"""One rank of test_ranks_losses.py: python methods_worker.py RANK FOLDER.

On this rank's half of the batch, reads every loss of a shared linear layer under DistributedDataParallel, and takes one
step of every method; writes values and averaged gradients to FOLDER/RANK.pt.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lejepa import losses
from lejepa.config import TrainConfig
from lejepa.methods import build_method
from lejepa.norms import synchronized
from lejepa.views import Views

WORLD, BATCH, FEATURES, DIM = 2, 24, 6, 10
CENTER = torch.linspace(-0.1, 0.1, DIM)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "vicreg": losses.vicreg,
    "barlow_twins": losses.barlow_twins,
    "nt_xent": lambda a, b: losses.nt_xent(a, b, temperature=0.2),
    "moco_v3": lambda a, b: losses.moco_v3(a, b, temperature=0.2),
    "byol": losses.byol,
    "simsiam": losses.simsiam,
    "dino": lambda a, b: losses.dino(a, b, center=CENTER, student_temp=0.5, teacher_temp=0.3),
    "masked_smooth_l1": lambda a, b: losses.masked_smooth_l1(a, b, beta=2.0),
}
OVER_THE_GLOBAL_BATCH = ("vicreg", "barlow_twins", "nt_xent")
TOGETHER = (*OVER_THE_GLOBAL_BATCH, "moco_v3")  # ask the other ranks for something
METHODS = ("vicreg", "barlow_twins", "simclr", "moco_v3", "byol", "simsiam", "dino", "supervised")


def inputs() -> tuple[Tensor, nn.Linear]:
    """Two views (2, BATCH, FEATURES), the halves of the batch unlike each other, and a layer that spreads unevenly."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(FEATURES, DIM, bias=False)
    layer.weight = nn.Parameter(torch.randn(DIM, FEATURES, generator=generator))
    images = torch.randn(BATCH, FEATURES, generator=generator) * torch.linspace(0.5, 2, BATCH).unsqueeze(1)
    return images + 0.7 * torch.randn(2, BATCH, FEATURES, generator=generator), layer


def readings(views: Tensor, layer: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Value of each loss on views (2, n, FEATURES), and the gradient of the layer's weight."""
    weight = next(iter(layer.parameters()))
    found = {}
    for name, loss in LOSSES.items():
        weight.grad = None
        z1, z2 = layer(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        value = loss(z1, z2)
        value.backward()
        found[name] = value.detach(), weight.grad.clone()
    return found


def steps(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    """Of each method: the loss, the first layer's gradient, the next loss, DINO's center."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, BATCH, 1, 8, 8, generator=generator)
    labels = torch.arange(BATCH).chunk(world)[rank] % 10
    mine = images.chunk(world, dim=1)[rank]
    found = {}
    for name in METHODS:
        config = TrainConfig.model_validate(
            {
                "method": {"name": name} | ({"prototypes": 16} if name == "dino" else {}),
                "encoder": {"name": "small_resnet", "width": 8},
                "projector": {"hidden": 16, "dim": 8, "norm": "batch"},
                "data": {"size": 8},
            }
        )
        torch.manual_seed(0)
        method = build_method(config, channels=1, classes=10)
        learner = DistributedDataParallel(synchronized(method)) if world > 1 else method
        method.labels = labels
        method.train()
        views = Views(mine[:2], mine[2:] if name == "dino" else mine[:0])
        loss = learner(views, 0)["loss"]
        loss.backward()
        gradient = next(iter(method.encoder.parameters())).grad
        method.after_step(0, 10)
        found[name] = {"loss": loss.detach(), "gradient": gradient, "next": learner(views, 1)["loss"].detach()}
        if name == "dino":
            found[name]["center"] = method.center.clone()
    return found


def run(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    views, layer = inputs()
    found = dict[str, object](readings(views.chunk(WORLD, dim=1)[rank], DistributedDataParallel(layer)))
    found["refused"] = []
    for name in TOGETHER:
        uneven = torch.ones(4 + rank, DIM)
        try:
            LOSSES[name](uneven, uneven)
        except ValueError as error:
            found["refused"] += [str(error)]
    found["methods"] = steps(rank, WORLD)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(int(sys.argv[1]), Path(sys.argv[2]))
