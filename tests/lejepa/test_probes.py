"""Probes and diagnostics against scikit-learn and cases whose answer is known."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lejepa.config import ProbeConfig
from lejepa.diagnostics import collapse, effective_rank, rankme
from lejepa.probes import Features, evaluate, k_shot, knn, label_draws, linear_probe


def blobs(n: int, seed: int, spread: float = 1.0, classes: int = 4, dim: int = 6) -> Features:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(classes, dim)) * 2
    y = np.arange(n) % classes
    x = centres[y] + spread * rng.normal(size=(n, dim))
    return Features(torch.from_numpy(x).float(), torch.from_numpy(y))


def test_the_linear_probe_agrees_with_scikit_learn() -> None:
    train, query = blobs(200, 1, 2.0), blobs(400, 2, 2.0)
    theirs = LogisticRegression(C=1 / (200 * 1e-4), max_iter=2000).fit(train.x.numpy(), train.y.numpy())
    expected = 100 * theirs.score(query.x.numpy(), query.y.numpy())
    assert linear_probe(train, query, 4) == pytest.approx(expected, abs=0.51)


def test_the_k_shot_probe_agrees_with_scikit_learn_draw_by_draw() -> None:
    train, query = blobs(400, 1, 1.5), blobs(200, 2, 1.5)
    index = label_draws(train.y, 4, shots=3, draws=5)
    expected = []
    for rows in index:
        theirs = LogisticRegression(C=1.0, fit_intercept=False, max_iter=5000, tol=1e-8)
        theirs.fit(train.x[rows].numpy(), train.y[rows].numpy())
        expected.append(100 * theirs.score(query.x.numpy(), query.y.numpy()))
    assert k_shot(train, query, 4, shots=3, draws=5) == pytest.approx(np.mean(expected), abs=0.1)


def test_label_draws_hold_the_same_number_of_every_class_and_never_change() -> None:
    labels = blobs(100, 0).y
    draws = label_draws(labels, 4, shots=2, draws=7)
    assert draws.shape == (7, 8)
    assert (torch.bincount(labels[draws].flatten()) == 14).all()
    assert torch.equal(draws, label_draws(labels, 4, shots=2, draws=7))
    with pytest.raises(ValueError, match="26-shot"):
        label_draws(labels, 4, shots=26, draws=1)


def test_knn_is_the_weighted_vote_written_as_a_loop() -> None:
    train, query = blobs(60, 3, 3.0), blobs(40, 4, 3.0)
    right = 0
    for x, y in zip(query.x, query.y, strict=True):
        similarity = torch.nn.functional.cosine_similarity(train.x, x.unsqueeze(0))
        votes = torch.zeros(4)
        for i in similarity.argsort(descending=True)[:7]:
            votes[train.y[i]] += torch.exp(similarity[i] / 0.2)
        right += int(votes.argmax() == y)
    assert knn(train, query, 4, k=7, temperature=0.2, block=16) == pytest.approx(100 * right / 40)


def test_scores_do_not_depend_on_the_scale_or_place_of_the_features() -> None:
    train, query = blobs(100, 1), blobs(100, 2)
    config = ProbeConfig(shots=(1, 5), draws=4)
    moved = [Features(f.x * 1e-3 + 7, f.y) for f in (train, query)]
    plain = evaluate(train, query, 4, config)
    shifted = evaluate(*moved, 4, config)
    assert set(plain) == {"linear", "knn", "shot1", "shot5"}
    for name in ("linear", "shot1", "shot5"):
        assert shifted[name] == pytest.approx(plain[name], abs=1.01), name


def test_features_without_information_score_at_chance() -> None:
    y = torch.arange(4000) % 4
    noise = Features(torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)), y)
    other = Features(torch.randn(4000, 8, generator=torch.Generator().manual_seed(1)), y)
    for name, score in evaluate(noise, other, 4, ProbeConfig(shots=(5,))).items():
        assert score == pytest.approx(25, abs=3), name


def test_ranks_of_known_spectra() -> None:
    generator = torch.Generator().manual_seed(0)
    isotropic = torch.linalg.qr(torch.randn(500, 10, generator=generator)).Q
    isotropic = isotropic - isotropic.mean(0)
    assert rankme(isotropic) == pytest.approx(10, abs=0.05)
    assert effective_rank(isotropic) == pytest.approx(10, abs=0.05)
    line = torch.randn(500, 1, generator=generator) * torch.ones(1, 10)
    assert rankme(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    values = torch.tensor([0.5, 0.25, 0.25])
    three = torch.linalg.qr(torch.randn(400, 4, generator=generator)).Q[:, :3] * values
    assert rankme(three) == pytest.approx(2**1.5, rel=1e-3)  # exp of the entropy of (1/2, 1/4, 1/4)


def test_collapse_is_told_from_spread() -> None:
    healthy = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    line = healthy[:, :1] * torch.ones(1, 16)
    assert collapse(healthy, healthy, 1.0)["collapsed"] == 0.0
    assert collapse(healthy, healthy * 0.01, 1.0)["collapsed"] == 1.0
    assert collapse(line, healthy, 1.0)["collapsed"] == 1.0
    assert collapse(healthy, healthy * 0.01, None)["collapsed"] == 0.0  # small, but not against its own size
    assert collapse(healthy, healthy * 0.01 + 5, None)["collapsed"] == 1.0
    assert collapse(healthy, healthy, 1.0)["std"] == pytest.approx(1, abs=0.05)
