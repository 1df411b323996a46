"""What plain attention saves on a CPU: a training step with torch's fused attention kernel, and without it.

    python benchmarks/attention.py [--steps 3] [--rounds 4] [--threads 1]

The methods on ViTs by their CPU recipes (lejepa/recipes.py) on drawn images. Both kinds take turns within one run;
seconds are of the best turn. Measures, never asserts.
"""

import argparse
import os
import platform
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lejepa import attention
from lejepa.config import TrainConfig
from lejepa.methods import build_method
from lejepa.recipes import recipe
from lejepa.views import Multicrop

METHODS = ("ijepa", "mae", "data2vec")


def step_of(config: TrainConfig, fused: bool) -> Any:
    torch.manual_seed(0)
    method = build_method(config, 3, 10).train()
    if not fused:
        attention.plain(method)
    multicrop = Multicrop(method.views(), config.data.size, torch.full((3,), 0.5), torch.full((3,), 0.25))
    images = torch.randint(0, 256, (config.batch_size, 3, 32, 32), dtype=torch.uint8)
    views = multicrop(images, torch.arange(config.batch_size))

    def step() -> None:
        method.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            method(views, 0)["loss"].backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table(title=f"forward and backward, {options.threads} thread(s), n = {options.rounds} turns of "
                  f"{options.steps} steps, torch {torch.__version__}, {os.cpu_count()} cores, {platform.machine()}",
                  title_justify="left")  # fmt: skip
    for column in ("method", "precision", "fused, s", "plain, s", "plain / fused"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name in METHODS:
        for precision in ("bf16", "fp32"):
            config = TrainConfig.model_validate({**recipe(name, "cpu"), "precision": precision})
            steps = {fused: step_of(config, fused) for fused in (True, False)}
            best = dict.fromkeys(steps, float("inf"))
            for step in steps.values():
                step()
            for _ in range(options.rounds):
                for fused, step in steps.items():
                    start = time.perf_counter()
                    for _ in range(options.steps):
                        step()
                    best[fused] = min(best[fused], (time.perf_counter() - start) / options.steps)
            table.add_row(name, precision, f"{best[True]:.2f}", f"{best[False]:.2f}", f"{best[False] / best[True]:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
