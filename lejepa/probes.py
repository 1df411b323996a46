"""Frozen evaluation: how much a linear map, neighbours, or a few labels read from features that no longer change.

Protocol `frozen-2`; every number of it can be made again from this text. All accuracies are top-1 in percent.

Features. Images as they are, resized to the training's size, the encoder in evaluation mode and in the training's
precision (bf16: under autocast), its output in float32 from there on. For `linear` and `shotK` they are centred on the
mean of the training features and divided by one number, their root mean square per dimension (but no less than 1e-6 of
that of the uncentred features, so that rounding is not blown up). Never one number per dimension: whitening would
rescue an encoder that has let most of its dimensions collapse. No layer norm either: docs/evaluation.md has the
comparison.

linear. Multinomial logistic regression on all training labels: mean cross-entropy + ridge/2·‖W‖², no penalty on the
bias, solved to its optimum (L-BFGS, lejepa/logistic.py). The ridge is the one of RIDGES with the best accuracy on
`selection`, the strongest of equals; what is reported is that fit's accuracy on `query`. So where query is selection,
as on val, it is the best accuracy over the grid; on test it is not chosen by test. `linear_ridge` is log10 of it.

knn. Neighbours by cosine similarity of the features, uncentred; the k nearest vote exp(similarity / temperature)
(facebookresearch/dino, eval_knn.py). With fewer than k training images all of them vote.

shotK. K labels of every class, drawn `draws` times from the training labels (numpy's default_rng(0), class by class,
draw by draw); logistic regression of scikit-learn's default strength (C = 1: ridge 1/n on the mean loss), no bias. Mean
accuracy on query over the draws. Nothing is selected.

To the protocol belong fine-tuning (lejepa/finetune.py) and the diagnostics (lejepa/diagnostics.py), each defined there.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lejepa import logistic
from lejepa.config import ProbeConfig

PROTOCOL = "frozen-2"
RIDGES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # strong to weak: each fit starts from the one before
_MOST_AXES = 4096  # numbers of images or features up to which the linear probe is solved in principal axes
_ROWS = 1 << 14  # images turned into principal axes at a time
_BLOCK = 1 << 24  # similarities or logits that exist at a time, elements: 64 MB


@dataclass(frozen=True)
class Features:
    x: Tensor  # (N, D) float32
    y: Tensor  # (N,) int64

    def centred_like(self, train: "Features") -> Self:
        """Shifted and scaled by the training features' mean and root mean square: about unit variance per dimension."""
        mean = train.x.mean(0)
        scale = torch.maximum((train.x - mean).square().mean(), 1e-12 * train.x.square().mean()).sqrt()
        return type(self)((self.x - mean) / scale.clamp(min=1e-30), self.y)


def evaluate(
    train: Features, selection: Features, query: Features, classes: int, config: ProbeConfig
) -> dict[str, float]:
    """`linear`, `linear_ridge`, `knn` and `shotK` for each K in config.shots.

    Fitted on train, chosen on selection, accuracy on query. On val, selection is query and `linear` the best of the
    grid. ValueError where features and labels do not fit together, are not finite, or are too few for the shots.
    """
    _check_features({"train": train, "selection": selection, "query": query}, classes)
    check(train.y, classes, config)
    reference, asked = train.centred_like(train), query.centred_like(train)
    chosen = asked if selection is query else selection.centred_like(train)
    linear, ridge = linear_probe(reference, chosen, asked, classes)
    scores = {
        "linear": linear,
        "linear_ridge": math.log10(ridge),
        "knn": knn(train, query, classes, k=config.k, temperature=config.temperature),
    }
    for shots in config.shots:
        scores[f"shot{shots}"] = k_shot(reference, asked, classes, shots=shots, draws=config.draws)
    return scores


def check(labels: Tensor, classes: int, config: ProbeConfig) -> None:
    """ValueError where the training labels (N,) cannot serve these probes; looks at labels alone."""
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"training labels must be whole numbers from 0 to {classes - 1}, and not none")
    counts = torch.bincount(labels, minlength=classes)
    for shots in config.shots:
        short = (counts < shots).nonzero().flatten().tolist()
        if short:
            fewest = int(counts.min())
            raise ValueError(
                f"the {shots}-shot probe needs {shots} training images of every class; {len(short)} of {classes} "
                f"classes have fewer, the first {short[:5]}, the smallest {fewest}; set probe.shots to {fewest} or less"
            )


