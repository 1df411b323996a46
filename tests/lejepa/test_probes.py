"""The frozen evaluation against scikit-learn and cases whose answer is known."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from lejepa import logistic, probes
from lejepa.config import ProbeConfig
from lejepa.probes import RIDGES, Features, check, evaluate, k_shot, knn, label_draws, linear_probe


def blobs(n: int, seed: int, spread: float = 1.0, classes: int = 4, dim: int = 6) -> Features:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, dim)) * 2
    y = np.arange(n) % classes
    x = centres[y] + spread * rng.normal(size=(n, dim))
    return Features(torch.from_numpy(x).float(), torch.from_numpy(y))


def skewed(features: Features) -> Features:
    """The same information in dims whose deviations lie three orders of magnitude apart, and correlate."""
    dim = features.x.shape[1]
    mix = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(0))).Q
    return Features(features.x * torch.logspace(0, -3, dim) @ mix, features.y)


def theirs(train: Features, ridge: float) -> LogisticRegression:
    model = LogisticRegression(C=1 / (len(train.y) * ridge), max_iter=20_000, tol=1e-10)
    return model.fit(train.x.double().numpy(), train.y.numpy())


@pytest.mark.parametrize("ridge", [1e-1, 1e-3, 1e-5])
def test_the_linear_probe_is_the_optimum_that_scikit_learn_finds(ridge: float) -> None:
    train, query = skewed(blobs(200, 1, 2.0)), skewed(blobs(1000, 2, 2.0))
    train, query = train.centred_like(train), query.centred_like(train)
    expected = 100 * theirs(train, ridge).score(query.x.numpy(), query.y.numpy())
    assert linear_probe(train, query, query, 4, (ridge,)) == (pytest.approx(expected, abs=0.21), ridge)


@pytest.mark.parametrize(("n", "dim"), [(300, 12), (20, 30)])
def test_the_weights_are_those_of_scikit_learn_with_more_images_or_more_dims(n: int, dim: int) -> None:
    train = blobs(n, 1, 2.0, dim=dim)
    train = train.centred_like(train)
    axes = logistic.principal_axes(train.x.unsqueeze(0))
    penalty = torch.full((axes.shape[-1],), 1e-2)
    weight = (logistic.fit(train.x @ axes, train.y.unsqueeze(0), penalty, 4) @ axes.mT)[0]
    model = LogisticRegression(C=1 / (n * 1e-2), fit_intercept=False, max_iter=20_000, tol=1e-10)
    expected = model.fit(train.x.double().numpy(), train.y.numpy()).coef_
    assert np.abs(weight.numpy() - expected).max() < 2e-3 * np.abs(expected).max()


def test_several_problems_at_once_are_solved_as_one_by_one() -> None:
    parts = [blobs(40, seed, 2.0) for seed in range(3)]
    x, y = torch.stack([p.x for p in parts]), torch.stack([p.y for p in parts])
    penalty = torch.full((6,), 1e-2)
    together = logistic.fit(x, y, penalty, 4)
    for i in range(3):
        assert torch.allclose(together[i], logistic.fit(x[i : i + 1], y[i : i + 1], penalty, 4)[0], atol=5e-3)


def test_the_ridge_is_chosen_on_selection_and_the_accuracy_is_of_query() -> None:
    train, selection, query = (blobs(n, seed, 6.0, dim=60) for n, seed in ((80, 1), (200, 2), (200, 3)))
    each = {ridge: linear_probe(train, selection, selection, 4, (ridge,))[0] for ridge in RIDGES}
    assert len(set(each.values())) > 1, "the case must have something to choose"
    score, ridge = linear_probe(train, selection, query, 4)
    assert each[ridge] == max(each.values())
    assert score == pytest.approx(linear_probe(train, selection, query, 4, (ridge,))[0], abs=0.51)


def test_query_labels_choose_nothing() -> None:
    train, selection, query = (blobs(n, seed, 6.0, dim=60) for n, seed in ((80, 1), (200, 2), (200, 3)))
    wrong = Features(query.x, (query.y + 1) % 4)
    config = ProbeConfig(shots=(2,), draws=2)
    right_scores = evaluate(train, selection, query, 4, config)
    wrong_scores = evaluate(train, selection, wrong, 4, config)
    assert right_scores["linear_ridge"] == wrong_scores["linear_ridge"]
    assert right_scores["linear"] + wrong_scores["linear"] <= 100


def test_on_val_linear_is_the_best_of_the_grid() -> None:
    train, val = blobs(80, 1, 6.0, dim=60), blobs(200, 2, 6.0, dim=60)
    scores = evaluate(train, val, val, 4, ProbeConfig())
    reference, query = train.centred_like(train), val.centred_like(train)
    each = [linear_probe(reference, query, query, 4, (ridge,))[0] for ridge in RIDGES]
    assert scores["linear"] == pytest.approx(max(each), abs=0.51)
    assert 10.0 ** scores["linear_ridge"] == pytest.approx(RIDGES[int(np.argmax(each))])


def test_the_k_shot_probe_agrees_with_scikit_learn_draw_by_draw() -> None:
    train, query = blobs(400, 1, 1.5), blobs(200, 2, 1.5)
    index = label_draws(train.y, 4, shots=3, draws=5)
    expected = []
    for rows in index:
        model = LogisticRegression(C=1.0, fit_intercept=False, max_iter=5000, tol=1e-8)
        model.fit(train.x[rows].numpy(), train.y[rows].numpy())
        expected.append(100 * model.score(query.x.numpy(), query.y.numpy()))
    assert k_shot(train, query, 4, shots=3, draws=5) == pytest.approx(np.mean(expected), abs=0.1)


def test_label_draws_hold_the_same_number_of_every_class_and_never_change() -> None:
    labels = blobs(100, 0).y
    draws = label_draws(labels, 4, shots=2, draws=7)
    assert draws.shape == (7, 8)
    assert (torch.bincount(labels[draws].flatten()) == 14).all()
    assert (draws.sort(dim=1).values.diff(dim=1) > 0).all(), "no label twice in a draw"
    assert torch.equal(draws, label_draws(labels, 4, shots=2, draws=7))


def test_knn_is_the_weighted_vote_written_as_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    train, query = blobs(60, 3, 3.0), blobs(40, 4, 3.0)
    right = 0
    for x, y in zip(query.x, query.y, strict=True):
        similarity = torch.nn.functional.cosine_similarity(train.x, x.unsqueeze(0))
        votes = torch.zeros(4)
        for i in similarity.argsort(descending=True)[:7]:
            votes[train.y[i]] += torch.exp(similarity[i] / 0.2)
        right += int(votes.argmax() == y)
    assert knn(train, query, 4, k=7, temperature=0.2) == pytest.approx(100 * right / 40)
    monkeypatch.setattr(probes, "_BLOCK", 16 * 60)
    assert knn(train, query, 4, k=7, temperature=0.2) == pytest.approx(100 * right / 40)


def test_with_fewer_images_than_neighbours_all_of_them_vote() -> None:
    train, query = blobs(12, 3), blobs(40, 4)
    assert knn(train, query, 4, k=500, temperature=0.1) == knn(train, query, 4, k=12, temperature=0.1)


def test_scores_do_not_depend_on_how_much_is_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    train, query = blobs(200, 1, 2.0), blobs(100, 2, 2.0)
    config = ProbeConfig(shots=(1, 5), draws=6)
    whole = evaluate(train, query, query, 4, config)
    monkeypatch.setattr(probes, "_BLOCK", 500)
    monkeypatch.setattr(logistic, "_CHUNK", 28)
    assert evaluate(train, query, query, 4, config) == pytest.approx(whole, abs=0.4)


def test_without_principal_axes_the_optimum_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, query = blobs(200, 1, 2.0), blobs(1000, 2, 2.0)
    turned = linear_probe(train, query, query, 4, (1e-2,))
    monkeypatch.setattr(probes, "_MOST_AXES", 1)
    assert linear_probe(train, query, query, 4, (1e-2,)) == (pytest.approx(turned[0], abs=0.21), 1e-2)


def test_scores_do_not_depend_on_the_scale_or_place_of_the_features() -> None:
    train, query = blobs(100, 1), blobs(100, 2)
    config = ProbeConfig(shots=(1, 5), draws=4)
    moved = [Features(f.x * 1e-3 + 7, f.y) for f in (train, query)]
    plain = evaluate(train, query, query, 4, config)
    shifted = evaluate(moved[0], moved[1], moved[1], 4, config)
    assert set(plain) == {"linear", "linear_ridge", "knn", "shot1", "shot5"}
    for name in ("linear", "shot1", "shot5"):
        assert shifted[name] == pytest.approx(plain[name], abs=1.01), name


def test_features_without_information_score_at_chance() -> None:
    y = torch.arange(4000) % 4
    noise = Features(torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)), y)
    other = Features(torch.randn(4000, 8, generator=torch.Generator().manual_seed(1)), y)
    scores = evaluate(noise, other, other, 4, ProbeConfig(shots=(5,)))
    for name in ("linear", "knn", "shot5"):
        assert scores[name] == pytest.approx(25, abs=3), name


def test_dims_that_have_collapsed_are_not_rescued() -> None:
    def one_dim_left(seed: int) -> Features:
        informative = blobs(2000, seed, 0.5)
        noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(seed))
        return Features(torch.cat([noise, 1e-5 * informative.x], dim=1), informative.y)

    train, query = one_dim_left(1), one_dim_left(2)
    scores = evaluate(train, query, query, 4, ProbeConfig(shots=(5,)))
    whitened = [Features(f.x / train.x.std(0), f.y) for f in (train, query)]
    assert evaluate(whitened[0], whitened[1], whitened[1], 4, ProbeConfig(shots=(5,)))["linear"] > 90
    for name in ("linear", "knn", "shot5"):
        assert scores[name] < 40, name


@pytest.mark.parametrize("value", [0.0, 3.7])
def test_constant_features_score_at_chance(value: float) -> None:
    y = torch.arange(400) % 4
    constant = Features(torch.full((400, 8), value), y)
    for name, score in evaluate(constant, constant, constant, 4, ProbeConfig(shots=(5,))).items():
        if name != "linear_ridge":
            assert score == pytest.approx(25, abs=1), name


def test_more_shots_than_a_class_has_are_refused_from_the_labels_alone() -> None:
    labels = blobs(101, 0).y
    check(labels, 4, ProbeConfig(shots=(25,)))
    with pytest.raises(ValueError, match="26-shot probe needs 26 training images of every class; 3 of 4 classes"):
        check(labels, 4, ProbeConfig(shots=(1, 26)))
    with pytest.raises(ValueError, match="from 0 to 2"):
        check(labels, 3, ProbeConfig())


def not_finite(x: Tensor) -> Tensor:
    return torch.where(x > 2, torch.nan, x)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda f: Features(not_finite(f.x), f.y), "query features are not finite"),
        (lambda f: Features(f.x[:, :3], f.y), r"query features must be \(N, 6\)"),
        (lambda f: Features(f.x, f.y[:-1]), "with N labels"),
        (lambda f: Features(f.x[:0], f.y[:0]), "N of 1 or more"),
        (lambda f: Features(f.x, f.y + 1), r"query labels must lie in 0 … 3, not 1 … 4"),
    ],
)
def test_features_that_cannot_be_judged_are_refused(spoilt, words: str) -> None:  # type: ignore[no-untyped-def]
    good = blobs(40, 1)
    with pytest.raises(ValueError, match=words):
        evaluate(good, good, spoilt(good), 4, ProbeConfig())
