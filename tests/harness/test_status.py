"""`status` and `show`: what a ledger says while a sweep runs."""

import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from harness import show, status
from harness.ledger import Ledger, LedgerError
from harness.lock import driving
from harness.search_config import Metric
from harness.spec import SweepSpec

SPEC = SweepSpec.model_validate(
    {
        "name": "s",
        "scientific": {"method.lamb": {"grid": [0, 0.1]}},
        "arms": {"lejepa": {}, "[red]hostile": {"scientific": {}}},
        "metric": {"name": "val/knn"},
        "pool": {"max_concurrent": 2},
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four trials of four epochs: finished, running after one epoch, failed, waiting; two seconds an epoch."""
    target = tmp_path / "runs" / "s"
    target.mkdir(parents=True)
    (target / "sweep.yaml").write_text(SPEC.to_yaml(), encoding="utf-8")
    with Ledger(target / "ledger.db") as ledger:
        ledger.add_event("sweep_started")
        for i, key in enumerate(["aa00", "aa11", "bb22", "cc33"]):
            ledger.add_trial(key, {"epochs": 4, "method": {"name": "lejepa", "lamb": 0.1}}, i, 4, "data", "code")
        ledger.assign("lejepa", {"method.lamb": 0.0}, 0, 0, "evidence", "aa00")
        ledger.assign("lejepa", {"method.lamb": 0.1}, 0, 0, "evidence", "aa11")
        ledger.assign("[red]hostile", {}, 0, 0, "evidence", "bb22")
        ledger.assign("[red]hostile", {}, 0, 1, "evidence", "cc33")
        for key, epochs in (("aa00", 4), ("aa11", 1), ("bb22", 1)):
            ledger.add_event("started", key, attempt=1, epoch=0, info={"threads": 1})
            for epoch in range(1, epochs + 1):
                metrics = {"val/knn": 50.0 + epoch} if key == "aa00" else {"val/knn": 70.0}
                ledger.add_epoch(key, epoch, metrics, {"seconds": 2.0}, at=1000.0)
        ledger.add_event("finished", "aa00", test={"test/knn": 53.0})
        ledger.add_event("failed", "bb22", attempt=1, traceback="Traceback …\nValueError: [bold]broken")
    return target


def text(renderable: object) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def test_every_arm_has_its_trials_by_state_and_its_best_so_far(folder: Path) -> None:
    lejepa, hostile = status.read_status(folder).arms
    assert dict(lejepa.states) == {"finished": 1, "running": 1}
    assert (lejepa.best, lejepa.best_cell, lejepa.epochs) == (70.0, {"method.lamb": 0.1}, 5)
    assert dict(hostile.states) == {"failed": 1, "waiting": 1}


def test_the_best_of_a_trial_is_its_last_value_not_its_luckiest(folder: Path) -> None:
    with Ledger(folder / "ledger.db") as ledger:
        ledger.add_epoch("aa11", 2, {"val/knn": 10.0}, {"seconds": 2.0})
        ledger.add_epoch("aa11", 3, {"train/loss": 1.0}, {"seconds": 2.0})
    assert status.read_status(folder).arms[0].best == 54.0


def test_the_rest_is_priced_by_the_mean_epoch_and_failed_trials_cost_no_more(folder: Path) -> None:
    read = status.read_status(folder, now=0.0)
    assert (read.epochs, read.planned, read.seconds) == (6, 16, 12.0)
    assert read.eta == (3 + 4) * 2.0 / 2


def test_trials_that_a_search_may_still_suggest_are_counted_until_the_sweep_is_finished(folder: Path) -> None:
    search = {"nuisance": {"optimizer.lr": {"uniform": [0.1, 0.2]}}, "search": {"sampler": "tpe", "trials": 5}}
    raw = {"name": "s", "base": {"epochs": 4}, "seeds": 2, "pool": {"max_concurrent": 2}, **search}
    (folder / "sweep.yaml").write_text(SweepSpec.model_validate(raw).to_yaml(), encoding="utf-8")
    read = status.read_status(folder)
    assert (read.trials, read.planned) == (5 + 2, (5 + 2) * 4)  # five searched, the best again on two seeds
    assert read.eta == (3 + 4 + 3 * 4) * 2.0 / 2
    assert "2 of at most 7 trials ended" in " ".join(text(status.render(read)).split())
    with Ledger(folder / "ledger.db") as ledger:
        ledger.add_event("sweep_finished")
    assert status.read_status(folder).trials == 4


def test_reading_changes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    status.read_status(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before


def test_the_table_holds_names_as_they_are(folder: Path) -> None:
    shown = text(status.render(status.read_status(folder)))
    assert "[red]hostile" in shown
    assert "2 of 4 trials ended, 6 of 16 epochs, 12 s of training spent" in shown
    assert "sweep started" in shown


def test_collapsed_trials_are_counted_among_the_finished(folder: Path) -> None:
    assert "collapsed" not in text(status.render(status.read_status(folder)))
    with Ledger(folder / "ledger.db") as ledger:
        ledger.add_epoch("aa11", 2, {"diag/collapsed": 1.0, "val/knn": 10.0}, {"seconds": 2.0})
        assert status.read_status(folder).arms[0].collapsed == 0, "it runs on, and may recover"
        ledger.add_event("finished", "aa11", test={})
    read = status.read_status(folder)
    assert (read.arms[0].collapsed, read.arms[1].collapsed) == (1, 0)
    assert "collapsed" in text(status.render(read))


def test_without_labels_the_best_so_far_is_none_that_has_collapsed(folder: Path) -> None:
    spec = SPEC.model_copy(update={"metric": Metric(name="loss/lambda^0.4")})
    (folder / "sweep.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    with Ledger(folder / "ledger.db") as ledger:
        ledger.add_epoch("aa00", 5, {"train/loss": 0.9, "diag/collapsed": 0.0}, {})
        ledger.add_epoch("aa11", 5, {"train/loss": 0.1, "diag/collapsed": 1.0}, {})
    assert status.read_status(folder).arms[0].best == pytest.approx(0.9 / 0.1**0.4)


def test_utilisation_is_busy_seconds_over_slots_since_the_driver_began(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(SPEC.to_yaml(), encoding="utf-8")
    at = iter([0.0, 0.0, 0.0, 5.0, 100.0, 101.0, 102.0, 108.0])
    with Ledger(folder / "ledger.db") as ledger, pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time", lambda: next(at))
        for i, key in enumerate(("aa", "bb")):
            ledger.add_trial(key, {"method": {"name": "lejepa"}}, i, 4, "data", "code")
            ledger.assign("lejepa", {}, 0, i, "evidence", key)
        ledger.add_event("sweep_started")
        ledger.add_event("started", "aa", attempt=1, epoch=0, info={})
        ledger.add_event("sweep_resumed")
        ledger.add_event("started", "aa", attempt=2, epoch=0, info={})
        ledger.add_event("started", "bb", attempt=1, epoch=0, info={})
        ledger.add_event("finished", "bb", test={})
    # two slots; from 100 on: aa runs from 101, bb from 102 to 108
    assert status.read_status(folder, now=500.0).utilisation == pytest.approx(((108 - 101) + 6) / (2 * 8))
    with driving(folder):
        assert status.read_status(folder, now=110.0).utilisation == pytest.approx(((110 - 101) + 6) / (2 * 10))


def test_slots_are_as_many_as_have_been_used_at_once_and_no_more_than_the_pool_may_hold(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(SPEC.to_yaml(), encoding="utf-8")
    with Ledger(folder / "ledger.db") as ledger:
        ledger.add_event("sweep_started")
        for i, key in enumerate(("aa", "bb", "cc")):
            ledger.add_trial(key, {"method": {"name": "lejepa"}}, i, 4, "data", "code")
            ledger.assign("lejepa", {}, 0, i, "evidence", key)
        ledger.add_event("started", "aa", attempt=1, epoch=0, info={})
        ledger.add_event("finished", "aa", test={})
        ledger.add_event("started", "bb", attempt=1, epoch=0, info={})
        assert status.read_status(folder).slots == 1
        for key in ("aa", "cc"):
            ledger.add_event("started", key, attempt=1, epoch=0, info={})
        assert status.read_status(folder).slots == SPEC.pool.max_concurrent == 2


def test_the_driver_and_the_latest_event_are_told(folder: Path) -> None:
    shown = " ".join(text(status.render(status.read_status(folder))).split())
    assert "no driver runs here" in shown
    assert shown.endswith("bb22 failed")
    with driving(folder):
        assert "driven by process" in text(status.render(status.read_status(folder)))


def test_watching_ends_with_the_sweep_and_holds_up_no_writer(folder: Path) -> None:
    console = Console(width=160, force_terminal=True, record=True)
    with driving(folder), Ledger(folder / "ledger.db") as ledger:
        watcher = threading.Thread(target=status.watch, args=(folder, 0.02, console), daemon=True)
        watcher.start()
        slowest = 0.0
        for epoch in range(2, 22):
            began = time.monotonic()
            ledger.add_epoch("aa11", epoch, {"val/knn": 50.0}, {"seconds": 2.0})
            slowest = max(slowest, time.monotonic() - began)
        assert watcher.is_alive()
        ledger.add_event("sweep_finished")
        watcher.join(30)
        assert not watcher.is_alive()
    assert slowest < 5.0, "SQLite would wait 30 seconds for a lock"
    assert "sweep finished" in console.export_text()


def test_a_writer_in_the_middle_of_its_transaction_does_not_hold_up_the_reader(folder: Path) -> None:
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        ledger.add_event("note", text="not yet")
        began = time.monotonic()
        assert status.read_status(folder).latest == "bb22 failed"
        assert time.monotonic() - began < 10


def test_watching_what_nobody_drives_shows_it_once(folder: Path) -> None:
    status.watch(folder, every=1000.0, console=Console(width=160))


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="holds no sweep"):
        status.read_status(tmp_path)
    (tmp_path / "sweep.yaml").write_text("name: x\n")
    with pytest.raises(LedgerError, match="is no resolved sweep"):
        status.read_status(tmp_path)


def test_a_trial_is_found_in_its_sweep_and_from_above(folder: Path) -> None:
    assert show.find_trial("bb", folder) == show.find_trial("bb22", folder.parent) == (folder, "bb22")
    with pytest.raises(LedgerError, match=r"several trials start so \(aa00, aa11"):
        show.find_trial("aa", folder.parent)
    with pytest.raises(LedgerError, match="no trial in"):
        show.find_trial("zz", folder)


def test_a_failed_trial_is_shown_with_its_reason_its_config_and_its_traceback(folder: Path) -> None:
    (folder / "logs").mkdir()
    (folder / "logs" / "bb22.txt").write_text("last words")
    shown = text(show.render(folder, "bb22"))
    for part in ("failed, 1 of 4 epochs", "evidence of arm [red]hostile", "ValueError: [bold]broken", "bb22.txt", "70"):
        assert part in shown
