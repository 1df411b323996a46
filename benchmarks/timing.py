"""Table T6 of the LeJEPA paper: the time of SIGReg by samples N, slices M and quadrature points.

    python benchmarks/timing.py [--quick] [--device cuda] [--threads 1] [--rounds 10] [--dim 128]

The table's embedding dim is not stated, nor whether it has the backward pass, and its V100 is another machine: what can
be compared is how the time grows. So every time also stands as a multiple of the first row's, and the last line has the
exponents of N. Rows are measured in turns; one thread on a CPU in CPU time, all else by the clock. Measures, never
asserts.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import yaml
from machine import processor
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lejepa.sigreg import EppsPulley, SIGReg

PUBLISHED = Path(__file__).parent.parent / "sweeps" / "paper" / "published.yaml"
QUICK = 1 << 21  # samples × slices at most


@dataclass(frozen=True)
class Row:
    n: int
    slices: int
    knots: int
    published: float  # ms

    @property
    def label(self) -> tuple[str, str, str]:
        return f"{self.n:,}", f"{self.slices:,}", str(self.knots)


def rows() -> list[Row]:
    """The table's rows, with the mean of its ten runs."""
    table = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))["tables"]["T6"]
    return [Row(n, slices, knots, mean) for n, slices, knots, (mean, _) in table["rows"]]


def forward(loss: SIGReg, z: Tensor) -> None:
    with torch.no_grad():
        loss(z, step=0)


def forward_and_backward(loss: SIGReg, z: Tensor) -> None:
    loss(z.requires_grad_(), step=0).backward()


def milliseconds(step: Callable[[Tensor], None], z: Tensor, clock: Callable[[], float]) -> float:
    x = z.clone()
    wait(z)
    start = clock()
    step(x)
    wait(z)
    return (clock() - start) * 1e3


def wait(z: Tensor) -> None:
    if z.is_cuda:
        torch.cuda.synchronize()


def measure(
    chosen: list[Row], passes: list[Callable[[SIGReg, Tensor], None]], dim: int, rounds: int, device: str
) -> list[list[float]]:
    """Median milliseconds of every row and pass, after one that warms up."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    samples = {n: torch.randn(1, n, dim, device=device) for n in {row.n for row in chosen}}
    losses = [SIGReg(row.slices, EppsPulley(knots=row.knots)).to(device) for row in chosen]
    times: list[list[list[float]]] = [[[] for _ in passes] for _ in chosen]
    for turn in range(rounds + 1):
        for row, loss, found in zip(chosen, losses, times, strict=True):
            for run, kept in zip(passes, found, strict=True):
                taken = milliseconds(partial(run, loss), samples[row.n], clock)
                if turn:
                    kept.append(taken)
    return [[statistics.median(kept) for kept in found] for found in times]


def exponent(chosen: list[Row], times: list[float]) -> float:
    """Least-squares slope of log time against log N, where slices and knots are the first row's."""
    same = [i for i, row in enumerate(chosen) if (row.slices, row.knots) == (chosen[0].slices, chosen[0].knots)]
    return statistics.linear_regression([math.log(chosen[i].n) for i in same], [math.log(times[i]) for i in same]).slope


def table(chosen: list[Row], columns: dict[str, list[float]], title: str) -> Table:
    shown = Table(title=title, title_justify="left")
    for heading in ("N", "slices M", "points", *(part for name in columns for part in (name, "× first"))):
        shown.add_column(heading, justify="right")
    for i, row in enumerate(chosen):
        cells = [text for times in columns.values() for text in (f"{times[i]:.2f}", f"{times[i] / times[0]:.1f}")]
        shown.add_row(*row.label, *cells)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only where N × M is {QUICK:,} or less, three rounds")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dim", type=int, default=128, help="of the embeddings")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rounds = 3 if chosen.quick else chosen.rounds
    picked = [row for row in rows() if not chosen.quick or row.n * row.slices <= QUICK]

    times = measure(picked, [forward, forward_and_backward], chosen.dim, rounds, chosen.device)
    once, both = (list(column) for column in zip(*times, strict=True))
    columns = {"forward, ms": once, "and backward, ms": both, "published, ms": [row.published for row in picked]}
    where = torch.cuda.get_device_name() if chosen.device == "cuda" else f"{processor()}, {chosen.threads} thread(s)"
    console = Console(width=110)
    console.print(
        table(picked, columns, f"{where}, torch {torch.__version__}, D = {chosen.dim}, n = {rounds}, medians")
    )
    slopes = ", ".join(f"{name.removesuffix(', ms')} {exponent(picked, of):.2f}" for name, of in columns.items())
    console.print(f"exponent of N: {slopes}")


if __name__ == "__main__":
    main()
