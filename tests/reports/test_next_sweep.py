"""The sweep that a card proposes: it settles what is open, can be run, and costs what it says."""

import math
import re
import shlex
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.ledger import Ledger
from harness.plan import plan
from harness.spec import load_sweep
from reports import load
from reports import statistics as st
from reports.evidence import study
from reports.sections import card, gate, next_sweep, question

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, write_sweep

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAIR = ("lejepa", "vicreg")


@cache
def focused(folder):
    return question.focused(study(load(folder)))


def sweep_of(command):
    """The design that a command runs."""
    words = shlex.split(command)
    assert words[:2] == ["harness", "run"]
    return load_sweep(words[2], None, [after for word, after in pairwise(words) if word == "--set"])


@pytest.mark.parametrize("kept", ["lambda-cifar10-small", "quickstart", "heuristics", "slices"])
@pytest.mark.parametrize("kind", ["settling", "fresh", "all"])
def test_its_price_is_that_of_harness_plan_without_what_is_taken_over(kept, kind):
    found = focused(RESULTS / kept)
    command, why = {
        "settling": lambda: next_sweep.settling(found, question.unsettled(found)),
        "fresh": lambda: next_sweep.of_contrast(found, st.DECIDED),
        "all": lambda: next_sweep.more_seeds(found, 20, "More seeds"),
    }[kind]()
    spec = sweep_of(command)
    (trials,) = re.findall(r": ([\d,]+) trials, about", why)
    taken = re.findall(r"the ([\d,]+) that are there are taken over if", why)
    assert bool(taken) == ("--reuse" in command)
    there = int(taken[0]) if taken else 0
    assert int(trials) + there == plan(spec).trials
    assert there == finished_of(spec, RESULTS / kept)


def finished_of(spec, folder):
    """Trials of a design that have finished in a ledger: by arm, cell, and seed or place in the search."""
    with Ledger.read(folder / "ledger.db") as ledger:
        states, seeds = ledger.states(), {row.key: row.seed for row in ledger.trials()}
        done = {place.key: place for place in ledger.assignments() if states[place.key] == "finished"}
    cells = {(cell.arm, tuple(sorted(cell.values.items()))) for cell in spec.cells()}
    wanted = {"confirm": spec.confirm.seeds if spec.confirm else (), "search": range(10**7)}
    return sum(
        (place.arm, tuple(sorted(place.cell.items()))) in cells and seeds[key] in wanted.get(place.purpose, spec.seeds)
        for key, place in done.items()
    )


def two_arms(folder, differences):
    """Two arms whose differences are these, seed by seed."""
    arms = {name: SyntheticArm(flat(0.0), name, noise=0.0) for name in PAIR}
    folder = write_sweep(folder, arms, seeds=range(len(differences)), contrast=PAIR)
    with Ledger(folder / "ledger.db") as ledger, ledger.transaction():
        ahead = [trial.key for trial in ledger.trials() if trial.config["method"]["name"] == "lejepa"]
        for key, difference in zip(ahead, differences, strict=True):
            ledger._execute(
                """UPDATE events SET payload = json_set(payload, '$.test."test/shot1"', ?)
                WHERE kind = 'finished' AND key = ?""",
                (difference, key),
            )
    return folder


def carded(folder, monkeypatch):
    monkeypatch.setattr(card, "_figure", lambda study: None)
    found = focused(folder)
    return card.card(found, gate.gate(found))


def test_where_no_affordable_number_of_seeds_would_do_none_is_proposed(tmp_path, monkeypatch):
    """The mean lies at the edge of what matters: no interval around it leaves that edge."""
    said = carded(two_arms(tmp_path / "s", [1.0, 0.0, 2.0]), monkeypatch)
    assert said.strength == "undecided"
    assert said.command == ""
    assert said.command_note.startswith("Nothing affordable settles lejepa − vicreg: 100 pairs")
    assert any(text.startswith("Hardly more seeds, for lejepa − vicreg") for text in said.changes)


def test_what_seeds_can_settle_is_proposed_with_their_number(tmp_path, monkeypatch):
    differences = [4.0, 2.0, 0.5]
    needed = st.pairs_needed(differences, 1.0)
    said = carded(two_arms(tmp_path / "s", differences), monkeypatch)
    assert said.command_note.startswith(
        f"{needed} pairs of seeds for lejepa − vicreg: {2 * (needed - 3)} trials, about"
    )
    assert f"--set seeds={needed} " in said.command
    assert said.command.endswith(f"--reuse {tmp_path}/s")
    assert any(text.startswith(f"More seeds, for lejepa − vicreg: about {needed} pairs") for text in said.changes)


def test_two_seeds_are_no_ground_to_call_a_question_out_of_reach(tmp_path, monkeypatch):
    said = carded(two_arms(tmp_path / "s", [0.5, 1.5]), monkeypatch)
    assert said.command_note.startswith("5 pairs of seeds for lejepa − vicreg: 6 trials")
    assert "More seeds, for lejepa − vicreg: two say little of how much seeds differ." in said.changes


def test_of_several_open_lines_those_that_seeds_settle_are_proposed():
    found = focused(RESULTS / "slices")
    open_lines = question.unsettled(found)
    assert [one.beyond for one in open_lines] == [True, False]
    spec = sweep_of(next_sweep.settling(found, open_lines)[0])
    assert {cell.values["projector.dim"] for cell in spec.cells() if cell.arm == "lejepa"} == {256}
    assert len(spec.seeds) == open_lines[1].pairs


def test_the_forecast_holds_on_data_that_are_as_they_seem():
    """At the number proposed, about four in five are settled."""
    rng, differences = np.random.default_rng(0), np.array([4.0, 2.0, 0.5])
    needed = st.pairs_needed(differences, 1.0)
    draws = rng.normal(differences.mean(), differences.std(ddof=1), (200, needed))
    settled = np.mean([st.verdict(st.mean_interval(draw), 1.0) in (st.DECIDED, st.EQUIVALENT) for draw in draws])
    assert abs(settled - 0.8) < 3 * math.sqrt(0.16 / 200)


@pytest.mark.parametrize("odd", ["a=b", "a..b", "line\u202eover"])
def test_arms_that_no_override_can_name_are_not_left_out(tmp_path, odd):
    methods = {"lejepa": "lejepa", "vicreg": "vicreg", odd: "simclr"}
    arms = {name: SyntheticArm(flat(60.0), method) for name, method in methods.items()}
    found = focused(write_sweep(tmp_path / "s", arms, contrast=PAIR))
    command, why = next_sweep.more_seeds(found, 5, "More seeds", found.primary and [found.primary.a, found.primary.b])
    assert "=null" not in command
    assert ": 6 trials, about" in why
