"""What is kept of trials that have ended: their checkpoints take far more room than everything else in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.folder import opened
from harness.keep import Keep
from harness.ledger import ENDED, Ledger, canonical
from harness.selecting import lambda_of, worth
from harness.spec import Metric

LAST = "last.pt"  # as in lejepa/checkpoint.py, which needs torch


@dataclass(frozen=True)
class Freed:
    trials: int  # of which something was deleted
    bytes: int
    links: tuple[Path, ...]  # not followed, and left where they are


def collect(folder: Path, keep: Keep) -> Freed:
    """Delete checkpoints of ended trials. Trials that can go on keep theirs. Raises Refused while a driver runs."""
    with opened(folder.absolute()) as (spec, ledger):
        ended = [key for key, state in ledger.states().items() if state in ENDED]
        return _free(ledger, ended, _kept(ledger, keep, spec.metric))


def drop_pruned(ledger: Ledger) -> Freed:
    """Pruned trials never go on. For the driver, when no worker is left."""
    return _free(ledger, [key for key, state in ledger.states().items() if state == "pruned"], set())


def _free(ledger: Ledger, keys: Iterable[str], kept: set[str]) -> Freed:
    """Delete these trials' checkpoints; of the kept ones, all but the newest."""
    checkpoints = ledger.path.parent / "checkpoints"
    if checkpoints.is_symlink():
        return Freed(0, 0, (checkpoints,))
    trials, freed, links = 0, 0, list[Path]()
    for key in keys:
        doomed = list(_doomed(checkpoints, key, key in kept))
        links += [path for path in doomed if path.is_symlink()]
        sizes = [_delete(path) for path in doomed if not path.is_symlink()]
        trials, freed = trials + bool(sizes), freed + sum(sizes)
    return Freed(trials, freed, tuple(links))


def _doomed(checkpoints: Path, key: str, is_kept: bool) -> Iterator[Path]:
    """Files and folders; a link is one of them where it stands for a trial's folder."""
    yield from checkpoints.glob(f"{key}.broken-*")
    folder = checkpoints / key
    if folder.is_dir() and is_kept and not folder.is_symlink():
        yield from (path for path in folder.iterdir() if path.name != LAST)
    elif folder.is_dir() and not is_kept:
        yield folder


def _delete(path: Path) -> int:
    """The bytes that were in it. Links in it are deleted, not what they point to."""
    if not path.is_dir():
        size = path.stat().st_size
        path.unlink()
        return size
    size = sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(path) for name in names)
    shutil.rmtree(path)
    return size


def _kept(ledger: Ledger, keep: Keep, metric: Metric) -> set[str]:
    """Keys of the trials whose newest checkpoint stays."""
    states = ledger.states()
    if keep is Keep.last:
        return {key for key, state in states.items() if state != "pruned"}
    if keep is Keep.none:
        return set()
    lambdas = {trial.key: lambda_of(trial.config) for trial in ledger.trials()}
    values = ((row.key, worth(metric, row.metrics, lambdas[row.key])) for row in ledger.epochs())
    value = {key: found for key, found in values if found is not None}  # the last one
    better = max if metric.mode == "max" else min
    cells: dict[str, list[str]] = {}
    for row in ledger.assignments():
        if states[row.key] == "finished" and row.key in value:
            cells.setdefault(canonical([row.arm, row.cell]), []).append(row.key)
    return {better(keys, key=value.__getitem__) for keys in cells.values()}
