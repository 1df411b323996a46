"""A Ray without a living node ends the sweep, which can go on: Tune alone would wait for ever."""

from pathlib import Path
from typing import Any

import pytest

from harness import drive, tuning
from harness.attempt import Listener, NodesLost
from harness.folder import RunError
from harness.ledger import Ledger
from harness.resume import resume_sweep
from harness.run import run_sweep
from harness.search import Search
from harness.spec import SweepSpec
from harness.tuning import Sweep, Undertaker
from tests.harness.fake import Fake


def after_a_look(monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, Any]]) -> Sweep:
    nothing: Any = None
    looked = Sweep(nothing, nothing, nothing, nothing, nothing, lambda: None)
    monkeypatch.setattr(tuning, "_LOOK", 0.0)
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    Undertaker(looked).on_step_end(1, [])
    return looked


def test_a_look_at_dead_nodes_alone_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = after_a_look(monkeypatch, [{"Alive": False}, {"Alive": False}])
    assert isinstance(lost.error, NodesLost)
    assert lost.over
    assert not after_a_look(monkeypatch, [{"Alive": False}, {"Alive": True}]).over


class Lost:
    """An executor whose nodes go at once."""

    name = "local"

    def __enter__(self) -> "Lost":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def run(self, search: Search, listener: Listener, folder: Path, stop: Any = None) -> None:
        raise NodesLost("no node of Ray is alive any more")


def test_it_is_told_with_how_to_go_on_and_a_resume_does(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SweepSpec.model_validate({"name": "lost", "base": {"epochs": 2}, "seeds": 2, "pool": {"cpus": 1}})
    with monkeypatch.context() as gone:
        gone.setattr(drive, "_places", lambda spec, means: Lost())
        with pytest.raises(RunError, match=r"no node of Ray is alive any more.*harness resume"):
            run_sweep(spec, runs / "lost", "local", trainer=Fake())
    assert resume_sweep(runs / "lost", "local", trainer=Fake()) is not None
    with Ledger.read(runs / "lost" / "ledger.db") as ledger:
        assert set(ledger.states().values()) == {"finished"}
