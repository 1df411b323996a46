"""The best of every cell, again on fresh seeds: chosen by validation, once, and never at the price of the search."""

from pathlib import Path
from typing import Any

import pytest

from harness.confirm import Confirmed
from harness.ledger import Ledger
from harness.search import Enumerated, search_for
from harness.spec import STUDY_SEEDS, SweepSpec
from tests.harness.fake import Fake
from tests.harness.searched import LR, all_ended, begin, fingerprint, go_on, places, run, spec

RANDOM = {"sampler": "random", "trials": 6}


def lr(ledger: Ledger, key: str) -> float:
    return float(ledger.trial(key).config["optimizer"]["lr"])


def best(ledger: Ledger, cell: float, metric: str = "val/linear", sign: int = -1) -> list[float]:
    """Learning rates of the cell's finished search trials, the best first."""
    states = ledger.states()
    keys = [row.key for row in places(ledger, "search") if row.cell["method.lamb"] == cell]
    ended = [key for key in keys if states[key] == "finished"]
    return [lr(ledger, key) for key in sorted(ended, key=lambda key: sign * ledger.epochs(key)[3].metrics[metric])]


@pytest.mark.parametrize(("metric", "mode", "sign"), [("val/linear", "max", -1), ("train/loss", "min", 1)])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_best_on_validation_are_confirmed_on_the_same_fresh_seeds_in_every_cell(
    tmp_path: Path, sampler: str, metric: str, mode: str, sign: int
) -> None:
    keys: dict[str, Any] = {"confirm": {"top": 2, "seeds": [4, 9]}, "metric": {"name": metric, "mode": mode}}
    sweep = spec(search={"sampler": sampler, "trials": 5, "studies": 2}, **keys)
    ledger, _ = run(sweep, tmp_path)
    for cell in (0.0, 0.05):
        confirmed = [row for row in places(ledger, "confirm") if row.cell["method.lamb"] == cell]
        assert [(row.ordinal, ledger.trial(row.key).seed) for row in confirmed] == [(0, 4), (1, 9), (2, 4), (3, 9)]
        first, second = best(ledger, cell, metric, sign)[:2]
        assert [lr(ledger, row.key) for row in confirmed] == [first, first, second, second]
    assert all_ended(ledger)


def test_only_trials_that_finished_are_candidates(tmp_path: Path) -> None:
    stopping = {"name": "asha", "reduction": 2}
    ledger, _ = run(spec(search=RANDOM, stopping=stopping, confirm={"top": 6, "seeds": 1}), tmp_path)
    assert "pruned" in ledger.states().values()
    for cell in (0.0, 0.05):
        confirmed = [lr(ledger, row.key) for row in places(ledger, "confirm") if row.cell["method.lamb"] == cell]
        assert confirmed == best(ledger, cell)
        assert len(confirmed) < 6


def test_a_config_that_two_studies_found_is_confirmed_once(tmp_path: Path) -> None:
    nuisance = {LR: {"choice": [1e-3, 1e-2]}}
    search = {"sampler": "random", "trials": 4, "studies": 2}
    sweep = spec(nuisance=nuisance, search=search, confirm={"top": 3, "seeds": 1}, scientific={})
    ledger, _ = run(sweep, tmp_path)
    assert [lr(ledger, row.key) for row in places(ledger, "confirm")] == [1e-3, 1e-2]


def test_of_equal_results_the_earlier_trial_is_confirmed(tmp_path: Path) -> None:
    sweep = spec(search=RANDOM, scientific={}, confirm={"top": 1, "seeds": 1})
    ledger = begin(sweep, tmp_path)
    keys = [row.key for row in places(ledger, "search")]
    for key in reversed(keys):
        ledger.add_epoch(key, 4, {"val/linear": 50.0}, {})
        ledger.add_event("finished", key, test={}, info={})
    confirmed = search_for(sweep, ledger, fingerprint).suggest()
    assert confirmed
    assert confirmed.config.optimizer.lr == lr(ledger, keys[0])


def test_a_cell_is_confirmed_when_its_own_search_has_ended_and_not_before(tmp_path: Path) -> None:
    sweep = spec(search={"sampler": "random", "trials": 1}, confirm={"seeds": 1})
    ledger = begin(sweep, tmp_path)
    search = search_for(sweep, ledger, fingerprint)
    zero, other = search.suggest(), search.suggest()
    assert zero
    assert other
    assert search.suggest() is None
    assert not search.exhausted, "confirmations are to come"
    ledger.add_epoch(zero.key, 4, {"val/linear": 50.0}, {})
    ledger.add_event("finished", zero.key, test={}, info={})
    search.ended(zero, "finished")
    confirmed = search.suggest()
    assert confirmed
    assert (confirmed.purpose, confirmed.cell, confirmed.reads_test) == ("confirm", {"method.lamb": 0.0}, True)
    assert [row.key for row in places(ledger, "confirm")] == [confirmed.key], "it is written down before it starts"
    assert search.suggest() is None


def test_a_cell_without_a_finished_trial_has_no_evidence_and_the_ledger_says_so_once(tmp_path: Path) -> None:
    sweep = spec(search=RANDOM, scientific={})
    ledger, search = run(sweep, tmp_path, Fake(diverges={STUDY_SEEDS: 2}))
    assert search.exhausted
    assert go_on(sweep, ledger, Fake()).exhausted
    assert places(ledger, "confirm") == []
    [note] = [event for event in ledger.events() if event.kind == "note"]
    assert note.key is None
    assert 'no search trial of ["lejepa",{}] has finished' in note.payload["text"]


