"""DINO: match the distribution over prototypes that a moving average of the network gives to the global views."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lejepa import ranks
from lejepa.config import TrainConfig
from lejepa.heads import Prototypes, dino_projector
from lejepa.joint_config import DinoConfig
from lejepa.losses import dino_parts
from lejepa.methods.base import encode_views
from lejepa.methods.teacher import Taught, cosine_to_one
from lejepa.views import Views

_NOTHING = 0.01  # share of ln K


class Dino(Taught):
    """Facts from facebookresearch/dino (main_dino.py, vision_transformer.py, utils.py). Evaluates the teacher.

    Heuristics: EMA teacher (momentum by a cosine to 1), stop-gradient, centring and sharpening, projections of length
    1, multi-crop, views drawn unlike each other, a weight decay that grows, a last layer that stands still at first.
    The teacher sees the global views, the student all; the loss is the mean over all pairs of different views. The head
    is 2048-2048-256 with GELU, then cosines with 65,536 prototypes. `project` gives the 256 features before them.

    Left out: weight norms of the last layer that learn (--norm_last_layer false), clipping tensor by tensor: the whole
    gradient is clipped.
    """

    center: Tensor  # (K,) running mean of the teacher's outputs
    teacher_temp: Tensor  # scalar, of the next step

    def __init__(self, config: TrainConfig, channels: int) -> None:
        super().__init__(config, channels)
        assert isinstance(config.method, DinoConfig)
        self.options = config.method
        self.projector = dino_projector(config.projector, self.embedding_dim)
        self.prototypes = Prototypes(config.projector.dim, config.method.prototypes)
        self.start_teacher()
        self.register_buffer("center", torch.zeros(config.method.prototypes))
        self.register_buffer("teacher_temp", torch.tensor(teacher_temperature(config.method, 0)))

    def student(self) -> list[nn.Module]:
        return [self.encoder, self.projector, self.prototypes]

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        """`loss` = `entropy` of the teacher + `kl`; `information` as in `dino_parts`; `ln_k_gap` = ln K − loss."""
        embeddings = encode_views(self, views)  # (V, N, D)
        students = self.prototypes(self.projector(embeddings.flatten(0, 1))).unflatten(0, embeddings.shape[:2])
        teachers = self._teach_together(views.globals)
        pairs = [
            dino_parts(
                student, teacher, center=self.center,
                student_temp=self.options.student_temp, teacher_temp=self.teacher_temp,
            )
            for i, teacher in enumerate(teachers) for v, student in enumerate(students) if v != i
        ]  # fmt: skip
        self._move_center(teachers)  # after its use
        parts = {name: torch.stack([pair[name] for pair in pairs]).mean() for name in pairs[0]}
        return parts | {"ln_k_gap": math.log(self.options.prototypes) - parts["loss"].detach()}

    @torch.no_grad()
    def _teach_together(self, views: Tensor) -> Tensor:
        """(Vg, N, K), the views in one pass, as the student's."""
        embeddings = self.teacher[0](views.flatten(0, 1))
        self.seen = embeddings[: views.shape[1]]
        logits: Tensor = self.teacher[1:](embeddings).unflatten(0, views.shape[:2])
        return logits

    @torch.no_grad()
    def _move_center(self, teachers: Tensor) -> None:
        mean = ranks.mean(teachers.float().mean((0, 1)))
        self.center.lerp_(mean, 1 - self.options.center_momentum)

    def after_step(self, step: int, steps: int) -> dict[str, float]:
        epoch, next_epoch = (s * self.config.epochs // steps for s in (step, step + 1))
        if epoch < self.options.frozen_epochs:  # the teacher's last layer is still that of the start
            self.prototypes.load_state_dict(self.teacher[2].state_dict())
        momentum = cosine_to_one(self.options.ema, step, steps)
        self.follow(momentum)
        self.teacher_temp.fill_(teacher_temperature(self.options, next_epoch))
        return {"ema": momentum, "teacher_temp": teacher_temperature(self.options, epoch)}

    def collapsed(self, losses: Mapping[str, float]) -> bool:
        """The loss is that of a student that tells nothing, ln K, or the teacher tells nothing of the images."""
        nothing = _NOTHING * math.log(self.options.prototypes)
        return abs(losses["ln_k_gap"]) < nothing or losses["information"] < nothing


def teacher_temperature(options: DinoConfig, epoch: int) -> float:
    """On a line from the first to the last over `temp_epochs` epochs, then the last."""
    first, last = options.teacher_temp
    if epoch >= options.temp_epochs:
        return last
    return first + (last - first) * epoch / max(1, options.temp_epochs - 1)
