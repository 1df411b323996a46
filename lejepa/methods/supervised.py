"""The ceiling: the same encoder on the same views, with the labels."""

import torch.nn.functional as F
from torch import Tensor, nn

from lejepa.config import TrainConfig
from lejepa.methods.base import Method, encode_views
from lejepa.view_config import ViewsConfig
from lejepa.views import Views


class Supervised(Method):
    """Cross-entropy on the labels of every global view, by one linear layer on the embedding. Evaluates the encoder.

    `project` gives the logits of the classes. It says what encoder, views and budget allow where labels are read.
    """

    reads_labels = True
    target_std = None

    def __init__(self, config: TrainConfig, channels: int, classes: int = 0) -> None:
        if classes < 2:
            raise ValueError(f"supervised needs the number of classes, 2 or more, not {classes}")
        super().__init__(config, channels, classes)
        self.projector = nn.Sequential(nn.Linear(self.embedding_dim, classes))

    def views(self) -> ViewsConfig:
        return self.config.views.model_copy(update={"local_views": 0})

    def forward(self, views: Views, step: int) -> dict[str, Tensor]:
        logits = self.project(encode_views(self, views).flatten(0, 1)).float()
        return {"loss": F.cross_entropy(logits, self.labels.repeat(len(views.globals)))}
