"""What a search that stops early decides, against the whole grid: replays of recorded learning curves.

    python benchmarks/stopping.py [--replays 200] [--first 0]
    python benchmarks/stopping.py --record FOLDER     # data/curves.json anew, of a run of data/curves.yaml

The curves are those of small real trainings on digits: every λ with every learning rate and seed. A replay is a sweep
of the harness itself, its QMC points, its ASHA with `scope: sweep`, its confirmation and its fit, on a ledger, in
simulated time on two places; an epoch's value comes from the recorded curve of that λ and learning rate, of a seed
drawn anew for every trial. What it chooses is judged by the mean over all recorded seeds: within one standard error of
the grid's best, where a λ counts with its best learning rate. That error is of all recorded seeds; the wider one of the
three that a sweep trains is printed beside it. Epochs are compared with those of the grid trained with one seed. Two
choices are judged: the config whose confirmations (without any: whose last value) are best, and the one that is best by
the fit through all trials.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.ledger import Ledger
from harness.recommend import recommend
from harness.record import record
from harness.search import Search, search_for
from harness.space import Space
from harness.spec import SweepSpec
from harness.surface import Seen, surface
from harness.trials import TrialSpec, enumerate_trials
from lejepa.trainer import EpochReport

DATA = Path(__file__).parent / "data" / "curves.json"
SLOTS = 2
FEW = 3  # seeds of a grid as sweeps run it by default
DESIGNS = [  # search trials, reduction of ASHA (None: no stopping), configs confirmed, seeds of each, chosen by
    (16, 3, 0, 0, "value"),
    (16, 3, 3, 2, "fit"),
    (24, 3, 0, 0, "value"),
    (32, 3, 0, 0, "value"),
    (32, 3, 1, 1, "fit"),
    (32, 3, 2, 1, "fit"),
    (40, 3, 2, 1, "fit"),
    (32, 4, 2, 1, "fit"),
    (40, 4, 2, 1, "value"),
    (40, 4, 2, 1, "fit"),
    (64, 4, 0, 0, "value"),
    (64, 4, 2, 1, "fit"),
    (16, None, 0, 0, "value"),
    (32, None, 0, 0, "value"),
]
Design = tuple[int, int | None, int, int, str]


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

    def error(self, seeds: int | None = None) -> float:
        """Standard error of the grid's best, where it is a mean over so many seeds; all that were recorded."""
        last = self.values[..., -1]
        best = np.unravel_index(last.mean(axis=2).argmax(), last.shape[:2])
        return float(last[best].std(ddof=1) / np.sqrt(seeds or last.shape[2]))

    def good(self, seeds: int | None = None) -> np.ndarray:
        """(λ,) whether it is within one such standard error of the best."""
        near: np.ndarray = self.by_lamb >= self.by_lamb.max() - self.error(seeds)
        return near

    @property
    def axes(self) -> dict[str, list[float]]:
        return {"method.lamb": self.lambs, "optimizer.lr": self.lrs}

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
    whole = ~np.isnan(values).any(axis=(0, 1, 3))  # a run that was stopped leaves a seed unfinished
    if whole.sum() < 2:
        raise SystemExit(f"{folder}: {whole.sum()} seeds are complete over the whole grid; an error takes 2")
    return Curves(metric, lambs, lrs, values[:, :, whole], source(folder))


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
    trials, reduction, top, seeds, by = design
    return SweepSpec.model_validate(
        {
            "name": f"replay-{number}",
            "base": {"epochs": curves.values.shape[3]},
            "nuisance": {path: {"choice": known} for path, known in curves.axes.items()},
            "seeds": [0],
            "metric": {"name": curves.metric},
            "search": {"sampler": "qmc", "trials": trials},
            "confirm": {"top": top, "seeds": seeds, "by": by} if top else None,
            **({"stopping": {"name": "asha", "scope": "sweep", "reduction": reduction}} if reduction else {}),
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
    """λ of the config whose confirmations are best; without any, of the best trial that was trained to its end."""
    configs = {row.key: row.config for row in ledger.trials()}
    states, last = ledger.states(), {row.key: row.metrics[curves.metric] for row in ledger.epochs()}
    finished = [(row.key, row.purpose) for row in ledger.assignments() if states[row.key] == "finished"]
    confirmed = [key for key, purpose in finished if purpose == "confirm"]
    results: dict[tuple[float, float], list[float]] = {}
    for key in confirmed or [key for key, _ in finished]:
        config = configs[key]
        results.setdefault((config["method"]["lamb"], config["optimizer"]["lr"]), []).append(last[key])
    return max(results, key=lambda point: np.mean(results[point]))[0]


def fitted(spec: SweepSpec, ledger: Ledger, curves: Curves) -> float:
    """λ that the sweep recommends; where there is no fit, that of the other choice."""
    recommend(spec, ledger)
    [event] = [event.payload for event in ledger.events() if event.kind == "recommended"]
    return float(event["point"]["method.lamb"]) if event["point"] else chosen(ledger, curves)


Decision = tuple[float, float, int]  # λ by value, λ by the fit, epochs


def replay(curves: Curves, design: Design, number: int, folder: Path) -> Decision:
    spec = sweep(curves, design, number)
    with Ledger(folder / f"{number}.db") as ledger:
        record(ledger, enumerate_trials(spec, lambda data: "recorded"))
        search = search_for(spec, ledger, lambda data: "recorded")
        spent = simulated(search, ledger, curves, np.random.default_rng(number))
        return chosen(ledger, curves), fitted(spec, ledger, curves), spent


def grid(curves: Curves, number: int, seeds: int) -> Decision:
    """The best λ of the whole grid with so many seeds a combination, drawn anew, by their means and by the fit."""
    rng, last = np.random.default_rng(number), curves.values[..., -1]
    drawn = np.take_along_axis(last, rng.integers(last.shape[2], size=(*last.shape[:2], seeds)), axis=2)
    spaces = {name: Space.model_validate({"choice": known}) for name, known in curves.axes.items()}
    seen = [
        Seen(dict(zip(spaces, (lamb, lr), strict=True)), {last.shape[2]: float(value)}, True)
        for (i, lamb), (j, lr) in product(enumerate(curves.lambs), enumerate(curves.lrs))
        for value in drawn[i, j]
    ]
    fit = surface(spaces, seen)
    if isinstance(fit, str):
        raise SystemExit(fit)
    by_value = curves.lambs[int(drawn.mean(axis=2).max(axis=1).argmax())]
    return by_value, fit.points[int(fit.mean.argmax())]["method.lamb"], curves.epochs * seeds


def judged(curves: Curves, decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Share of good decisions and mean loss in points, by value and by the fit; mean share of the grid's epochs."""
    told: list[str] = []
    for i in (0, 1):
        found = [curves.lambs.index(decision[i]) for decision in decisions]
        told += [f"{np.mean(curves.good()[found]):.1%}", f"{np.mean(curves.by_lamb.max() - curves.by_lamb[found]):.2f}"]
    return *told, f"{np.mean([spent for _, _, spent in decisions]) / curves.epochs:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first replay; it seeds all of it")
    parser.add_argument("--record", type=Path, metavar="FOLDER")
    parser.add_argument("--metric", default="val/shot1")
    given = parser.parse_args()
    if given.record:
        write(recorded(given.record, given.metric))
        return
    curves, console, numbers = read(), Console(width=150), range(given.first, given.first + given.replays)
    lambs, lrs, seeds, epochs = curves.values.shape
    console.print(f"{curves.metric}: {lambs} λ × {lrs} learning rates × {seeds} seeds × {epochs} epochs")
    for lamb, value, *near in zip(curves.lambs, curves.by_lamb, curves.good(), curves.good(FEW), strict=True):
        within = [f"within one error of {n} seeds" for n, good in zip((seeds, FEW), near, strict=True) if good]
        console.print(f"  λ = {lamb:g}: {value:.2f} {', '.join(within)}")
    errors = ", ".join(f"{curves.error(n):.2f} ({n} seeds)" for n in (seeds, FEW))
    console.print(f"standard error: {errors}; {given.replays} replays a row, {SLOTS} places")
    head = ["by value: good", "lost", "by the fit: good", "lost", "epochs"]
    table = Table("design", "trials", "confirmed", *head, width=130)
    for n in (1, 2, 3):
        grids = [grid(curves, number, n) for number in numbers]
        table.add_row(f"whole grid, seeds: {n}", str(lambs * lrs * n), "", *judged(curves, grids))
    for design in DESIGNS:
        trials, reduction, top, each, by = design
        with tempfile.TemporaryDirectory(dir=_in_memory()) as scratch:
            decisions = [replay(curves, design, number, Path(scratch)) for number in numbers]
        name = f"QMC, ASHA, reduction {reduction}" if reduction else "QMC"
        table.add_row(name, str(trials), f"{top} × {each}, by {by}" if top else "none", *judged(curves, decisions))
    console.print(table)


def _in_memory() -> str | None:
    """Ledgers sync every write to the disk, which a simulation need not wait for."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main()
