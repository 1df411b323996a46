"""Sweeps that search, run here to a ledger and back, without the driver's surroundings."""

from pathlib import Path
from typing import Any

from harness.attempt import TrainerFactory
from harness.executors import LocalExecutor
from harness.ledger import ENDED, AssignmentRow, Ledger
from harness.record import record
from harness.search import Search, search_for
from harness.spec import SweepSpec
from harness.trials import TrialSpec, enumerate_trials
from lejepa.config import DataConfig
from lejepa.trainer import EpochReport
from tests.harness.fake import Fake

LR = "optimizer.lr"


def fingerprint(data: DataConfig) -> str:
    return f"print of {data.name}"


def spec(**keys: Any) -> SweepSpec:
    """Two cells, of which 0.05 holds the optimum, each searched for a learning rate by TPE."""
    return SweepSpec.model_validate(
        {
            "name": "searched",
            "base": {"epochs": 4},
            "scientific": {"method.lamb": {"grid": [0, 0.05]}},
            "nuisance": {LR: {"log_uniform": [1e-5, 1e-1]}},
            "search": {"sampler": "tpe", "trials": 5},
            "pool": {"cpus": 1, "max_concurrent": 2},
            **keys,
        }
    )


def begin(sweep: SweepSpec, folder: Path) -> Ledger:
    """A ledger as it is before the first trial starts."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "ledger.db")
    record(ledger, enumerate_trials(sweep, fingerprint))
    return ledger


def go_on(sweep: SweepSpec, ledger: Ledger, trainer: TrainerFactory, epochs: int | None = None) -> Search:
    """Run what a ledger leaves to run, for so many more epochs, as a driver does that then vanishes."""
    search, writer = search_for(sweep, ledger, fingerprint), Writer(ledger)

    def stop() -> str | None:
        return "enough" if epochs is not None and writer.epochs >= epochs else None

    LocalExecutor(sweep.pool, trainer).run(search, writer, ledger.path.parent, stop)
    return search


def run(sweep: SweepSpec, folder: Path, trainer: TrainerFactory | None = None) -> tuple[Ledger, Search]:
    ledger = begin(sweep, folder)
    return ledger, go_on(sweep, ledger, trainer or Fake())


class Writer:
    """A listener that writes the ledger and nothing else."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.epochs = ledger, 0  # new ones

    def started(self, trial: TrialSpec, epoch: int, info: dict[str, Any]) -> None:
        self.ledger.add_event("started", trial.key, attempt=1, epoch=epoch, info={})

    def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
        is_new = self.ledger.add_epoch(trial.key, report.epoch, report.metrics, report.timing)
        self.epochs += is_new
        return is_new

    def ended(self, trial: TrialSpec, state: str, payload: dict[str, Any]) -> None:
        self.ledger.add_event(state, trial.key, **{key: payload[key] for key in payload.keys() & {"epoch", "test"}})

    def noted(self, trial: TrialSpec, text: str) -> None:
        self.ledger.add_event("note", trial.key, text=text)


def places(ledger: Ledger, purpose: str) -> list[AssignmentRow]:
    return [row for row in ledger.assignments() if row.purpose == purpose]


def numbers(ledger: Ledger) -> tuple[Any, ...]:
    """All that must repeat: places, states and metrics."""
    epochs = [(row.key, row.epoch, row.metrics) for row in ledger.epochs()]
    return ledger.assignments(), ledger.states(), epochs


def all_ended(ledger: Ledger) -> bool:
    return set(ledger.states().values()) <= ENDED


def curve(ledger: Ledger, key: str, metric: str) -> dict[int, float]:
    """Epoch → value, in the epochs in which the metric was measured."""
    return {row.epoch: row.metrics[metric] for row in ledger.epochs(key) if metric in row.metrics}
