"""What SIGReg costs: forward and backward, against other formulations and against the bare projections.

    python benchmarks/sigreg.py [--sizes VxNxDxM ...] [--threads 1 2] [--rounds 15] [--compiled official sliced]
                                [--device cuda]
    python benchmarks/sigreg.py --figure docs/figures/slices.svg

Rows: `projections`, the two matrix products that no sliced test can do without (the floor); `official`, the formulation
of the paper's package with its N × M × knots arrays; `lightly`, where it is installed (extra `bench`); `sliced` and
`exact`, ours; on a GPU, where `sliced` goes through Triton, also `sliced, no Triton`. --compiled adds rows
under torch.compile (`sliced` takes minutes to start, for nothing). All rows of a size are measured in turns within one
run; on one thread times are the process's CPU time, which other processes disturb least, else the clock's. Peak memory
is what a step allocates at most beyond its input; cold start is the first call by the clock, with the compilation of
kernels that are not yet in their cache. Measures, never asserts. --figure draws instead how value and gradient of the
slices scatter around their exact limit.
"""

import argparse
import inspect
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import processor
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import profile

from lejepa.harmonics import Harmonics
from lejepa.sigreg import EppsPulley, SIGReg

Step = Callable[[Tensor], object]
SIZES = ["8x128x128x1024", "2x256x64x256", "2x512x256x1024", "2x1024x128x1024"]
CUDA_SIZES = [*SIZES, "8x512x512x4096"]
FLOOR, OURS = "projections", "sliced"


def official(slices: int, device: str) -> Callable[[Tensor], Tensor]:
    """cos and sin of an (…, N, M, knots) array, the trapezoid rule on [0, 3] doubled."""
    t = torch.linspace(0, 3, 17, device=device)
    phi = torch.exp(-t.square() / 2)
    weight = torch.full_like(t, 2 * 3 / 16)
    weight[[0, -1]] /= 2

    def loss(z: Tensor) -> Tensor:
        directions = torch.nn.functional.normalize(torch.randn(z.shape[-1], slices, device=device), dim=0)
        angles = (z @ directions).unsqueeze(-1) * t
        gap = (angles.cos().mean(-3) - phi).square() + angles.sin().mean(-3).square()
        return ((gap @ (weight * phi)) * z.shape[-2]).mean()

    return loss


def projections(slices: int, device: str) -> Step:
    def step(z: Tensor) -> Tensor:
        with torch.no_grad():
            directions = torch.randn(z.shape[-1], slices, device=device)
            return (z @ directions) @ directions.t()

    return step


class WithoutTriton(EppsPulley):
    """Evaluated by torch's own operations on any device."""

    def harmonics(self, n: int, like: Tensor) -> Harmonics:
        return Harmonics(self.t, self.phi, self.weight, n, n, like)


def forward_and_backward(loss: Callable[[Tensor], Tensor]) -> Step:
    return lambda z: loss(z).backward()


def steps(slices: int, compiled: list[str], device: str) -> dict[str, Step]:
    sliced, exact = SIGReg(slices), SIGReg("exact")
    found: dict[str, Step] = {
        FLOOR: projections(slices, device),
        "official": forward_and_backward(official(slices, device)),
        OURS: forward_and_backward(lambda z: sliced(z, step=0)),
        "exact": forward_and_backward(lambda z: exact(z, step=0)),
    }
    if device == "cuda":
        plain = SIGReg(slices, WithoutTriton())
        found["sliced, no Triton"] = forward_and_backward(lambda z: plain(z, step=0))
    try:
        from lightly.loss import SIGReg as Lightly
    except ImportError:
        pass
    else:
        found["lightly"] = forward_and_backward(Lightly(num_vectors=slices).to(device))
    if "official" in compiled:
        found["official, compiled"] = forward_and_backward(torch.compile(official(slices, device)))
    if "sliced" in compiled:
        traced = torch.compile(inspect.unwrap(SIGReg.forward))  # the loss by itself asks the compiler to leave it alone
        found["sliced, compiled"] = forward_and_backward(lambda z: traced(sliced, z, step=0))
    return found


def seconds(step: Step, z: Tensor, clock: Callable[[], float] = time.perf_counter) -> float:
    x = z.clone().requires_grad_()
    wait(z)
    start = clock()
    step(x)
    wait(z)
    return clock() - start


def wait(z: Tensor) -> None:
    if z.is_cuda:
        torch.cuda.synchronize()


