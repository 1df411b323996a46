"""Sweeps that are disturbed at random moments, gone on with until they end, and judged.

    python -m tests.harness.chaos --rounds 100 --seed 1 [--ray-every 7] [--keep DIR]

A round is a sweep, where it runs, and one to three faults, all drawn from the seed and the round's number. Prints a
line per round and a summary; exits with 1 where a round broke a promise, and says which:

- Without adaptive parts the ledger is the undisturbed run's, but for times.
- With TPE and early stopping no trial is lost or doubled, pruned stays pruned, budgets hold.
- No epoch is trained twice, but for those in flight: one per place and fault, and what a damaged checkpoint held.
- MLflow has each trial once, in its state, and nothing is left running, once `sync` has been there.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import active_children
from pathlib import Path
from typing import Any

from harness.ledger import Ledger, LedgerError
from tests.harness import faults
from tests.harness.driver import epochs, mlflow_statuses, record
from tests.harness.fake import Fake
from tests.harness.faults import FORK

LAMB: dict[str, Any] = {"method.lamb": {"grid": [0.0, 0.05]}}
POOL = {"max_concurrent": 2}
GRID: dict[str, Any] = {
    "name": "chaos",
    "base": {"epochs": 4, "data": {"name": "digits", "size": 16}},
    "arms": {"lejepa": {"scientific": LAMB}, "random": {"base": {"method": {"name": "random"}}}},
    "seeds": 3,
    "pool": POOL,
}
SEARCH: dict[str, Any] = {
    "name": "chaos",
    "base": {"epochs": 9, "data": {"name": "digits", "size": 16}},
    "arms": {
        "lejepa": {"scientific": LAMB, "nuisance": {"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}}},
        "random": {"base": {"method": {"name": "random"}}},
    },
    "search": {"sampler": "tpe", "trials": 6},
    "stopping": {"name": "asha"},
    "confirm": {"top": 1, "seeds": [10]},
    "seeds": [0, 1],
    "pool": POOL,
}
TINY: dict[str, Any] = {
    "name": "chaos",
    "base": {
        "epochs": 4,
        "batch_size": 64,
        "data": {"name": "digits", "size": 8, "limit": 256},
        "method": {"name": "lejepa", "slices": 64},
        "encoder": {"name": "small_resnet", "width": 8},
        "views": {"local_views": 0},
    },
    "scientific": LAMB,
    "seeds": 2,
    "pool": POOL,
}
SWEEPS = {"grid": GRID, "search": SEARCH, "budget": {**SEARCH, "budget": {"epochs": 70}}, "trained": TINY}
EPOCHS = {"grid": 36, "search": 70, "budget": 60, "trained": 16}  # about so many: faults are spread over them
SECONDS = {"local": 0.04, "ray": 0.25, "cluster": 0.25}  # an epoch of a fake training
ENDINGS = {"finished": "FINISHED", "pruned": "KILLED"}  # MLflow's words for them


class Broken(AssertionError):
    """A promise that a round did not keep."""


@dataclass
class Round:
    number: int
    sweep: str
    executor: str
    planned: list[str]
    home: Path  # holds all of it; `runs` in it may be a small disk
    rng: random.Random
    struck: list[str] = field(default_factory=list)
    retrainable: int = 0  # epochs that a damaged checkpoint may cost
    pruned: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        return self.home / "runs" / "chaos"

    @property
    def places(self) -> int:
        return 1 if self.executor == "local" else 2


SWEEPS_ON = {"local": ["grid", "search", "budget", "trained"], "ray": ["grid", "search", "budget"]}
FAULTS_ON = {
    "local": ["driver", "driver", "checkpoint", "server", "disk"],
    "ray": ["driver", "checkpoint", "server", "disk", "worker", "worker", "raylet"],
    "cluster": ["driver", "checkpoint", "server", "disk", "worker", "node", "node"],
}


def drawn(number: int, given: argparse.Namespace, home: Path, with_disk: bool) -> Round:
    rng, executor = random.Random(f"{given.seed}-{number}"), "local"
    if given.ray_every and number % given.ray_every == given.ray_every - 1:
        executor = "cluster" if (number // given.ray_every) % 2 else "ray"
    sweep = rng.choice([s for s in SWEEPS_ON["local" if executor == "local" else "ray"] if s not in given.without])
    kinds = [kind for kind in FAULTS_ON[executor] if kind not in given.without and (with_disk or kind != "disk")]
    planned = [rng.choice(kinds) for _ in range(rng.randint(1, given.most))]
    while planned.count("worker") + planned.count("node") > 2:  # a third without an epoch is a trial's end
        planned[planned.index("worker" if "worker" in planned else "node")] = "driver"
    return Round(number, sweep, executor, planned, home, rng)


# -- children ----------------------------------------------------------------------------------------------------------


def drive(round_: Round, uri: str | None) -> None:
    """One driver, to its end."""
    from harness.attempt import lejepa_trainer
    from harness.resume import resume_sweep
    from harness.run import run_sweep
    from harness.spec import SweepSpec
    from tests.harness import fake

    trainer: Any = Fake(seconds=SECONDS[round_.executor], diaries=str(round_.home / "diaries"))
    if round_.sweep == "trained":
        trainer = lejepa_trainer
    executor = "local" if round_.executor == "local" else "ray"
    if executor == "ray":
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(fake)
    with nodes(round_) if round_.executor == "cluster" else ExitStack():
        if round_.folder.exists():
            resume_sweep(round_.folder, executor, trainer=trainer)
        else:
            spec = SweepSpec.model_validate(SWEEPS[round_.sweep])
            run_sweep(spec, round_.folder, executor, uri, trainer=trainer)


@contextmanager
def nodes(round_: Round) -> Iterator[None]:
    """Two nodes of one core each, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    faults.end_cluster(round_.home)  # of a driver that died
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        faults.note_cluster(round_.home, [cluster.head_node, cluster.add_node(num_cpus=1)])
        ray.init(address=cluster.address, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def judge_mlflow(round_: Round) -> None:
    from harness.tracking import sync

    sync(round_.folder)
    with Ledger.read(round_.folder / "ledger.db") as ledger:
        ended = {key: ENDINGS[state] for key, state in ledger.states().items() if state != "waiting"}
    statuses, parent = mlflow_statuses(round_.folder, "chaos")
    if statuses != ended:
        raise Broken(f"MLflow has {Counter(statuses.values())}, the ledger {Counter(ended.values())}")
    if parent != "FINISHED":
        raise Broken(f"the sweep's run in MLflow is {parent}")


def make_undisturbed(sweep: str, folder: Path) -> None:
    from harness.attempt import lejepa_trainer
    from harness.run import run_sweep
    from harness.spec import SweepSpec

    trainer: Any = lejepa_trainer if sweep == "trained" else Fake()
    run_sweep(SweepSpec.model_validate(SWEEPS[sweep]), folder, "local", trainer=trainer)


def make_database(path: Path) -> None:
    from harness.mlflow_store import client_of

    client_of(f"sqlite:///{path}").search_experiments()


def child(log: Path, what: Callable[..., None], *arguments: Any) -> Any:
    """A process of its own that does `what`; what it says goes into the log."""

    def body() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            what(*arguments)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)

    process = FORK.Process(target=body)
    process.start()
    return process


