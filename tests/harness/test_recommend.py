"""What a search recommends, by a fit through its trials: confirmed if the sweep says so, and written down once."""

import math
from pathlib import Path
from typing import Any

import pytest

from harness.confirm import Confirmed
from harness.ledger import Ledger
from harness.recommend import recommend
from harness.search import Enumerated
from harness.spec import SweepSpec
from tests.harness.searched import LR, begin, places, spec

METRIC = "val/linear"
LUCKY = 1e-2  # a learning rate whose one trial is better than all others, and than it should be


def searched(**keys: Any) -> SweepSpec:
    """Twelve learning rates, the best of them about 1e-3."""
    lrs = [1e-5, 3e-5, 1e-4, 2e-4, 4e-4, 7e-4, 1e-3, 2e-3, 4e-3, 1e-2, 3e-2, 1e-1]
    return spec(nuisance={LR: {"grid": lrs}}, search={"sampler": "grid"}, scientific={}, **keys)


def ended(sweep: SweepSpec, folder: Path) -> Ledger:
    """All search trials have ended; those of 3e-2 and more were stopped after an epoch."""
    ledger, sign = begin(sweep, folder), 1 if sweep.metric.mode == "max" else -1
    for row in places(ledger, "search"):
        lr = float(ledger.trial(row.key).config["optimizer"]["lr"])
        value = 81.0 if lr == LUCKY else 80 - 8 * (math.log10(lr) + 3) ** 2
        stopped = lr >= 3e-2
        for epoch in range(1, 2 if stopped else 5):
            ledger.add_epoch(row.key, epoch, {sweep.metric.name: sign * (value - 8 / epoch)}, {})
        ledger.add_event("pruned" if stopped else "finished", row.key)
    return ledger


def confirmed(sweep: SweepSpec, ledger: Ledger) -> list[float]:
    Confirmed(Enumerated([]), sweep, ledger).suggest()
    return [float(ledger.trial(row.key).config["optimizer"]["lr"]) for row in places(ledger, "confirm")]


def told(ledger: Ledger) -> list[dict[str, Any]]:
    return [dict(event.payload) for event in ledger.events() if event.kind == "recommended"]


@pytest.mark.parametrize("metric", [{"name": METRIC}, {"name": "train/loss"}])
def test_the_luckiest_config_is_confirmed_by_value_and_the_best_of_the_fit_by_fit(
    tmp_path: Path, metric: dict[str, str]
) -> None:
    by_value = searched(confirm={"top": 1, "seeds": 1}, metric=metric)
    assert confirmed(by_value, ended(by_value, tmp_path / "value")) == [LUCKY]
    by_fit = searched(confirm={"top": 3, "seeds": 1, "by": "fit"}, metric=metric)
    found = confirmed(by_fit, ended(by_fit, tmp_path / "fit"))
    assert len(found) == 3
    assert all(2e-4 <= lr <= 4e-3 for lr in found)


def test_too_few_trials_are_confirmed_by_value_also_by_fit(tmp_path: Path) -> None:
    sweep = searched(confirm={"top": 1, "seeds": 1, "by": "fit"}).model_copy(update={"name": "few"})
    ledger = begin(sweep, tmp_path)
    for row in places(ledger, "search"):
        finished = row.ordinal < 3
        if finished:
            ledger.add_epoch(row.key, 4, {METRIC: 50.0 + row.ordinal}, {})
        ledger.add_event("finished" if finished else "failed", row.key)
    assert confirmed(sweep, ledger) == [1e-4]
    recommend(sweep, ledger)
    [event] = told(ledger)
    assert event["point"] == {}
    assert "3 trials have a value" in event["reason"]


def test_the_recommendation_says_where_how_sure_and_of_how_many(tmp_path: Path) -> None:
    sweep = searched()
    ledger = ended(sweep, tmp_path)
    recommend(sweep, ledger)
    [event] = told(ledger)
    lr = event["point"][LR]
    assert 2e-4 <= lr <= 4e-3
    assert event["mean"] == pytest.approx(80 - 8 * (math.log10(lr) + 3) ** 2 - 2, abs=2 * event["noise"])
    low, high = event["intervals"][LR]
    assert low <= lr <= high
    assert 0 < event["chance"] <= 1
    assert (len(event["keys"]), event["stopped"], event["reason"]) == (12, 2, None)


def test_it_is_written_once_and_again_only_when_there_is_more(tmp_path: Path) -> None:
    sweep = searched()
    ledger = ended(sweep, tmp_path)
    recommend(sweep, ledger)
    recommend(sweep, ledger)
    assert len(told(ledger)) == 1
    confirmed(sweep, ledger)
    for row in places(ledger, "confirm"):
        ledger.add_epoch(row.key, 4, {METRIC: 60.0}, {})
        ledger.add_event("finished", row.key)
    recommend(sweep, ledger)
    assert [len(event["keys"]) for event in told(ledger)] == [12, 15]


def test_a_sweep_that_searches_nothing_recommends_nothing(tmp_path: Path) -> None:
    sweep = spec(nuisance={}, search={})
    ledger = begin(sweep, tmp_path)
    recommend(sweep, ledger)
    assert told(ledger) == []
