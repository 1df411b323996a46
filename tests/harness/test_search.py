from harness.search import Enumerated
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