def end_children() -> None:
    for process in active_children():
        process.kill()
        process.join()


def done(log: Path, what: Callable[..., None], *arguments: Any) -> None:
    """As `child`, waited for; Broken where it fails."""
    process = child(log, what, *arguments)
    process.join(300)
    if process.exitcode != 0:
        process.kill()
        said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        raise Broken(f"{what.__name__} ended with {process.exitcode}: {said[-1] if said else 'nothing said'}")


# -- a round -----------------------------------------------------------------------------------------------------------


def play(
    round_: Round, undisturbed: Callable[[str], dict[str, Any]], database: Path, with_disk: bool, keep: Path | None
) -> None:
    """Disturb, go on until the end, and judge; Broken where a promise was, and all there is of the round in `keep`."""
    home = round_.home
    (home / "diaries").mkdir(parents=True)
    with ExitStack() as stack:
        stack.callback(faults.end_cluster, home)
        stack.callback(end_children)
        (home / "runs").mkdir()
        if with_disk:
            stack.enter_context(faults.small_disk(home / "runs"))  # in memory, hence quick
        shutil.copy(database, home / "runs" / "mlflow.db")
        server = faults.Server(home / "runs" / "mlflow.db") if "server" in round_.planned else None
        if server:
            stack.callback(server.close)
        try:
            process = disturb(round_, server)
            if server:
                server.heal()
            finish(round_, process, server)
            judge(round_, undisturbed)
            done(home / "sync.txt", judge_mlflow, round_)
        except (AssertionError, LedgerError):
            if keep:
                shutil.copytree(home, keep, ignore=shutil.ignore_patterns("ballast"))  # before the disk is gone
            raise


