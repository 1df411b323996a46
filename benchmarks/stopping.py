"""What a search that stops early decides, against the whole grid: replays of recorded learning curves.

    python benchmarks/stopping.py [--replays 200]
    python benchmarks/stopping.py --record FOLDER     # data/curves.json anew, of a run of data/curves.yaml

The curves are those of small real trainings on digits: every λ with every learning rate and seed. A replay is a sweep
of the harness itself, its QMC points, its ASHA with `scope: sweep` and its confirmation, on a ledger, in simulated time
on two places; an epoch's value comes from the recorded curve of that λ and learning rate, of a seed drawn anew for
every trial. What it chooses is judged by the mean over all recorded seeds: within one standard error of the grid's
best, where a λ counts with its best learning rate. Epochs are compared with those of the grid trained with one seed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.ledger import Ledger
from harness.record import record
from harness.search import Search, search_for
from harness.spec import SweepSpec
from harness.trials import TrialSpec, enumerate_trials
from lejepa.trainer import EpochReport

DATA = Path(__file__).parent / "data" / "curves.json"
SLOTS = 2
ASHA = {"name": "asha", "scope": "sweep"}
DESIGNS = [  # search trials, early stopping, configs confirmed, seeds of each
    *((trials, ASHA, 1, 1) for trials in (12, 16, 24, 32)),
    *((trials, ASHA, 3, 2) for trials in (12, 16, 24, 32)),
    *((trials, None, 1, 1) for trials in (16, 32)),
]
Design = tuple[int, dict[str, str] | None, int, int]


@dataclass(frozen=True)
class Curves:
    metric: str
    lambs: list[float]
    lrs: list[float]
    values: np.ndarray  # (λ, learning rate, seed, epoch), in percent
    source: dict[str, Any]

    @cached_property
    def by_lamb(self) -> np.ndarray:
        """(λ,) after the last epoch, mean over seeds, at the best learning rate of each."""
        best: np.ndarray = self.values[..., -1].mean(axis=2).max(axis=1)
        return best

    @property
    def error(self) -> float:
        """Standard error of the grid's best, over seeds."""
        last = self.values[..., -1]
        best = np.unravel_index(last.mean(axis=2).argmax(), last.shape[:2])
        return float(last[best].std(ddof=1) / np.sqrt(last.shape[2]))

    @property
    def good(self) -> np.ndarray:
        """(λ,) whether it is within one standard error of the best."""
        near: np.ndarray = self.by_lamb >= self.by_lamb.max() - self.error
        return near

    @property
    def epochs(self) -> int:
        """Of the grid, trained once."""
        lambs, lrs, _, epochs = self.values.shape
        return lambs * lrs * epochs

    def of(self, trial: TrialSpec, rng: np.random.Generator) -> np.ndarray:
        """(epoch,) the curve of one training."""
        config: Any = trial.config
        cell = self.lambs.index(config.method.lamb), self.lrs.index(config.optimizer.lr)
        curve: np.ndarray = self.values[cell][rng.integers(self.values.shape[2])]
        return curve


def recorded(folder: Path, metric: str) -> Curves:
    with Ledger.read(folder / "ledger.db") as ledger:
        cells = {row.key: (row.cell["method.lamb"], row.cell["optimizer.lr"]) for row in ledger.assignments()}
        seeds = {row.key: row.seed for row in ledger.trials()}
        rows = [(cells[row.key], seeds[row.key], row.epoch, row.metrics[metric]) for row in ledger.epochs()]
    lambs, lrs = (sorted({cell[i] for cell in cells.values()}) for i in (0, 1))
    values = np.full((len(lambs), len(lrs), max(seeds.values()) + 1, max(row[2] for row in rows)), np.nan)
    for (lamb, lr), seed, epoch, value in rows:
        values[lambs.index(lamb), lrs.index(lr), seed, epoch - 1] = value
    if np.isnan(values).any():
        raise SystemExit(f"{folder}: {int(np.isnan(values).sum())} epochs of the grid are missing")
    return Curves(metric, lambs, lrs, values, source(folder))


def source(folder: Path) -> dict[str, Any]:
    """Where the curves come from, as the sweep's environment.json has it."""
    known = json.loads((folder / "environment.json").read_text())
    return {"sweep": "benchmarks/data/curves.yaml", **{name: known.get(name) for name in ("git", "packages", "cpu")}}


def write(curves: Curves) -> None:
    content = {
        "source": curves.source, "metric": curves.metric, "lamb": curves.lambs, "lr": curves.lrs,
        "axes": "lamb, lr, seed, epoch", "values": np.round(curves.values, 4).tolist(),
    }  # fmt: skip
    DATA.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def read() -> Curves:
    known = json.loads(DATA.read_text())
    return Curves(known["metric"], known["lamb"], known["lr"], np.array(known["values"]), known["source"])


# -- a replay ----------------------------------------------------------------------------------------------------------


