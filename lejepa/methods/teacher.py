"""Methods whose targets come from a teacher: the moving average of the student's encoder and heads."""

import copy
import math

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from lejepa.averaging import follow
from lejepa.methods.base import Method


class Taught(Method):
    """A student of `encoder` and further parts, and a teacher of the same parts; the teacher is what is evaluated.

    The parameters of the teacher follow; its BatchNorm has running statistics of its own, from its own passes, and in
    training normalises by the batch. It drops no paths (facebookresearch/dino, main_dino.py).
    """

    teacher: nn.Sequential  # encoder, projector, …
    target_std = None  # nothing asks the projections for unit variance

    def start_teacher(self) -> None:
        self.teacher = nn.Sequential(*(copy.deepcopy(part) for part in self.student())).requires_grad_(False)
        for module in self.teacher.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0

    def student(self) -> list[nn.Module]:
        """The parts that the teacher averages, in the order of its pass."""
        return [self.encoder, self.projector]

    def follow(self, momentum: float) -> None:
        """teacher ← momentum · teacher + (1 − momentum) · student."""
        follow(self.teacher.parameters(), nn.ModuleList(self.student()).parameters(), momentum)

    @torch.no_grad()
    def teach(self, views: Tensor) -> list[Tensor]:
        """The teacher's outputs (N, K) of each of the views (V, N, C, S, S), a pass each."""
        outputs = []
        for number, view in enumerate(views):
            embeddings = self.teacher[0](view)
            if number == 0:
                self.seen = embeddings
            outputs.append(self.teacher[1:](embeddings))
        return outputs

    @property
    def evaluated(self) -> nn.Module:
        return self.teacher[0]

    def project(self, embeddings: Tensor) -> Tensor:
        projections: Tensor = self.teacher[1](embeddings)
        return projections


def cosine_to_one(start: float, step: int, steps: int) -> float:
    """1 − (1 − start)·(1 + cos(π·step/steps))/2: the momentum of BYOL, DINO and MoCo v3."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * step / steps)) / 2
