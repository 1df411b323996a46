"""Frozen evaluation: how much a linear map, neighbours, or a few labels read from the features.

Protocol `frozen-1`. Features are centred on the training mean and divided by one number, their root mean square per
dimension, so a collapsed encoder is not rescued by whitening. All accuracies are top-1 in percent.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lejepa.config import ProbeConfig

PROTOCOL = "frozen-1"


@dataclass(frozen=True)
class Features:
    x: Tensor  # (N, D) float32
    y: Tensor  # (N,) int64

    def centred_like(self, train: "Features") -> Self:
        """Shifted and scaled by the training features' mean and root mean square: about unit variance per dimension."""
        mean = train.x.mean(0)
        scale = (train.x - mean).square().mean().sqrt().clamp(min=1e-12)
        return type(self)((self.x - mean) / scale, self.y)


def evaluate(train: Features, held_out: Features, classes: int, config: ProbeConfig) -> dict[str, float]:
    """`linear`, `knn` and `shotK` for each K in config.shots; fitted on train, accuracy on held_out."""
    reference, query = train.centred_like(train), held_out.centred_like(train)
    scores = {
        "linear": linear_probe(reference, query, classes),
        "knn": knn(train, held_out, classes, k=config.k, temperature=config.temperature),
    }
    for shots in config.shots:
        scores[f"shot{shots}"] = k_shot(reference, query, classes, shots=shots, draws=config.draws)
    return scores


def linear_probe(train: Features, query: Features, classes: int, *, ridge: float = 1e-4, steps: int = 100) -> float:
    """Multinomial logistic regression by L-BFGS on all training labels; ridge on the weights, none on the bias."""
    weight = torch.zeros(classes, train.x.shape[1], device=train.x.device, requires_grad=True)
    bias = torch.zeros(classes, device=train.x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train.x, weight, bias), train.y) + ridge / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return accuracy(F.linear(query.x, weight, bias), query.y)


def knn(train: Features, query: Features, classes: int, *, k: int, temperature: float, block: int = 1024) -> float:
    """Weighted k-NN: cosine similarity, votes exp(similarity / temperature); facebookresearch/dino, eval_knn.py."""
    reference = F.normalize(train.x, dim=1)
    votes_for = F.one_hot(train.y, classes).to(reference.dtype)
    right = 0
    for start in range(0, len(query.y), block):
        similarity = F.normalize(query.x[start : start + block], dim=1) @ reference.T
        top, index = similarity.topk(min(k, len(train.y)), dim=1)
        votes = (votes_for[index] * ((top - 1) / temperature).exp().unsqueeze(-1)).sum(1)
        right += int((votes.argmax(1) == query.y[start : start + block]).sum())
    return 100.0 * right / len(query.y)


def k_shot(train: Features, query: Features, classes: int, *, shots: int, draws: int) -> float:
    """Linear probe on `shots` labels per class, mean accuracy over `draws` label draws that depend on nothing else.

    Logistic regression with scikit-learn's default strength (C = 1), all draws at once, in its dual: the weights are a
    combination A of the few labelled features, so the logits are K·A with K = X·Xᵀ (n, n).
    """
    index = label_draws(train.y, classes, shots=shots, draws=draws)
    x, y = train.x[index], train.y[index]  # (draws, n, D), (draws, n)
    kernel = x @ x.transpose(1, 2)
    targets = F.one_hot(y, classes).to(kernel.dtype)
    n = y.shape[1]
    # the gradient's Lipschitz constant: softmax has curvature at most 1/2 against each direction of K
    rate = 1 / (0.5 * torch.linalg.matrix_norm(kernel, ord=2) / n + 1 / n).view(-1, 1, 1)
    dual = torch.zeros_like(targets)
    previous = dual
    for step in range(300):  # Nesterov's accelerated gradient, in the metric of K
        ahead = dual + (step / (step + 3)) * (dual - previous)
        gradient = (torch.softmax(kernel @ ahead, dim=-1) - targets) / n + ahead / n
        previous, dual = dual, ahead - rate * gradient
    logits = (query.x @ x.transpose(1, 2)) @ dual  # (draws, Nq, classes)
    return accuracy(logits.flatten(0, 1), query.y.repeat(draws))


def label_draws(labels: Tensor, classes: int, *, shots: int, draws: int) -> Tensor:
    """Indices (draws, classes·shots) of labelled images: the same for every trial on the same training labels."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(labels.cpu().numpy() == c) for c in range(classes)]
    short = [c for c in range(classes) if len(members[c]) < shots]
    if short:
        raise ValueError(f"the {shots}-shot probe needs {shots} training images of every class; {short[:5]} have fewer")
    picks = [np.concatenate([rng.choice(m, shots, replace=False) for m in members]) for _ in range(draws)]
    return torch.from_numpy(np.stack(picks)).to(labels.device)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 in percent."""
    return 100.0 * float((logits.argmax(-1) == labels).double().mean())


class OnlineProbe(nn.Module):
    """Layer norm and a linear layer with their own AdamW, on detached embeddings: the encoder never feels them."""

    def __init__(self, dim: int, classes: int, config: ProbeConfig) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(dim, elementwise_affine=False), nn.Linear(dim, classes)
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=config.lr, weight_decay=config.weight_decay)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(x.float()))
        return logits

    def learn(self, embeddings: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self(embeddings.detach()), labels).backward()
        self.optimizer.step()