def sweep(curves: Curves, design: Design, number: int) -> SweepSpec:
    """The name is what QMC points are scrambled by."""
    trials, stopping, top, seeds = design
    return SweepSpec.model_validate(
        {
            "name": f"replay-{number}",
            "base": {"epochs": curves.values.shape[3]},
            "nuisance": {"method.lamb": {"choice": curves.lambs}, "optimizer.lr": {"choice": curves.lrs}},
            "seeds": [0],
            "metric": {"name": curves.metric},
            "search": {"sampler": "qmc", "trials": trials},
            "confirm": {"top": top, "seeds": seeds},
            **({"stopping": stopping} if stopping else {}),
        }
    )


def simulated(search: Search, ledger: Ledger, curves: Curves, rng: np.random.Generator) -> int:
    """Run a search to its end, an epoch being the unit of time; the epochs that it took."""
    running: list[tuple[TrialSpec, Iterator[tuple[int, float]]]] = []
    spent = 0
    while True:
        while len(running) < SLOTS and (trial := search.suggest()) is not None:
            running.append((trial, enumerate(map(float, curves.of(trial, rng)), start=1)))
        if not running:
            return spent
        for trial, epochs in list(running):
            epoch, value = next(epochs)
            spent += 1
            metrics = {curves.metric: value}
            ledger.add_epoch(trial.key, epoch, metrics, {})
            stopped = search.observe(trial, EpochReport(epoch, metrics, {})) and epoch < trial.length
            if stopped or epoch == trial.length:
                state = "pruned" if stopped else "finished"
                ledger.add_event(state, trial.key)
                search.ended(trial, state)
                running = [pair for pair in running if pair[0] is not trial]


def chosen(ledger: Ledger, curves: Curves) -> float:
    """λ of the config whose confirmations are best."""
    configs = {row.key: row.config for row in ledger.trials()}
    states, last = ledger.states(), {row.key: row.metrics[curves.metric] for row in ledger.epochs()}
    purposes = {row.key: row.purpose for row in ledger.assignments()}
    results: dict[tuple[float, float], list[float]] = {}
    for key, purpose in purposes.items():
        if purpose == "confirm" and states[key] == "finished":
            config = configs[key]
            results.setdefault((config["method"]["lamb"], config["optimizer"]["lr"]), []).append(last[key])
    return max(results, key=lambda point: np.mean(results[point]))[0]


def replay(curves: Curves, design: Design, number: int, folder: Path) -> tuple[float, int]:
    """(λ, epochs)."""
    spec = sweep(curves, design, number)
    with Ledger(folder / f"{number}.db") as ledger:
        record(ledger, enumerate_trials(spec, lambda data: "recorded"))
        search = search_for(spec, ledger, lambda data: "recorded")
        spent = simulated(search, ledger, curves, np.random.default_rng(number))
        return chosen(ledger, curves), spent


def grid(curves: Curves, number: int) -> tuple[float, int]:
    """The best λ of the whole grid with one seed a combination."""
    rng, last = np.random.default_rng(number), curves.values[..., -1]
    drawn = np.take_along_axis(last, rng.integers(last.shape[2], size=last.shape[:2])[..., None], axis=2)[..., 0]
    return curves.lambs[int(drawn.max(axis=1).argmax())], curves.epochs


def judged(curves: Curves, results: Iterable[tuple[float, int]]) -> tuple[str, str, str]:
    """Share of good decisions, mean loss in points, mean share of the grid's epochs."""
    found = [(curves.lambs.index(lamb), spent) for lamb, spent in results]
    good = np.mean([curves.good[at] for at, _ in found])
    loss = np.mean([curves.by_lamb.max() - curves.by_lamb[at] for at, _ in found])
    return f"{good:.1%}", f"{loss:.2f}", f"{np.mean([spent for _, spent in found]) / curves.epochs:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--record", type=Path, metavar="FOLDER")
    parser.add_argument("--metric", default="val/shot1")
    given = parser.parse_args()
    if given.record:
        write(recorded(given.record, given.metric))
        return
    curves, console = read(), Console()
    lambs, lrs, seeds, epochs = curves.values.shape
    console.print(f"{curves.metric}: {lambs} λ × {lrs} learning rates × {seeds} seeds × {epochs} epochs")
    for lamb, value, near in zip(curves.lambs, curves.by_lamb, curves.good, strict=True):
        console.print(f"  λ = {lamb:g}: {value:.2f}{' within one standard error of the best' if near else ''}")
    console.print(f"one standard error: {curves.error:.2f}; {given.replays} replays a row, {SLOTS} places")
    table = Table(
        "design", "trials", "confirmed, configs × seeds", "within one SE", "points lost", "epochs, share of the grid's"
    )
    table.add_row(
        "whole grid, one seed", str(lambs * lrs), "", *judged(curves, (grid(curves, n) for n in range(given.replays)))
    )
    for design in DESIGNS:
        trials, stopping, top, seeds_each = design
        with tempfile.TemporaryDirectory(dir=_in_memory()) as scratch:
            results = [replay(curves, design, n, Path(scratch)) for n in range(given.replays)]
        name = "QMC, ASHA" if stopping else "QMC"
        table.add_row(name, str(trials), f"{top} × {seeds_each}", *judged(curves, results))
    console.print(table)


def _in_memory() -> str | None:
    """Ledgers sync every write to the disk, which a simulation need not wait for."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main()
