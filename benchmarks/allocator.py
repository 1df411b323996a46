"""What it is worth that a training keeps the memory that it frees (lejepa/allocator.py): with it and without, in turns.

    python benchmarks/allocator.py [--rounds 3] [--threads 1 2] [--precisions bf16 fp32] [--encoder small_resnet]

Every turn is a process of its own: four epochs of 12 steps of LeJEPA on CIFAR-10 (under $LEJEPA_DATA), batch 128, 2 + 6
views. Prints page faults and milliseconds of a step of the last epoch, and the peak of the process. Measures only.
"""

import argparse
import resource
import subprocess
import sys
import time

import torch
from machine import processor
from rich.console import Console
from rich.table import Table

from lejepa import allocator
from lejepa.config import TrainConfig
from lejepa.trainer import Trainer

EPOCHS, STEPS, BATCH = 4, 12, 128


def turn(keeps: str, encoder: str, precision: str, threads: str) -> None:
    """Prints faults a step, milliseconds a step, peak in MB."""
    if keeps == "without":
        allocator.keep = lambda: None
    trainer = Trainer(TrainConfig.model_validate({
        "data": {"name": "cifar10"}, "views": {"global_views": 2, "local_views": 6}, "batch_size": BATCH, "epochs": 100,
        "encoder": {"name": encoder}, "precision": precision, "threads": threads, "device": "cpu",
        "method": {"name": "lejepa", "slices": 256},
    }))  # fmt: skip
    trainer._order = lambda: [torch.arange(BATCH)] * STEPS  # type: ignore[method-assign]
    trainer.steps_per_epoch = STEPS
    for _ in range(EPOCHS):
        faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        trainer._train()
        milliseconds = (time.perf_counter() - began) / STEPS * 1e3
    used = resource.getrusage(resource.RUSAGE_SELF)
    print((used.ru_minflt - faults) // STEPS, round(milliseconds), used.ru_maxrss // 1000)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", nargs="+", default=["1", "2"])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--encoder", default="small_resnet")
    parser.add_argument("--turn", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        turn(*given.turn)
        return
    table = Table("", "page faults a step", "ms a step", "peak, MB", title=f"{processor()}, torch {torch.__version__}")
    for precision in given.precisions:
        for threads in given.threads:
            found: dict[str, list[list[str]]] = {"without": [], "with": []}
            for _ in range(given.rounds):
                for keeps, seen in found.items():
                    again = [sys.executable, __file__, "--turn", keeps, given.encoder, precision, threads]
                    seen.append(subprocess.run(again, check=True, capture_output=True, text=True).stdout.split())
            for keeps, seen in found.items():
                columns = (", ".join(column) for column in zip(*seen, strict=True))
                table.add_row(f"{given.encoder}, {precision}, {threads} thread(s), {keeps}", *columns)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
