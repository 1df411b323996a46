"""A sweep that gets more seeds, trials or budget in its own folder keeps what it has, and gains what is new."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import cli
from harness.extend import extend_sweep, extended
from harness.folder import Refused, opened
from harness.ledger import Ledger
from harness.resume import resume_sweep
from harness.run import run_sweep
from harness.spec import SweepSpec, load_sweep
from tests.harness.fake import Fake, NoMirror

PLAIN: dict[str, Any] = {
    "name": "swept",
    "base": {"epochs": 2, "data": {"name": "digits", "size": 16}},
    "scientific": {"method.lamb": {"grid": [0.02, 0.05]}},
    "seeds": [0, 1],
    "pool": {"cpus": 1, "max_concurrent": 1},
}
SEARCH: dict[str, Any] = {
    **PLAIN,
    "nuisance": {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}},
    "search": {"sampler": "qmc", "trials": 3},
    "confirm": {"top": 2, "seeds": [0, 1]},
}


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.drive.MirrorThread", lambda *_: NoMirror())


def sweep(tmp_path: Path, spec: Mapping[str, Any], **changes: Any) -> Path:
    made = SweepSpec.model_validate({**spec, **changes})
    run_sweep(made, tmp_path / made.name, "local", trainer=Fake())
    return tmp_path / made.name


def extend(folder: Path, *overrides: str, trainer: Any = None, **how: Any) -> None:
    extend_sweep(folder, overrides, trainer=trainer or Fake(), **how)


def record(folder: Path) -> dict[str, Any]:
    """Place → key, key → metrics per epoch, and how often each trial has finished."""
    with Ledger.read(folder / "ledger.db") as ledger:
        places = {(r.arm, str(r.cell), r.study, r.ordinal, r.purpose): r.key for r in ledger.assignments()}
        return {
            "places": places,
            "epochs": {(row.key, row.epoch): row.metrics for row in ledger.epochs()},
            "finished": Counter(event.key for event in ledger.events() if event.kind == "finished"),
            "kinds": [event.kind for event in ledger.events() if event.key is None],
        }


def configs(folder: Path, purpose: str) -> dict[str, set[tuple[float, int]]]:
    """Cell → (learning rate, seed) of its trials."""
    found: dict[str, set[tuple[float, int]]] = {}
    with Ledger.read(folder / "ledger.db") as ledger:
        for row in ledger.assignments():
            if row.purpose == purpose:
                trial = ledger.trial(row.key)
                found.setdefault(str(row.cell), set()).add((trial.config["optimizer"]["lr"], trial.seed))
    return found


def test_more_seeds_come_to_the_record_that_a_sweep_with_all_of_them_has(tmp_path: Path) -> None:
    folder, whole = sweep(tmp_path, PLAIN), sweep(tmp_path, PLAIN, name="whole", seeds=4)
    before = record(folder)
    extend(folder, seeds=4)
    after, planned = record(folder), record(whole)
    assert (after["places"], after["epochs"]) == (planned["places"], planned["epochs"])
    assert set(after["finished"].values()) == {1}, "what had finished was not trained again"
    assert before["places"].items() <= after["places"].items()
    assert after["kinds"][-3:] == ["sweep_extended", "sweep_resumed", "sweep_finished"]
    assert load_sweep(folder / "sweep.yaml").seeds == (0, 1, 2, 3)


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_more_trials_go_on_with_the_same_search(tmp_path: Path, sampler: str) -> None:
    folder = sweep(tmp_path, SEARCH, search={"sampler": sampler, "trials": 3})
    before = record(folder)
    extend(folder, trials=6)
    after = record(folder)
    assert before["places"].items() <= after["places"].items()
    assert set(after["finished"].values()) == {1}
    assert [len(points) for points in configs(folder, "search").values()] == [6, 6]
    if sampler != "tpe":  # whose points depend on how many trials it starts with
        whole = sweep(tmp_path, SEARCH, name="whole", search={"sampler": sampler, "trials": 6})
        planned = record(whole)
        assert {place for place in planned["places"].items() if place[0][4] == "search"} <= after["places"].items()
        best = configs(whole, "confirm")
        assert all(best[cell] <= confirmed for cell, confirmed in configs(folder, "confirm").items())


def test_more_seeds_confirm_what_was_confirmed_on_them(tmp_path: Path) -> None:
    folder = sweep(tmp_path, SEARCH)
    before = configs(folder, "confirm")
    extend(folder, seeds=3)
    after = configs(folder, "confirm")
    for cell, known in before.items():
        rates = {rate for rate, _ in known}
        assert after[cell] == {(rate, seed) for rate in rates for seed in (0, 1, 2)}
    assert set(record(folder)["finished"].values()) == {1}
    assert len(record(folder)["places"]) == 2 * (3 + 2 * 3)


def test_a_sweep_that_its_budget_ended_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    arms = {"a": {"base": {"method": {"lamb": 0.1}}}, "b": {"base": {"method": {"lamb": 0.2}}}}
    folder = sweep(tmp_path, PLAIN, scientific={}, arms=arms, budget={"epochs": 6})
    assert len(record(folder)["epochs"]) == 6
    said = CliRunner().invoke(cli.app, ["resume", str(folder)])
    assert said.exit_code == 0
    assert "budget.epochs is used, and 1 trials wait" in said.output
    extend(folder, "budget.epochs=8")
    assert len(record(folder)["epochs"]) == 8
    assert record(folder)["kinds"].count("budget_spent") == 1
    assert "the sweep has finished" in CliRunner().invoke(cli.app, ["resume", str(folder)]).output


@pytest.mark.parametrize("died", ["before the file", "before the first trial"])
def test_a_driver_that_dies_while_it_extends_leaves_it_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: str
) -> None:
    folder, whole = sweep(tmp_path, PLAIN), sweep(tmp_path, PLAIN, name="whole", seeds=3)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("harness.extend.replace_spec" if died == "before the file" else "harness.extend.go_on", dies)
        with pytest.raises(KeyboardInterrupt):
            extend(folder, seeds=3)
    assert len(load_sweep(folder / "sweep.yaml").seeds) == (2 if died == "before the file" else 3)
    with pytest.raises(Refused, match="no more than the 3 that it has"):
        extend(folder, seeds=3)
    assert resume_sweep(folder, trainer=Fake())
    assert record(folder)["epochs"] == record(whole)["epochs"]
    with opened(folder) as (spec, _):
        assert spec.seeds == (0, 1, 2)


def test_an_extension_that_fails_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sweep(tmp_path, PLAIN)
    before = record(folder), (folder / "sweep.yaml").read_bytes()

    def fails(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("harness.extend.record", fails)
    with pytest.raises(RuntimeError):
        extend(folder, seeds=3)
    assert (record(folder), (folder / "sweep.yaml").read_bytes()) == before


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["base.epochs=5"], "base would change"),
        ([f"{at}scientific.method.lamb.grid=[0.02,0.1]" for at in ("", "arms.lejepa.")], "scientific would change"),
        ([f"{at}nuisance.optimizer.lr.uniform=[0.1,0.2]" for at in ("", "arms.lejepa.")], "nuisance would change"),
        (["metric.name=val/knn"], "metric would change"),
        (["search.sampler=random"], "search would change"),
        (["name=other"], "name would change"),
        (["pool.cpus=2"], "pool would change"),
        (["search.trials=2"], "search.trials would be 2, and 3 are planned"),
        (["seeds=[5,6,7]"], r"seeds \[5, 6, 7\] do not begin with \[0, 1\]"),
        (["confirm.seeds=1"], "confirm.seeds"),
        (["confirm.top=1"], "confirm.top would be 1"),
        (["confirm=null"], "confirm would be taken back"),
    ],
)
def test_what_would_be_another_sweep_is_refused_with_the_command_that_runs_it(
    tmp_path: Path, overrides: list[str], why: str
) -> None:
    spec = SweepSpec.model_validate(SEARCH)
    (tmp_path / "sweep.yaml").write_text(spec.to_yaml())
    with pytest.raises(Refused, match=rf"{why}.*harness run .*sweep.yaml --set name=OTHER .*--reuse"):
        extended(tmp_path, spec, overrides)


def test_nothing_new_and_what_is_no_sweep_are_refused(tmp_path: Path) -> None:
    folder = sweep(tmp_path, PLAIN, seeds=1)
    for how, why in (
        ({"seeds": 1}, "1 seeds are no more"),
        ({"trials": 9}, "nothing is searched"),
        ({}, "has all of this"),
    ):
        with pytest.raises(Refused, match=why):
            extend(folder, **how)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="holds no sweep"):
        extend(tmp_path / "none", seeds=3)
