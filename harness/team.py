"""The ranks of one trial: this process is rank 0 and starts the others beside it, on the same machine.

Every rank makes the same attempt on its share of each batch (lejepa/trainer.py); rank 0 alone reports and writes. Ranks
are processes and not Ray actors: so they are the same on either executor, see the GPUs that the trial was granted,
and die with rank 0. `python -m harness.team` is one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.attempt import Order


@contextmanager
def team(order: Order) -> Iterator[None]:
    """The ranks 1 to order.ranks − 1 run beside what is inside, and end with it."""
    if order.ranks == 1:
        yield
        return
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


def _follow() -> None:
    """Take part in the attempt that stdin describes, to its end."""
    asked = json.load(sys.stdin)
    threading.Thread(target=_die_with, args=[asked["leader"]], daemon=True).start()
    from harness.attempt import Order, lejepa_trainer, restored
    from lejepa.ranks import joined

    order = Order(**asked["order"])
    os.environ["LOCAL_RANK"] = str(asked["rank"])
    with joined(asked["where"], asked["rank"], order.ranks, order.config["device"]):
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


def _die_with(leader: int) -> None:
    """A rank that lost its leader would wait for it; on NCCL for half an hour."""
    while os.getppid() == leader:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    _follow()
