"""The ranks of one trial: this process is rank 0 and starts the others.

Every rank makes the same attempt on its share of each batch (lejepa/trainer.py); rank 0 alone reports and writes. Where
rank 0 has a place on Ray, they are actors in the other bundles of its placement group, on whatever node those lie; else
processes beside it, and `python -m harness.team` is one of them. Either way they see the GPUs that the trial was
granted, and die with rank 0.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.attempt import Order

_GRACE = 10.0  # seconds for rank 0 to notice by itself that another rank has failed; on NCCL it may never


@contextmanager
def team(order: Order) -> Iterator[None]:
    """The ranks 1 to order.ranks − 1 run beside what is inside, and end with it.

    What another rank has raised is raised here. On Ray, this process ends where another rank's has died: a new worker
    goes on with the trial.
    """
    if order.ranks == 1:
        yield
        return
    group = _placement_group()
    with _processes(order) if group is None else _actors(order, group):
        yield


def _follow(order: Order, rank: int, where: str) -> None:
    """Take part in an attempt, to its end."""
    from harness.attempt import lejepa_trainer, restored
    from lejepa.ranks import joined

    with joined(where, rank, order.ranks, order.config["device"]):
        attempt = restored(order, lejepa_trainer)
        while True:
            try:
                next(attempt)
            except StopIteration as ready:
                training = ready.value
                break
        for _ in training:
            pass
        if order.reads_test:
            training.test()


# -- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def _processes(order: Order) -> Iterator[None]:
    from lejepa.ranks import joined

    with tempfile.TemporaryDirectory(prefix="harness-ranks-") as meeting, Path(order.log).open("a") as log:
        where = f"file://{meeting}/store"
        started: list[subprocess.Popen[str]] = []
        try:
            for rank in range(1, order.ranks):
                follower = subprocess.Popen(
                    [sys.executable, "-m", "harness.team"],
                    stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
                    start_new_session=True,  # a Ctrl-C is for rank 0, which ends its epoch first
                )  # fmt: skip
                started.append(follower)
                assert follower.stdin is not None
                json.dump({"order": asdict(order), "rank": rank, "where": where, "leader": os.getpid()}, follower.stdin)
                follower.stdin.close()
            with joined(where, 0, order.ranks, order.config["device"]):
                yield
        finally:
            for follower in started:
                follower.kill()
                follower.wait()


def _one_process() -> None:
    """Follow the order on stdin."""
    from harness.attempt import Order

    asked = json.load(sys.stdin)
    threading.Thread(target=_die_with, args=[asked["leader"]], daemon=True).start()
    os.environ["LOCAL_RANK"] = str(asked["rank"])
    _follow(Order(**asked["order"]), asked["rank"], asked["where"])


def _die_with(leader: int) -> None:
    """A rank that lost its leader would wait for it; on NCCL for half an hour."""
    while os.getppid() == leader:
        time.sleep(0.5)
    os._exit(1)


# -- actors -----------------------------------------------------------------------------------------------------------


def _placement_group() -> Any:
    """In which this process has its place; None where it has none, or no Ray."""
    ray = sys.modules.get("ray")
    return ray.util.get_current_placement_group() if ray is not None and ray.is_initialized() else None


@contextmanager
def _actors(order: Order, group: Any) -> Iterator[None]:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    from lejepa.ranks import joined

    where = f"tcp://{ray.util.get_node_ip_address()}:{_free_port()}"
    followers: list[Any] = []
    over = threading.Event()
    try:
        for rank in range(1, order.ranks):
            bundle = group.bundle_specs[rank]
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            granted = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0)}
            followers.append(ray.remote(_Follower).options(scheduling_strategy=place, **granted).remote())
        ranks = [follower.follow.remote(order, rank, where) for rank, follower in enumerate(followers, start=1)]
        threading.Thread(target=_watch, args=[ranks, over], daemon=True).start()
        with joined(where, 0, order.ranks, order.config["device"]):
            try:
                yield
            except Exception as error:
                _raise_of_others(ranks, error)
                raise
    finally:
        over.set()
        for follower in followers:
            ray.kill(follower)


class _Follower:
    """An actor that is one rank of one trial."""

    def follow(self, order: Order, rank: int, where: str) -> None:
        from harness.trainable import output_to

        with output_to(Path(order.log)):
            _follow(order, rank, where)


def _raise_of_others(ranks: list[Any], mine: Exception) -> None:
    """Of several ranks that fail the first one has the reason, and the others lost their connection to it."""
    import ray

    for failed in ray.wait(ranks, timeout=2.0)[0]:
        try:
            ray.get(failed)
        except ray.exceptions.RayActorError as error:
            _end(f"a rank has died: {error}")
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from mine


def _watch(ranks: list[Any], over: threading.Event) -> None:
    """End this process where another rank has failed and rank 0 waits for it all the same."""
    import ray

    while ranks and not over.is_set():
        done, ranks = ray.wait(ranks, timeout=1.0)
        try:
            ray.get(done)
        except ray.exceptions.RayError as error:
            if not over.wait(_GRACE):
                _end(f"a rank has failed, and this one waits for it: {error}")
            return


def _end(reason: str) -> None:
    print(reason, flush=True)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    _one_process()
