"""Which test repairs a hidden fault, and with which directions? A study on synthetic data; it measures, never asserts.

    python benchmarks/repair.py [--seeds 5]

The fault (LeJEPA paper, Figs. 6 and 16): N points in D dimensions, all independent and Gaussian but for the first two
coordinates, which lie on a cross, x₂ = ±x₁. Each marginal is N(0, 1) and the covariance is I, so only a test that sees
more than two moments in more than one coordinate can find it. The points themselves are then moved by Adam along the
gradient of SIGReg with one statistic. Read before and after: the exact SIGReg of the plane of the fault, about 1.05 for
Gaussian points (below: more regular than a sample). Moving points blindly also blurs the cross, so `noise` moves them
along random gradients with the same optimiser: a test repairs where it does better than that.

The second table fixes the directions at those of the first step or draws new ones at every step (paper, Fig. 7).
"""

import argparse
import math
import statistics
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lejepa.gaussianity import AndersonDarling, CramerVonMises, ExtendedJarqueBera, Moments, VCReg, Watson
from lejepa.sigreg import EppsPulley, SIGReg

N, SLICES, STEPS, RATE = 256, 64, 400, 0.05
DIMS, COUNTS = (2, 16, 128, 1024), (4, 16, 64, 256)
TESTS: dict[str, Callable[[], nn.Module]] = {
    "Epps–Pulley": EppsPulley,
    "Anderson–Darling": AndersonDarling,
    "Cramér–von Mises": CramerVonMises,
    "Watson": Watson,
    "extended Jarque–Bera": ExtendedJarqueBera,
    "moments": Moments,
    "VCReg": VCReg,
}
Loss = Callable[[Tensor, int], Tensor]
exact = SIGReg("exact")


def cross(dim: int, seed: int) -> Tensor:
    """(1, N, dim): Gaussian, but for the cross in the first two coordinates."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(1, N, dim, generator=generator)
    z[..., 1] = z[..., 0] * torch.where(torch.rand(N, generator=generator) < 0.5, -1.0, 1.0)
    return z


def moved(z: Tensor, loss: Loss) -> Tensor:
    """The points after STEPS of Adam with a cosine to zero."""
    z = z.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: (1 + math.cos(math.pi * s / STEPS)) / 2)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(z, step).backward()
        optimizer.step()
        schedule.step()
    return z.detach()


def sliced(statistic: nn.Module, seed: int, slices: int = SLICES, directions: str = "resampled") -> Loss:
    sigreg = SIGReg(slices, statistic, seed=seed, directions=directions)
    return lambda z, step: sigreg(z, step=step)


def blind(seed: int) -> Loss:
    generator = torch.Generator().manual_seed(seed)
    return lambda z, step: (z * torch.randn(z.shape, generator=generator)).sum()


def plane(z: Tensor) -> float:
    return float(exact(z[..., :2], step=0))


def whole(z: Tensor) -> float:
    return float(exact(z, step=0))


def cell(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def which_test(seeds: int, console: Console) -> None:
    table = Table(*["moved by", *(f"D = {dim}" for dim in DIMS)])
    table.title = f"plane of the fault after {STEPS} steps of {SLICES} resampled slices; mean ± deviation, n = {seeds}"
    table.add_row("nothing", *(cell([plane(cross(dim, seed)) for seed in range(seeds)]) for dim in DIMS))
    losses: dict[str, Callable[[int], Loss]] = {"noise": blind}
    losses |= {name: lambda seed, make=make: sliced(make(), seed) for name, make in TESTS.items()}
    for name, loss in losses.items():
        after = [cell([plane(moved(cross(dim, seed), loss(seed))) for seed in range(seeds)]) for dim in DIMS]
        table.add_row(name, *after)
    console.print(table)


def which_directions(seeds: int, console: Console, dim: int = 128) -> None:
    headings = [f"M = {m}" for m in COUNTS]
    table = Table("directions", "read in", *headings, title=f"Epps–Pulley, D = {dim}, {STEPS} steps, n = {seeds}")
    for read, where in ((plane, "plane of the fault"), (whole, "all directions")):
        before = cell([read(cross(dim, seed)) for seed in range(seeds)])
        table.add_row("none, before", where, *[before] * len(COUNTS))
        for directions in ("fixed", "resampled"):
            ends = [
                cell([read(moved(cross(dim, s), sliced(EppsPulley(), s, m, directions))) for s in range(seeds)])
                for m in COUNTS
            ]
            table.add_row(directions, where, *ends)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    console = Console(width=140)
    which_test(seeds, console)
    which_directions(seeds, console)


if __name__ == "__main__":
    main()
