"""`harness run`: a new folder, and everything in it decided before the first trial; then the driver."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.address import shown
from harness.attempt import TrainerFactory, lejepa_trainer
from harness.drive import Means, RunSummary, drive
from harness.environment import describe
from harness.folder import Refused, RunError, already_there, made
from harness.mlflow_store import asked_for, default_uri
from harness.pool import PoolError
from harness.reuse import ReuseError, library
from harness.spec import SweepSpec
from harness.trials import enumerate_trials

__all__ = ["Refused", "RunError", "RunSummary", "run_sweep"]


def run_sweep(
    spec: SweepSpec,
    folder: Path,
    executor: str = "ray",
    tracking_uri: str | None = None,
    command: Sequence[str] = (),
    trainer: TrainerFactory = lejepa_trainer,
    reuse: Sequence[Path] = (),
) -> RunSummary:
    """Run a sweep into a new folder. tracking_uri: of MLflow; None: that of MLFLOW_TRACKING_URI, else mlflow.db beside
    the folder. reuse: folders of sweeps, or that hold sweeps, whose finished trials are taken where they are the same.

    Raises Refused before anything is trained where the folder exists, the pool cannot be had or MLflow cannot serve
    the address; RunError where the sweep had to stop and can be resumed; DataError where the data cannot be used.
    """
    from lejepa.data import fingerprint  # torch

    folder = Path(folder).absolute()
    if folder.exists():
        raise Refused(already_there(folder))
    given = asked_for(tracking_uri)
    try:
        known = library([*map(Path, reuse)], folder)
        means = Means(executor, trainer, cache(fingerprint), given or default_uri(folder), known)
    except ReuseError as error:
        raise Refused(f"--reuse: {error}") from error
    trials = enumerate_trials(spec, means.fingerprint)
    environment = {**describe(spec, executor, list(command)), "tracking_uri": shown(given) if given else None}
    try:
        with made(folder, spec, environment, trials) as ledger:
            return drive(spec, ledger, means)
    except PoolError as error:
        raise Refused(str(error)) from error
