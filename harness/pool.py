"""What the sweep's pools come to: where a trial goes, its config as it runs there, and how many places there are."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.place import Condition, parse
from harness.spec import Pool
from lejepa.config import TrainConfig

if TYPE_CHECKING:
    from harness.spec import SweepSpec


class PoolError(Exception):
    """The pool cannot be had; the message says what is asked for, what there is, and what to change."""


@dataclass(frozen=True)
class Placement:
    """The pools of a sweep, and which trials go to which."""

    pools: Mapping[str, Pool]  # by where the sweep file has them: `pool`, or `pools.NAME`
    rules: tuple[tuple[Condition, str], ...] = ()  # the first that holds decides; where none does, the first pool
    most: int = 1  # trials side by side, of all pools together
    # whether the list of trials is fixed: then all of it may wait for a place; else a wave of it, as a search that
    # learns asks best when it has heard the most
    listed: bool = True
    address: str = "local"  # of the Ray that is asked

    def name_of(self, config: TrainConfig, arm: str) -> str:
        first = next(iter(self.pools))
        return next((name for condition, name in self.rules if condition.holds(config, arm)), first)

    def pool_of(self, config: TrainConfig, arm: str) -> Pool:
        return self.pools[self.name_of(config, arm)]


def alone(pool: Pool) -> Placement:
    """Every trial in the one pool."""
    return Placement({"pool": pool}, most=pool.max_concurrent)


def placement(spec: SweepSpec) -> Placement:
    searching = any(arm.nuisance for arm in spec.arms.values())
    return Placement(
        {f"pools.{name}": pool for name, pool in spec.pools.items()} or {"pool": spec.pool},
        tuple((parse(rule.when), f"pools.{rule.pool}") for rule in spec.place),
        spec.pool.max_concurrent,
        not (searching and spec.search.sampler == "tpe") and spec.budget is None,
        spec.cluster.address,
    )


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


def visible_gpus() -> int:
    """GPUs of this machine, as its driver and CUDA_VISIBLE_DEVICES have them; torch need not be loaded."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return len([name for name in named.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


# -- what Ray is asked for --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What one trial is granted. Trials of equal shapes can follow each other on one worker."""

    cpus: int
    gpus: float
    ranks: int
    memory: int = 0  # bytes of the node, 0: not counted
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def shares_a_gpu(self) -> bool:
        return 0 < self.gpus < 1

    @property
    def bundle(self) -> dict[str, float]:
        """Ray's resources of one rank. Ray counts in ten-thousandths."""
        shares = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return {name: _floor(share / self.ranks, 4) for name, share in shares.items() if share}


def shape_in(pool: Pool, needed: int | None = None, gpu_bytes: int | None = None) -> Shape:
    """needed: bytes that the trial takes, where they are known. gpu_bytes: the size of a GPU of the pool.

    Raises harness.memory.MeasurementError where the trial does not fit on a GPU.
    """
    gpus, memory = pool.gpus, 0
    if needed is not None and pool.gpus and gpu_bytes is not None:
        from harness.memory import share

        gpus = share(needed, gpu_bytes)
    elif needed is not None and not pool.gpus:
        memory = needed
    return Shape(pool.cpus, gpus, pool.ranks, memory, pool.labels)


@dataclass(frozen=True)
class Node:
    """What one machine of the cluster has for trials."""

    cpus: float
    gpus: float = 0.0
    memory: float = math.inf  # bytes
    labels: Mapping[str, str] = field(default_factory=dict)


def places(shape: Shape, nodes: Iterable[Node]) -> int:
    """How many trials of this shape the nodes hold at once. Ranks of a trial may lie on several nodes."""
    return sum(_ranks_on(shape, node) for node in nodes if _has(node.labels, shape.labels)) // shape.ranks


def places_of(placement: Placement, shapes: Mapping[str, Shape], nodes: Iterable[Node]) -> dict[str, int]:
    """Pool → how many of its trials run at once. Raises PoolError where of some pool not even one fits."""
    nodes = list(nodes)
    found = {name: places(shape, nodes) for name, shape in shapes.items()}
    for name in (name for name, count in found.items() if count < 1):
        raise PoolError(_cannot_be_had(name, shapes[name], nodes))
    return {name: min(count, placement.pools[name].max_concurrent) for name, count in found.items()}


def _cannot_be_had(name: str, shape: Shape, nodes: list[Node]) -> str:
    asked = f"{shape.cpus} CPUs and {shape.gpus:g} GPUs" + (f" and {shape.memory:,} bytes" if shape.memory else "")
    fitting = [node for node in nodes if _has(node.labels, shape.labels)]
    if not fitting:
        labels = sorted({f"{key}: {value}" for node in nodes for key, value in node.labels.items()})
        own = [label for label in labels if not label.startswith("ray.io/")]
        return f"{name}: no node has the labels {dict(shape.labels)}; there are {', '.join(own) or 'none'}"
    cpus, gpus = sum(node.cpus for node in fitting), sum(node.gpus for node in fitting)
    room = f", of {max(node.memory for node in fitting):,.0f} bytes at most" if shape.memory else ""
    where = f"on {len(fitting)} nodes{room}" if len(fitting) > 1 else f"in all{room}"
    return (
        f"{name}: a trial asks for {asked}, and there are {cpus:g} CPUs and {gpus:g} GPUs {where}; "
        f"lower {name}.cpus or {name}.gpus" + (f" or {name}.memory" if shape.memory else "")
    )


def _ranks_on(shape: Shape, node: Node) -> int:
    bundle = shape.bundle
    fit: list[float] = [node.cpus / bundle["CPU"], node.memory / bundle["memory"] if "memory" in bundle else math.inf]
    if 0 < (gpus := bundle.get("GPU", 0)) < 1:
        fit.append(math.floor(node.gpus) * _floor(1 / gpus))  # a fraction never spans two GPUs
    elif gpus:
        fit.append(node.gpus / gpus)
    return int(_floor(min(fit)))


def _has(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node is one that Ray's label selector means: `value`, `!value`, `in(a,b)`, `!in(a,b)`."""
    for key, wanted in selector.items():
        several = re.fullmatch(r"!?in\((.*)\)", wanted)
        values = several[1].split(",") if several else [wanted.removeprefix("!")]
        if (labels.get(key) in [value.strip() for value in values]) == wanted.startswith("!"):
            return False
    return True


def _floor(x: Any, digits: int = 0) -> float:
    return math.floor(x * 10**digits + 1e-6) / 10**digits
