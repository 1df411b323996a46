"""What the sweep's `pool` comes to: the config as it runs in one of its places, and how many places there are."""

import math

from harness.spec import Pool
from lejepa.config import TrainConfig


class PoolError(Exception):
    """The pool cannot be had; the message says what is asked for, what there is, and what to change."""


def granted(config: TrainConfig, pool: Pool) -> TrainConfig:
    """The config with threads and device as a place of the pool grants them; none of this is in a trial's key.

    Raises PoolError where the config insists on CUDA and the pool grants no GPU, or its ranks cannot share a batch.
    """
    if config.device == "cuda" and not pool.gpus:
        raise PoolError("device: cuda needs a GPU for every trial, and pool.gpus is 0; set pool.gpus, e.g. to 1")
    if config.batch_size % pool.ranks or config.batch_size < 2 * pool.ranks:
        raise PoolError(
            f"batch_size {config.batch_size} cannot be shared equally by {pool.ranks} ranks (pool.ranks, pool.gpus)"
        )
    device = ("cuda" if pool.gpus else "cpu") if config.device == "auto" else config.device
    return config.model_copy(update={"threads": config.threads or pool.cpus // pool.ranks, "device": device})


def places(pool: Pool, cpus: float, gpus: float) -> int:
    """How many trials run at once on so many CPUs and GPUs in all. Raises PoolError where not even one fits."""
    by_cpu = math.floor(cpus / pool.cpus)
    if 0 < pool.gpus < 1:
        by_gpu: float = math.floor(gpus) * math.floor(1 / pool.gpus)  # a fraction never spans two GPUs
    else:
        by_gpu = math.floor(gpus / pool.gpus) if pool.gpus else math.inf
    if min(by_cpu, by_gpu) < 1:
        raise PoolError(
            f"pool: a trial asks for {pool.cpus} CPUs and {pool.gpus:g} GPUs, and there are {cpus:g} CPUs and "
            f"{gpus:g} GPUs in all; lower pool.cpus or pool.gpus"
        )
    return int(min(by_cpu, by_gpu, pool.max_concurrent))
