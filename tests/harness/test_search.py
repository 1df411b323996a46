from harness.search import Budgeted, Enumerated
from lejepa.trainer import EpochReport
from tests.harness.fake import trial


def test_an_enumerated_search_suggests_every_key_once_in_order() -> None:
    trials = [trial(seed=2), trial(seed=0), trial(seed=2), trial(seed=1)]
    search = Enumerated(trials)
    suggested = []
    while not search.exhausted:
        suggested.append(search.suggest())
    assert [t.config.seed for t in suggested if t] == [2, 0, 1]
    assert search.suggest() is None


def test_an_enumerated_search_never_stops_a_trial() -> None:
    assert not Enumerated([]).observe(trial(), EpochReport(1, {"val/linear": 0.0}, {}))


def test_a_budget_of_trials_ends_the_search() -> None:
    search = Budgeted(Enumerated(trial(seed=i) for i in range(5)), trials=2, epochs=None)
    first, second = search.suggest(), search.suggest()
    assert first
    assert second
    assert search.suggest() is None
    search.ended(first, "finished")
    search.ended(second, "finished")
    assert search.suggest() is None
    assert search.exhausted


def test_a_budget_of_epochs_is_never_exceeded_and_gets_back_what_was_not_trained() -> None:
    search = Budgeted(Enumerated(trial(seed=i, epochs=4) for i in range(5)), trials=None, epochs=9)
    first, second = search.suggest(), search.suggest()
    assert first
    assert second
    assert search.suggest() is None, "one epoch is left, and a trial needs four"
    assert not search.exhausted, "a trial that runs may end early"
    search.observe(first, EpochReport(1, {}, {}))
    search.ended(first, "pruned")
    third = search.suggest()
    assert third
    assert third.config.seed == 2
    for running in (second, third):
        for epoch in range(1, 5):
            search.observe(running, EpochReport(epoch, {}, {}))
        search.ended(running, "finished")
    assert search.suggest() is None
    assert search.exhausted


def test_a_budget_counts_what_an_earlier_driver_spent() -> None:
    begun, new = trial(seed=0, epochs=4), trial(seed=1, epochs=4)
    search = Budgeted(Enumerated([begun, new]), trials=2, epochs=8, trained={begun.key: 3, "another": 1})
    assert search.suggest() == begun, "the one epoch that is left of it fits, and it was counted when it started"
    assert search.suggest() is None, "two trials are all"
    search.ended(begun, "finished")
    assert search.exhausted