def disturb(round_: Round, server: faults.Server | None) -> Any:
    """All planned faults, one after the other; the driver that runs then, or has ended."""
    moments = sorted(round_.rng.uniform(0, 0.8) for _ in round_.planned)
    process = started(round_, server)
    for moment, fault in zip(moments, round_.planned, strict=True):
        if not process.is_alive():
            if process.exitcode == 0:
                break  # it was quicker
            process = started(round_, server)
        wait(lambda process=process, moment=moment: progress(round_) >= moment or not process.is_alive())
        time.sleep(round_.rng.uniform(0, 0.3 if round_.executor == "local" else 1.5))
        if process.is_alive() and strike(fault, round_, process, server):
            round_.struck.append(fault)
        note_pruned(round_)
    return process


def strike(fault: str, round_: Round, process: Any, server: faults.Server | None) -> bool:
    folder, rng = round_.folder, round_.rng
    if fault in ("driver", "checkpoint"):
        process.kill()
        process.join()
    if fault == "checkpoint":
        return folder.exists() and damaged(round_)
    if fault == "disk":
        with faults.no_room(round_.home / "runs"):
            wait(lambda: not process.is_alive(), 120, "the driver did not stop on a full disk")
    if fault == "server" and server:
        server.heal()
        server.spoil(rng.choice(faults.Server.FAULTS))
        time.sleep(rng.uniform(0, 3))
        if rng.random() < 0.5:
            server.heal()
    if fault == "worker":
        return faults.kill_worker(round_.home, folder, rng)
    if fault == "raylet":
        struck = faults.kill_raylet(folder)
        wait(lambda: not process.is_alive(), 120, "the driver did not end without its raylet") if struck else None
        return struck
    if fault == "node":
        return faults.kill_second_node(round_.home)
    return True


def damaged(round_: Round) -> bool:
    from harness.lock import outlast_orphans

    outlast_orphans(round_.folder)  # a worker would write a good one over it
    try:
        key = faults.damage(round_.folder, round_.rng)
    except LedgerError:
        return False
    round_.retrainable += trained(round_).get(key or "", 0)
    return key is not None


def started(round_: Round, server: faults.Server | None) -> Any:
    return child(round_.home / "driver.txt", drive, round_, server.uri if server else None)


def finish(round_: Round, process: Any, server: faults.Server | None) -> None:
    """Go on as a user would, until a driver says that it is over."""
    for _ in range(4):
        known = -1
        while process.is_alive() and known < (known := epochs(round_.folder)):
            process.join(240)
        if process.is_alive():
            process.kill()
            raise Broken("a driver goes on without an epoch in four minutes")
        note_pruned(round_)
        if process.exitcode == 0:
            return
        process = started(round_, server)
    raise Broken(f"the sweep cannot be resumed: {(round_.home / 'driver.txt').read_text().strip().splitlines()[-1]}")


def wait(condition: Callable[[], bool], timeout: float = 180, or_else: str = "no progress") -> None:
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until:
            raise Broken(f"{or_else} within {timeout:g} s")
        time.sleep(0.01)


def progress(round_: Round) -> float:
    return epochs(round_.folder) / EPOCHS[round_.sweep]


def trained(round_: Round) -> Counter[str]:
    """Trial key → epochs that were trained, twice where they were trained twice."""
    return Counter(
        {path.name: len(path.read_text().splitlines()) for path in (round_.home / "diaries").iterdir()}
    )  # fmt: skip


def note_pruned(round_: Round) -> None:
    try:
        with Ledger.read(round_.folder / "ledger.db") as ledger:
            states = ledger.states()
    except LedgerError:
        return  # killed before it was made
    if back := [key for key in round_.pruned if states[key] != "pruned"]:
        raise Broken(f"{back} were pruned, and are {[states[key] for key in back]}")
    round_.pruned |= {key for key, state in states.items() if state == "pruned"}


# -- judgement ---------------------------------------------------------------------------------------------------------


def judge(round_: Round, undisturbed: Callable[[str], dict[str, Any]]) -> None:
    found = record(round_.folder)  # AssertionError where a trial has ended twice
    if round_.sweep in ("grid", "trained"):
        alone = undisturbed(round_.sweep)
        if different := [name for name in alone if sorted_if(name, found[name]) != sorted_if(name, alone[name])]:
            raise Broken(f"not as in the undisturbed run: {different}")
    else:
        judge_search(round_, found)
    if round_.sweep != "trained":
        judge_work(round_, found)


def sorted_if(name: str, part: Any) -> Any:
    """Two places write epochs in the order in which they come."""
    return sorted(part, key=lambda row: row[:2]) if name == "epochs" else part