def test_a_cell_whose_trial_finishes_at_the_second_try_is_confirmed_after_all(tmp_path: Path) -> None:
    sweep = spec(search=RANDOM, scientific={})
    ledger, _ = run(sweep, tmp_path, Fake(raises={STUDY_SEEDS: 2}))
    ledger.add_event("requeued", places(ledger, "search")[3].key)
    go_on(sweep, ledger, Fake())
    assert {lr(ledger, row.key) for row in places(ledger, "confirm")} == {lr(ledger, places(ledger, "search")[3].key)}


def test_a_confirmation_that_was_cut_goes_on_and_is_not_chosen_anew(tmp_path: Path) -> None:
    sweep = spec(search=RANDOM, scientific={})
    ledger = begin(sweep, tmp_path)
    go_on(sweep, ledger, Fake(), epochs=6 * 4 + 5)
    chosen = [row.key for row in places(ledger, "confirm")]
    assert [ledger.states()[key] for key in chosen] == ["finished", "running", "waiting"]
    assert go_on(sweep, ledger, Fake()).exhausted
    assert [row.key for row in places(ledger, "confirm")] == chosen
    assert {ledger.states()[key] for key in chosen} == {"finished"}
    assert len([event for event in ledger.events() if event.kind == "finished"]) == 9


def test_a_confirmation_that_another_arm_has_trained_is_not_trained_again(tmp_path: Path) -> None:
    arms = {"searched": {}, "plain": {"nuisance": {}, "base": {"optimizer": {"lr": 1e-3}}}}
    sweep = spec(nuisance={LR: {"grid": [1e-3]}}, search={"sampler": "grid"}, arms=arms, seeds=2)
    ledger, search = run(sweep, tmp_path)
    assert {row.key for row in places(ledger, "confirm")} == {row.key for row in places(ledger, "evidence")}
    started = [event.key for event in ledger.events() if event.kind == "started"]
    assert len(started) == len(set(started)) == 2 * (1 + 2)
    assert search.exhausted


# -- what the sweep file says ------------------------------------------------------------------------------------------


def test_a_search_without_a_word_on_confirm_confirms_its_best_on_the_seeds_of_the_sweep() -> None:
    assert spec(seeds=[5, 6]).confirm == spec(confirm={"top": 1, "seeds": [5, 6]}).confirm
    assert spec(seeds=[5, 6], confirm={"top": 2}).confirm == spec(confirm={"top": 2, "seeds": [5, 6]}).confirm
    assert spec(nuisance={}, search={}).confirm is None


def test_confirm_can_be_declined_and_a_resolved_sweep_stays_as_it_is(tmp_path: Path) -> None:
    declined = spec(confirm=None, search=RANDOM)
    assert declined.confirm is None
    assert SweepSpec.model_validate(declined.model_dump(mode="json")) == declined
    assert SweepSpec.model_validate(spec().model_dump(mode="json")) == spec()
    ledger, _ = run(declined, tmp_path)
    assert {row.purpose for row in ledger.assignments()} == {"search"}
    with pytest.raises(ValueError, match="no `confirm`"):
        Confirmed(Enumerated([]), declined, ledger)


# -- within a budget -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_budget_of_epochs_ends_the_search_early_enough_to_confirm_what_it_found(tmp_path: Path, sampler: str) -> None:
    search = {"sampler": sampler, "trials": 40}
    sweep = spec(search=search, stopping={"name": "asha"}, confirm={"seeds": 2}, budget={"epochs": 60})
    ledger, ran = run(sweep, tmp_path)
    assert ran.exhausted
    assert 50 < len(ledger.epochs()) <= 60
    assert [row.cell["method.lamb"] for row in places(ledger, "confirm")] == [0.0, 0.0, 0.05, 0.05]
    states = ledger.states()
    assert {states[row.key] for row in places(ledger, "confirm")} == {"finished"}
    assert go_on(sweep, ledger, Fake()).exhausted
    assert len(ledger.epochs()) <= 60


def test_a_budget_of_trials_sets_the_confirmation_aside_too(tmp_path: Path) -> None:
    ledger, _ = run(spec(search=RANDOM, confirm={"seeds": 2}, budget={"trials": 9}), tmp_path)
    ended = {key for key, state in ledger.states().items() if state == "finished"}
    assert len(ended & {row.key for row in places(ledger, "search")}) == 5
    assert len(ended & {row.key for row in places(ledger, "confirm")}) == 4


def test_epochs_that_were_trained_twice_are_charged_twice(tmp_path: Path) -> None:
    sweep = spec(search=RANDOM, scientific={}, stopping={"name": "asha"}, confirm={"seeds": 1}, budget={"epochs": 12})
    ledger = begin(sweep, tmp_path)
    first = places(ledger, "search")[0].key
    for attempt in range(2):
        ledger.add_event("started", first, attempt=attempt + 1, epoch=0, info={})  # its checkpoint is lost each time
        for epoch in (1, 2, 3):
            ledger.add_epoch(first, epoch, {"val/linear": 50.0}, {})
    search = search_for(sweep, ledger, fingerprint)
    suggested = search.suggest()
    assert suggested
    assert suggested.key == first, "one epoch is left of it, and 12 - 4 (confirmation) - 3 - 3 of the budget"
    assert search.suggest() is None