def peak_megabytes(step: Step, z: Tensor) -> float:
    """The high-water mark of torch's allocations in one step, the gradient among them."""
    x = z.clone().requires_grad_()
    if z.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(x)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(profile_memory=True) as profiler:
        step(x)
    now = peak = 0
    assert profiler.profiler is not None
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak / 1e6


def measure(size: str, threads: int, rounds: int, compiled: list[str], device: str) -> Table:
    views, n, dim, slices = (int(part) for part in size.split("x"))
    torch.set_num_threads(threads)
    z = torch.randn(views, n, dim, device=device)
    rows = steps(slices, compiled, device)
    cold = {name: seconds(step, z) for name, step in rows.items()}
    peak = {name: peak_megabytes(step, z) for name, step in rows.items()}
    clock = time.process_time if threads == 1 and device == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, step in rows.items():
            times[name].append(seconds(step, z, clock) * 1e3)
    best, middle = ({name: of(t) for name, t in times.items()} for of in (min, statistics.median))

    projected = views * n * slices * 4 / 1e6
    where = "GPU" if device == "cuda" else f"{threads} thread(s)"
    table = Table(title=f"(V, N, D, M) = ({views}, {n}, {dim}, {slices}), {where}, n = {rounds}; "
                  f"projected embeddings {projected:.1f} MB", title_justify="left")  # fmt: skip
    for column in ("", "median ms", "minimum ms", "× sliced", "× floor", "peak MB", "cold start s"):
        table.add_column(column, justify="right" if column else "left")
    for name in sorted(rows, key=middle.__getitem__):
        table.add_row(
            name, f"{middle[name]:.2f}", f"{best[name]:.2f}", f"{best[name] / best[OURS]:.2f}",
            f"{best[name] / best[FLOOR]:.2f}", f"{peak[name]:.1f}", f"{cold[name]:.2f}",
        )  # fmt: skip
    return table


def draw_slices(path: Path) -> None:
    """Value and gradient error against slices, 100 draws each, for embeddings on their way to N(0, I)."""
    from matplotlib import pyplot as plt

    torch.set_num_threads(1)
    n, dim, counts, draws = 128, 128, [16, 32, 64, 128, 256, 512, 1024, 2048, 4096], 100
    normal = torch.randn(1, n, dim, generator=torch.Generator().manual_seed(0))
    scales = torch.logspace(0.5, -0.5, dim)
    samples = {"isotropic Gaussian": normal, "dims' deviations from 3.2 to 0.32": normal * scales}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (name, z), colour in zip(samples.items(), ("#0072b2", "#d55e00"), strict=True):
        exact, gradient = value_and_gradient(SIGReg("exact"), z, 0)
        readings = [[value_and_gradient(SIGReg(m), z, step) for step in range(draws)] for m in counts]
        values = torch.tensor([[value for value, _ in reading] for reading in readings]).double() / exact
        errors = [statistics.mean(float((g - gradient).norm() / gradient.norm()) for _, g in r) for r in readings]
        left.fill_between(counts, *(values.quantile(q, 1) for q in (0.05, 0.95)), color=colour, alpha=0.25)
        left.plot(counts, values.mean(1), color=colour, label=f"{name}: exact {exact:.3f}")
        right.plot(counts, errors, "o-", color=colour, label=name)
    left.axhline(1, color="black", linewidth=0.8)
    left.set(
        xscale="log", xlabel="slices M", ylabel="SIGReg / exact value", title="value: mean and 5–95 % of 100 draws"
    )
    right.set(xscale="log", yscale="log", xlabel="slices M", ylabel="‖∇ − ∇exact‖ / ‖∇exact‖", title="gradient, mean")
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def value_and_gradient(sigreg: SIGReg, z: Tensor, step: int) -> tuple[float, Tensor]:
    x = z.clone().requires_grad_()
    value = sigreg(x, step=step)
    return value.item(), torch.autograd.grad(value, x)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", metavar="VxNxDxM")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compiled", nargs="+", default=[], choices=["official", "sliced"], help="under torch.compile")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--figure", type=Path, metavar="SVG", help="draw slices against the exact limit, and end")
    chosen = parser.parse_args()
    if chosen.figure:
        draw_slices(chosen.figure)
        return
    console = Console(width=110)
    gpu = chosen.device == "cuda"
    machine = torch.cuda.get_device_name() if gpu else f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"
    console.print(f"{machine}, torch {torch.__version__}; ratios of minima")
    for threads in chosen.threads:
        for size in chosen.sizes or (CUDA_SIZES if gpu else SIZES):
            console.print(measure(size, threads, chosen.rounds, chosen.compiled, chosen.device))


if __name__ == "__main__":
    main()