def judge_search(round_: Round, found: dict[str, Any]) -> None:
    ended = {state for state in found["states"].values() if state != "waiting"}
    if not ended <= {"finished", "pruned"}:
        raise Broken(f"trials ended as {Counter(found['states'].values())}")
    curves: dict[str, list[int]] = {}
    for key, epoch, _ in found["epochs"]:
        curves.setdefault(key, []).append(epoch)
    if holes := [key for key, seen in curves.items() if seen != list(range(1, len(seen) + 1))]:
        raise Broken(f"{holes}: epochs are missing, doubled or out of order")
    filled = Counter((row["purpose"], row["cell"].get("method.lamb"), row["study"]) for row in found["places"])
    if round_.sweep == "search":
        expected = {("search", lamb, 0): 6 for lamb in (0.0, 0.05)} | {("confirm", lamb, 0): 1 for lamb in (0.0, 0.05)}
        if wrong := {place: filled[place] for place, n in expected.items() if filled[place] != n}:
            raise Broken(f"trials lost or doubled: {wrong}")
    elif len(found["epochs"]) > (most := SWEEPS["budget"]["budget"]["epochs"]):
        raise Broken(f"{len(found['epochs'])} epochs on a budget of {most}")


def judge_work(round_: Round, found: dict[str, Any]) -> None:
    twice = trained(round_).total() - len(found["epochs"])
    in_flight = round_.places * sum(fault != "server" for fault in round_.struck)
    if twice > in_flight + round_.retrainable:
        raise Broken(f"{twice} epochs were trained twice; {in_flight} were in flight, {round_.retrainable} damaged")


# -- all rounds --------------------------------------------------------------------------------------------------------


CHILDREN_IMPORT = """harness.adaptive harness.resume harness.run harness.tracking lejepa.data lejepa.trainer
mlflow.store.tracking.sqlalchemy_store alembic.command sklearn.datasets scipy.stats optuna.importance"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ray-every", type=int, default=0, help="every so many rounds one on Ray; 0: none")
    parser.add_argument("--most", type=int, default=3, help="faults in a round")
    parser.add_argument("--without", nargs="*", default=[], help="sweeps and faults that are not drawn")
    parser.add_argument("--keep", type=Path, help="where folders of broken rounds are kept")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays mounted or running
    modules = CHILDREN_IMPORT.split() + ["mlflow.server"] * ("server" not in given.without)
    for module in modules + ["harness.trainable", "harness.tuning"] * bool(given.ray_every):
        import_module(module)  # once, as children are forked
    with tempfile.TemporaryDirectory() as scratch:
        broken = all_rounds(given, Path(scratch))
    return 1 if broken else 0


def all_rounds(given: argparse.Namespace, scratch: Path) -> int:
    database, records = scratch / "mlflow.db", dict[str, dict[str, Any]]()
    done(scratch / "database.txt", make_database, database)
    with_disk = faults.can_mount(scratch / "small")

    def undisturbed(sweep: str) -> dict[str, Any]:
        if sweep not in records:
            (scratch / sweep).mkdir()
            shutil.copy(database, scratch / sweep / "mlflow.db")
            done(scratch / f"{sweep}.txt", make_undisturbed, sweep, scratch / sweep / "chaos")
            records[sweep] = record(scratch / sweep / "chaos")
        return records[sweep]

    struck, broken, began = Counter[str](), 0, time.monotonic()
    for number in range(given.first, given.first + given.rounds):
        since = time.monotonic()
        round_ = drawn(number, given, scratch / f"round-{number}", with_disk)
        keep = given.keep and given.keep / f"round-{given.seed}-{number}"
        try:
            play(round_, undisturbed, database, with_disk, keep)
            verdict = "kept"
        except (AssertionError, LedgerError) as error:
            verdict, broken = f"BROKEN: {error}", broken + 1
        struck.update(round_.struck)
        line = f"{number:4d} {round_.executor:7s} {round_.sweep:7s} {' '.join(round_.struck) or 'nothing':30s}"
        print(f"{line} {time.monotonic() - since:6.1f} s  {verdict}", flush=True)
        shutil.rmtree(round_.home, ignore_errors=True)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(struck.items()))
    print(
        f"{given.rounds} rounds, {struck.total()} faults ({kinds}), {broken} broken, {time.monotonic() - began:.0f} s"
    )
    if not with_disk:
        print("no full disks: only root can mount one")
    return broken


if __name__ == "__main__":
    sys.exit(main())