def linear_probe(
    train: Features, selection: Features, query: Features, classes: int, ridges: tuple[float, ...] = RIDGES
) -> tuple[float, float]:
    """Accuracy on query of the fit whose ridge is best on selection, and that ridge. Features as they are to be fitted.

    ridges: from strong to weak; the first of equally good ones is taken.
    """
    axes = None  # of thousands of pixels they would cost more than they save
    if min(train.x.shape) <= _MOST_AXES:
        axes = logistic.principal_axes(train.x.unsqueeze(0)).squeeze(0)  # (D, r)
    x, chosen, asked = (_with_bias(f.x, axes) for f in (train, selection, query))  # (N, r + 1)
    penalised = torch.ones(x.shape[1], device=x.device)
    penalised[-1] = 0
    best: tuple[float, float, Tensor | None] = (-1.0, ridges[0], None)
    weight = None
    for ridge in ridges:
        weight = logistic.fit(x.unsqueeze(0), train.y.unsqueeze(0), ridge * penalised, classes, start=weight)
        score = accuracy(F.linear(chosen, weight[0]), selection.y)
        if score > best[0]:
            best = (score, ridge, weight)
    _, ridge, weight = best
    assert weight is not None
    return accuracy(F.linear(asked, weight[0]), query.y), ridge


def _with_bias(x: Tensor, axes: Tensor | None) -> Tensor:
    """x (N, D) in these axes (D, r), and a last column of ones: (N, r + 1)."""
    turned = torch.ones(len(x), 1 + (x if axes is None else axes).shape[1], device=x.device)
    for part, out in zip(x.split(_ROWS), turned.split(_ROWS), strict=True):
        out[:, :-1] = part if axes is None else part @ axes
    return turned


def knn(train: Features, query: Features, classes: int, *, k: int, temperature: float) -> float:
    """Weighted k-NN: cosine similarity, votes exp(similarity / temperature); k is cut to the number of images."""
    reference = F.normalize(train.x, dim=1)
    k = min(k, len(train.y))
    right = 0
    block = max(1, _BLOCK // max(len(train.y), k * classes))
    for x, y in zip(query.x.split(block), query.y.split(block), strict=True):
        top, index = (F.normalize(x, dim=1) @ reference.T).topk(k, dim=1)
        ballots = F.one_hot(train.y[index], classes).to(top.dtype)  # (block, k, classes)
        votes = (ballots * ((top - 1) / temperature).exp().unsqueeze(-1)).sum(1)
        right += int((votes.argmax(1) == y).sum())
    return 100.0 * right / len(query.y)


def k_shot(train: Features, query: Features, classes: int, *, shots: int, draws: int) -> float:
    """Linear probe on `shots` labels per class, mean accuracy over `draws` label draws that depend on nothing else."""
    index = label_draws(train.y, classes, shots=shots, draws=draws)
    n = index.shape[1]
    together = max(1, _BLOCK // (n * max(train.x.shape[1], classes) + len(query.y) * classes))
    right = 0.0
    for rows in index.split(together):
        x = train.x[rows]  # (draws, n, D)
        axes = logistic.principal_axes(x)
        penalty = torch.full((axes.shape[-1],), 1 / n, device=x.device)
        weight = logistic.fit(x @ axes, train.y[rows], penalty, classes) @ axes.mT  # (draws, classes, D)
        logits = F.linear(query.x, weight.flatten(0, 1)).view(len(query.y), len(rows), classes)
        right += accuracy(logits, query.y.unsqueeze(1)) * len(rows)
    return right / draws


def label_draws(labels: Tensor, classes: int, *, shots: int, draws: int) -> Tensor:
    """Indices (draws, classes·shots) of labelled images: the same for every trial on the same training labels."""
    rng = np.random.default_rng(0)
    given = labels.cpu().numpy()
    members = np.split(np.argsort(given, kind="stable"), np.cumsum(np.bincount(given, minlength=classes))[:-1])
    picks = [np.concatenate([rng.choice(m, shots, replace=False) for m in members]) for _ in range(draws)]
    return torch.from_numpy(np.stack(picks)).to(labels.device)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 in percent."""
    return 100.0 * float((logits.argmax(-1) == labels).double().mean())


def _check_features(parts: dict[str, Features], classes: int) -> None:
    dim = parts["train"].x.shape[-1]
    for name, part in parts.items():
        if part.x.ndim != 2 or part.x.shape[1] != dim or part.y.shape != part.x.shape[:1] or len(part.y) == 0:
            shapes = f"{tuple(part.x.shape)} with labels {tuple(part.y.shape)}"
            raise ValueError(f"{name} features must be (N, {dim}) with N labels, N of 1 or more, not {shapes}")
        if not part.x.isfinite().all():
            raise ValueError(f"{name} features are not finite")
        if int(part.y.min()) < 0 or int(part.y.max()) >= classes:
            raise ValueError(
                f"{name} labels must lie in 0 … {classes - 1}, not {int(part.y.min())} … {int(part.y.max())}"
            )


class OnlineProbe(nn.Module):
    """Layer norm and a linear layer with their own AdamW, on detached embeddings: the encoder never feels them."""

    def __init__(self, dim: int, classes: int, config: ProbeConfig) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(dim, elementwise_affine=False), nn.Linear(dim, classes)
        self.optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(x.float()))
        return logits

    def learn(self, embeddings: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self(embeddings.detach()), labels).backward()
        self.optimizer.step()
