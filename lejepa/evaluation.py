"""A method seen from outside: frozen features of a split, the probes on them, and the diagnostics.

On several ranks each embeds its part of a split; all of them then hold all features and find the same numbers.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from lejepa import diagnostics, loading, probes, ranks
from lejepa.config import DataConfig, TrainConfig
from lejepa.data import DataError, Dataset, Split, load
from lejepa.finetune import finetune
from lejepa.methods.base import Method
from lejepa.probes import Features
from lejepa.seeding import sample_keys
from lejepa.sigreg import NotFinite
from lejepa.views import Multicrop

_BATCH = 1024  # images embedded at a time
_LIDAR_IMAGES = 256  # of val: the covariance within an image is averaged over them


class Evaluation:
    """Of a method on the data it is trained on. autocast: the context of every pass, as in training.

    Raises ValueError where the probes ask for more labels than there are, DataError where `probe.transfer` names data
    that cannot be used.
    """

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        data: Dataset,
        multicrop: Multicrop,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.config, self.method, self.data, self.multicrop, self.autocast = config, method, data, multicrop, autocast
        alone = config.views.model_copy(update={"global_views": 1, "local_views": 0})
        self._one_view = Multicrop(alone, config.data.size, multicrop.mean, multicrop.std)
        self.elsewhere = {name: self._load_elsewhere(data) for name, data in config.elsewhere.items()}
        for found in (data, *self.elsewhere.values()):
            probes.check(found.train.labels, len(found.classes), config.probe)

    # -- on val, after an epoch ---------------------------------------------------------------------------------------

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """`val/…` accuracies of the probes, `diag/…` of val, and its embeddings (N, D). NotFinite if not."""
        embeddings = self.embed(self.data.val, self.method.encode)
        if not embeddings.isfinite().all():
            raise NotFinite("the embeddings of val are not finite")
        described = self._describe(embeddings)
        train, val = self.features(self.data.train), self.features(self.data.val, embeddings)
        scores = probes.evaluate(train, val, val, len(self.data.classes), self.config.probe)
        return _named("val", scores) | _named("diag", described), embeddings

    def _describe(self, embeddings: Tensor) -> dict[str, float]:
        """What can be told of val without its labels."""
        projections = self.project(embeddings) if self.method.trains else None
        if projections is not None and not projections.isfinite().all():
            raise NotFinite("the projections of val are not finite")
        found = diagnostics.describe(
            embeddings, projections, target_std=self.method.target_std, batch=self.config.batch_size
        )
        if self.config.probe.lidar and self.method.trains:
            found["lidar"] = diagnostics.lidar(self._augmented(self.config.probe.lidar))
        return found

    # -- on test, at the very end -------------------------------------------------------------------------------------

    def test(self) -> tuple[dict[str, float], dict[str, str]]:
        """`test/…` accuracies; what the probes choose, they choose on val. The only place that reads test labels.

        Beside them, by name, why one could not be had: fine-tuning may diverge.
        """
        found, failed = _named("test", self._judge(self.data)), dict[str, str]()
        if self.config.probe.finetune:
            try:
                found["test/finetune"] = finetune(
                    self.method.evaluated, self.data.train, self.data.test, self.multicrop, len(self.data.classes),
                    self.config,
                )  # fmt: skip
            except FloatingPointError as error:
                failed["test/finetune"] = str(error)
        for name, data in self.elsewhere.items():
            found |= _named(f"test/{name}", self._judge(data))
        return found, failed

    def _judge(self, data: Dataset) -> dict[str, float]:
        train, val, test = (self.features(split) for split in (data.train, data.val, data.test))
        return probes.evaluate(train, val, test, len(data.classes), self.config.probe)

    def _load_elsewhere(self, config: DataConfig) -> Dataset:
        """Its images are normalised by the training's statistics."""
        data = load(config)
        if data.channels != self.data.channels:
            raise DataError(
                f"probe.transfer: {config.name} has {data.channels} channels, the training {self.data.channels}"
            )
        return data

    # -- features -----------------------------------------------------------------------------------------------------

    def features(self, split: Split, embeddings: Tensor | None = None) -> Features:
        """What the probes see of a split. embeddings: of its images, where they are known already."""
        if self.config.probe.on == "layers":
            x = self.embed(split, self.method.layers)
        else:
            x = self.embed(split, self.method.encode) if embeddings is None else embeddings
            x = self.project(x) if self.config.probe.on == "projection" else x
        return Features(x, split.labels.to(x.device))

    @torch.no_grad()
    def embed(self, split: Split, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """encode(normalised images) of a split's images as they are: (N, D) float32, on the training's device."""
        self.method.eval()
        share = -(-len(split) // ranks.world_size())
        mine = (torch.arange(share) + ranks.rank() * share).clamp(max=len(split) - 1)  # the last one fills up
        found = []
        for images, _, _ in loading.batches(split, mine.split(_BATCH), self.config.data.workers):
            x = self.multicrop.normalize(images.to(self.multicrop.mean.device))
            with self.autocast():
                found.append(encode(x.contiguous(memory_format=torch.channels_last)).float())
        return ranks.gather(torch.cat(found), 0)[: len(split)]

    @torch.no_grad()
    def project(self, embeddings: Tensor) -> Tensor:
        """Projections (N, K) float32 of embeddings (N, D)."""
        self.method.eval()
        with self.autocast():
            return torch.cat([self.method.project(part).float() for part in embeddings.split(_BATCH)])

    @torch.no_grad()
    def _augmented(self, views: int) -> Tensor:
        """Embeddings (n, views, D) of augmented views of some images of val."""
        self.method.eval()
        some = torch.linspace(
            0, len(self.data.val) - 1, min(_LIDAR_IMAGES, len(self.data.val))
        ).long()  # of all classes
        ((images, _, index),) = loading.batches(self.data.val, [some], 0)
        images, index = (t.to(self.multicrop.mean.device) for t in (images, index))
        found = []
        for view in range(views):
            with self.autocast():
                x = self._one_view(images, sample_keys(self.config.seed, view, index)).globals[0]
                found.append(self.method.encode(x).float())
        return torch.stack(found, 1)


def _named(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
