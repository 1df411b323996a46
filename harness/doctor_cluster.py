"""What a sweep on several nodes stands on: every node answers, runs the same code, and reads what the others write."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.doctor import FAIL, PASS, WARN, Finding
from harness.pool import Placement, PoolError

_PATIENCE = 120.0  # seconds for the first process on a node
_CACHED = 5.0  # seconds after which a network file system shows what another node has written


def examine_cluster(where: Placement, runs: Path) -> Iterator[Finding]:
    """where: the Ray that is asked; its pools, of which there may be none, are tried on it. runs: where sweeps have
    their folders, by the path under which every node must see it. Trains nothing, and takes away what it writes. Raises
    PoolError where no Ray answers.
    """
    import ray

    from harness.executors import connect

    connect(where.address)
    try:
        if where.address != "local":
            yield from _nodes(runs)
        if where.pools:
            yield places(where)
    finally:
        ray.shutdown()


def places(where: Placement) -> Finding:
    """Whether the Ray that this process is connected to has a place for every pool, and how many."""
    from harness.executors import RayExecutor

    try:
        with RayExecutor(where) as executor:
            counted = executor.places
    except PoolError as error:
        return Finding("pools", FAIL, str(error))
    at_once = [f"{name} {count} of {where.pools[name].max_concurrent}" for name, count in counted.items()]
    total = f", all together at most {where.most}" if len(counted) > 1 else ""
    few = any(count < where.pools[name].max_concurrent for name, count in counted.items())
    fewer = "; CPUs, GPUs or memory hold no more than that of max_concurrent" if few else ""
    return Finding("pools", WARN if few else PASS, f"trials at once: {', '.join(at_once)}{total}{fewer}")


def _nodes(runs: Path) -> Iterator[Finding]:
    import ray

    nodes = {node["NodeID"]: _name(node) for node in ray.nodes() if node["Alive"]}
    told = _on_every_node(nodes, _describe)
    yield Finding("cluster", PASS, f"{len(nodes)} nodes: {', '.join(nodes.values())}")
    yield same_code({nodes[node]: found for node, found in told.items()})
    yield from _storage(nodes, runs)


def same_code(told: Mapping[str, Any]) -> Finding:
    """told: node → what `_describe` found there, or the error that it met."""
    broken = {name: found for name, found in told.items() if isinstance(found, Exception)}
    if broken:
        error = next(iter(broken.values()))
        return Finding("code", FAIL, f"{', '.join(broken)}: cannot load the harness ({_line(error)}); install the same "
                                     "version on every node")  # fmt: skip
    if len({tuple(found) for found in told.values()}) > 1:
        shown = "; ".join(f"{name}: lejepa {code[:12]}, torch {torch}" for name, (code, torch) in told.items())
        return Finding("code", FAIL, f"nodes differ, and so would their trials: {shown}")
    code, torch = next(iter(told.values()))
    return Finding("code", PASS, f"lejepa {code[:12]}, torch {torch} on every node")


def shared(wrote: Mapping[str, Any], saw: Mapping[str, Any], runs: Path) -> Finding:
    """wrote: node → the name of its file, or the error. saw: node → the names that it sees, or the error."""
    failed = {name: found for name, found in {**saw, **wrote}.items() if isinstance(found, Exception)}
    lost = "checkpoints have to be on storage that all share: a trial whose node is lost would start from epoch 0"
    if failed:
        shown = "; ".join(f"{name}: {_line(error)}" for name, error in failed.items())
        return Finding("storage", FAIL, f"{runs} cannot be used on {shown}. {lost}")
    blind = {reader: [writer for writer, file in wrote.items() if file not in names] for reader, names in saw.items()}
    if any(blind.values()):
        shown = "; ".join(f"{reader} does not see what {', '.join(to)} writes" for reader, to in blind.items() if to)
        return Finding("storage", FAIL, f"{runs} is not the same folder everywhere: {shown}. {lost}")
    if len(wrote) == 1:
        return Finding("storage", WARN, f"there is one node, and it reads what it writes in {runs}")
    return Finding("storage", PASS, f"each of {len(wrote)} nodes reads what the others write in {runs}")


def _storage(nodes: Mapping[str, str], runs: Path) -> Iterator[Finding]:
    runs.mkdir(parents=True, exist_ok=True)
    meeting = Path(tempfile.mkdtemp(prefix=".doctor-", dir=runs.absolute()))
    try:
        wrote = _on_every_node(nodes, _write, str(meeting))
        files = {file for file in wrote.values() if isinstance(file, str)}
        saw = _on_every_node(nodes, _read, str(meeting), files)
        yield shared({nodes[n]: found for n, found in wrote.items()}, {nodes[n]: found for n, found in saw.items()},
                     runs.absolute())  # fmt: skip
    finally:
        _on_every_node(nodes, _clean, str(meeting))


def _on_every_node(nodes: Mapping[str, str], task: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Node id → what the task returned there, or the exception."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {
        node: ray.remote(num_cpus=0, max_retries=0)(task)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(*arguments)
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE)
    found: dict[str, Any] = {}
    for node, reference in asked.items():
        try:
            found[node] = ray.get(reference, timeout=0.1)
        except ray.exceptions.RayError as error:
            found[node] = error
    return found


def _describe() -> tuple[str, str]:
    from importlib import metadata

    from harness.trials import code_hash

    return code_hash(), metadata.version("torch")


def _write(meeting: str) -> str:
    """A file of this node's own. The folder is not made: where it is not there, the storage is not shared."""
    import ray

    name = str(ray.get_runtime_context().get_node_id())
    with (Path(meeting) / name).open("w") as file:
        file.write(name)
        file.flush()
        os.fsync(file.fileno())
    return name


def _read(meeting: str, files: set[str]) -> set[str]:
    until = time.monotonic() + _CACHED
    while True:
        names = {file.name for file in Path(meeting).iterdir() if file.read_text() == file.name}
        if names >= files or time.monotonic() > until:
            return names
        time.sleep(0.2)


def _clean(meeting: str) -> None:
    shutil.rmtree(meeting, ignore_errors=True)


def _name(node: Mapping[str, Any]) -> str:
    """As people tell nodes apart; those of one machine, which only tests have, by their ids."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "cause", None) or error).split())[:200]
