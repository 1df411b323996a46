"""A metric that needs no labels stops, searches and selects; what has collapsed never wins by it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoints import collect
from harness.keep import Keep
from harness.ledger import Ledger
from harness.run import run_sweep
from harness.rungs import Rungs
from harness.search_config import Metric
from harness.selecting import curve, worth
from harness.source import SpecError
from harness.spec import SweepSpec, load_sweep
from lejepa.config import TrainConfig
from reports.report import build
from tests.harness.fake import Fake, FakeTrainer
from tests.harness.searched import LR, all_ended, places, run, spec

LOSS = {"name": "loss/lambda^0.4"}
COLLAPSES_BELOW = 1e-3  # learning rate: there the loss is lowest, and nothing is learned


@dataclass(frozen=True)
class Collapsing(Fake):
    """Below a learning rate trials collapse, and their loss is the lowest; above it, loss and accuracy rise with it."""

    def __call__(self, config: TrainConfig, checkpoints: Path) -> FakeTrainer:
        return CollapsingTrainer(self, config, checkpoints)


class CollapsingTrainer(FakeTrainer):
    def _metrics(self, epoch: int) -> dict[str, float]:
        lr = self.config.optimizer.lr
        gone = lr < COLLAPSES_BELOW
        loss = 0.01 if gone else 1.0 + lr
        return {
            "val/linear": 10.0 if gone else 50.0 + 100 * lr, "train/loss": loss / epoch, "diag/collapsed": float(gone),
        }  # fmt: skip


def lr(ledger: Ledger, key: str) -> float:
    return float(ledger.trial(key).config["optimizer"]["lr"])


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/linear", "max"),
        ("loss/lambda^0.4", "min"),
        ("diag/loss_over_lambda", "min"),
        ("train/loss", "min"),
        ("diag/rankme", "max"),
        ("diag/lidar", "max"),
        ("diag/condition", "min"),
    ],
)
def test_the_direction_follows_from_the_name(name: str, mode: str) -> None:
    assert Metric.model_validate({"name": name}).mode == mode


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("{name: loss/lambda^0.4, mode: max}", "lower is better; leave `mode` out"),
        ("{name: loss/lambda}", "write loss/lambda"),
        ("{name: loss/lambda^2}", "an exponent from 0 to 1"),
        ("{name: diag/lidar}", "is not measured in arm"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_with_its_place(tmp_path: Path, metric: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(f"name: a\nmetric: {metric}\n")
    with pytest.raises(SpecError, match=r"s.yaml:2: metric.*") as refused:
        load_sweep(tmp_path / "s.yaml")
    assert message in str(refused.value)


def test_another_method_has_no_loss_over_lambda(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: a\nbase: {method: {name: vicreg}}\nmetric: {name: loss/lambda^0.4}\n")
    with pytest.raises(SpecError, match="is not measured in arm"):
        load_sweep(tmp_path / "s.yaml")


@pytest.mark.parametrize("alpha", [0.0, 0.4, 0.75])
def test_the_worth_is_the_training_loss_over_a_power_of_lambda(alpha: float) -> None:
    metric = Metric(name=f"loss/lambda^{alpha}")
    metrics = {"train/loss": 0.3, "diag/collapsed": 0.0}
    assert worth(metric, metrics, 0.02) == pytest.approx(0.3 / 0.02**alpha)
    assert worth(metric, {"train/loss": 0.3}, 0.02) is None, "not evaluated: it may have collapsed"


def test_the_recorded_diagnostic_is_the_same_number() -> None:
    named, recorded = Metric(name="loss/lambda^0.4"), Metric(name="diag/loss_over_lambda")
    metrics = {"train/loss": 0.3, "diag/collapsed": 0.0, "diag/loss_over_lambda": 0.3 / 0.02**0.4}
    assert worth(recorded, metrics, 0.02) == worth(named, metrics, 0.02) == metrics["diag/loss_over_lambda"]


def test_what_has_collapsed_and_lambda_zero_rank_last() -> None:
    gone = {"train/loss": 0.001, "diag/collapsed": 1.0, "diag/rankme": 400.0, "val/linear": 99.0}
    assert worth(Metric(name="loss/lambda^0.4"), gone, 0.05) == math.inf
    assert worth(Metric(name="diag/rankme"), gone, 0.05) == -math.inf
    assert worth(Metric(name="val/linear"), gone, 0.05) == 99.0, "labels see for themselves"
    assert worth(Metric(name="loss/lambda^0.4"), {**gone, "diag/collapsed": 0.0}, 0.0) == math.inf


def test_a_rung_stops_what_has_collapsed_and_nothing_else_for_it() -> None:
    rungs = Rungs(1, 2, 8, "min")
    values: Mapping[str, float] = {"a": 1.0, "gone": math.inf, "b": 1.5, "c": 0.5, "gone too": math.inf}
    assert [rungs.report(key, 1, value) for key, value in values.items()] == [False, True, False, False, True]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_search_confirms_by_the_loss_and_never_what_has_collapsed(tmp_path: Path, sampler: str) -> None:
    search = {"sampler": sampler, "trials": 8, "defaults_first": True}
    sweep = spec(
        metric=LOSS, search=search, scientific={}, confirm={"top": 1, "seeds": 2},
        base={"epochs": 4, "optimizer": {"lr": 0.05}},
    )  # fmt: skip
    ledger, _ = run(sweep, tmp_path, Collapsing())
    rates = [lr(ledger, row.key) for row in places(ledger, "search")]
    assert min(rates) < COLLAPSES_BELOW, "one has the lowest loss of all"
    assert {lr(ledger, row.key) for row in places(ledger, "confirm")} == {min(r for r in rates if r > COLLAPSES_BELOW)}
    assert max(rates) > min(r for r in rates if r > COLLAPSES_BELOW), "labels would have chosen another"
    assert all_ended(ledger)


def test_stopping_goes_by_the_loss_too(tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 12}
    sweep = spec(metric=LOSS, search=search, scientific={}, stopping={"name": "asha", "reduction": 2})
    ledger, _ = run(sweep, tmp_path, Collapsing())
    states = ledger.states()
    begun = [row.key for row in places(ledger, "search")]
    good = [key for key in begun if lr(ledger, key) >= COLLAPSES_BELOW]
    gone = [key for key in begun[begun.index(good[0]) :] if key not in good]
    assert gone
    assert {states[key] for key in gone} == {"pruned"}
    assert states[min(good, key=lambda key: lr(ledger, key))] == "finished"


def test_the_best_checkpoint_of_a_cell_is_of_a_training_that_has_not_collapsed(tmp_path: Path) -> None:
    sweep = spec(metric=LOSS, search={"sampler": "random", "trials": 6}, scientific={})
    (tmp_path / "sweep.yaml").write_text(sweep.to_yaml())
    ledger, _ = run(sweep, tmp_path, Collapsing())
    kept = min((rate, key) for key in ledger.states() if (rate := lr(ledger, key)) >= COLLAPSES_BELOW)[1]
    ledger.close()
    collect(tmp_path, Keep.best)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [kept]


def test_the_curve_of_a_trial_is_in_the_metric_of_the_sweep(tmp_path: Path) -> None:
    sweep = spec(metric=LOSS, search={"sampler": "random", "trials": 2}, scientific={})
    ledger, _ = run(sweep, tmp_path, Collapsing())
    for trial in ledger.trials():
        rate = trial.config["optimizer"]["lr"]
        expected: Any = [math.inf] * 4 if rate < COLLAPSES_BELOW else [(1 + rate) / e / 0.05**0.4 for e in (1, 2, 3, 4)]
        assert list(curve(ledger, trial.key, sweep.metric, trial.config).values()) == pytest.approx(expected)


def test_a_real_sweep_selects_without_labels_and_reports_what_that_cost(runs: Path) -> None:
    raw = {
        "name": "nolabels",
        "base": {
            "method": {"name": "lejepa", "slices": 16},
            "encoder": {"name": "small_resnet", "width": 8},
            "projector": {"hidden": 16, "dim": 8},
            "data": {"name": "digits", "size": 8, "limit": 150},
            "views": {"global_views": 2, "local_views": 0},
            "epochs": 1,
            "batch_size": 50,
        },
        "scientific": {"method.lamb": {"grid": [0.02, 0.2]}},
        "nuisance": {LR: {"log_uniform": [1e-4, 1e-2]}},
        "search": {"sampler": "random", "trials": 2},
        "confirm": {"seeds": 2},
        "metric": LOSS,
    }
    sweep = SweepSpec.model_validate(raw)
    run_sweep(sweep, runs / "nolabels", executor="local")
    with Ledger.read(runs / "nolabels" / "ledger.db") as ledger:
        states = ledger.states()
        confirmed = {row.cell["method.lamb"]: lr(ledger, row.key) for row in places(ledger, "confirm")}
        for lamb, rate in confirmed.items():
            tried = {
                row.key: lr(ledger, row.key) for row in places(ledger, "search") if row.cell["method.lamb"] == lamb
            }
            ends = {key: ledger.epochs(key)[-1].metrics for key in tried}
            assert all("val/linear" in metrics for metrics in ends.values()), "probes judge in the end"
            standing = {key: metrics for key, metrics in ends.items() if not metrics["diag/collapsed"]} or ends
            assert rate == tried[min(standing, key=lambda key: ends[key]["train/loss"])]
    assert set(states.values()) == {"finished"}
    built = build(runs / "nolabels")
    told = built.markdown.read_text(encoding="utf-8")
    assert "−loss/λ^0.4 selects, test linear-probe accuracy judges" in told
    assert "regret" in told
