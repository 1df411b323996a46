"""The trainer: an iterator of epoch reports.

    trainer = Trainer(TrainConfig(), "checkpoints/mine")
    trainer.load()                      # goes on where a checkpoint ends, bit for bit on the CPU
    for report in trainer: ...          # trains an epoch, evaluates on val, saves, yields
    trainer.test()                      # the one look at test

Labels are used by the probes alone. Everything random is a function of (seed, epoch) or (seed, step), or lives in the
checkpoint.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lejepa import checkpoint, diagnostics, probes
from lejepa.config import WHERE, TrainConfig
from lejepa.data import DataError, Dataset, Split, load
from lejepa.methods import build_method
from lejepa.probes import Features, OnlineProbe
from lejepa.seeding import generator, sample_keys
from lejepa.sigreg import SIGReg
from lejepa.views import Multicrop

_ORDER = 1  # what a generator is for


@dataclass(frozen=True)
class EpochReport:
    epoch: int  # finished epochs, from 1
    metrics: dict[str, float]  # finite; equal for equal trainings, bit for bit
    timing: dict[str, float]  # seconds and images per second; never equal


class Diverged(Exception):
    """The loss became NaN or infinite. epoch: in which it did, from 1; step: of the whole training, from 0."""

    def __init__(self, epoch: int, step: int, reason: str) -> None:
        super().__init__(epoch, step, reason)
        self.epoch, self.step, self.reason = epoch, step, reason

    def __str__(self) -> str:
        return f"diverged in epoch {self.epoch}, step {self.step}: {self.reason}"


class Trainer:
    """Trains a config. checkpoint_dir: where states are kept; None keeps none.

    Raises DataError where the data cannot be used, ValueError where the encoder cannot be built.
    """

    def __init__(self, config: TrainConfig, checkpoint_dir: str | Path | None = None) -> None:
        self.config = config
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.device = torch.device(_resolve_device(config.device))
        self.data = load(config.data)
        self.steps_per_epoch = len(self.data.train) // config.batch_size
        if self.steps_per_epoch == 0:
            raise DataError(f"batch_size {config.batch_size} is more than the {len(self.data.train)} training images")
        self.steps = self.steps_per_epoch * config.epochs

        torch.manual_seed(config.seed)
        self.method = build_method(config, self.data.channels).to(self.device).to(memory_format=torch.channels_last)
        dim = self.method.embedding_dim if config.probe.on == "embedding" else config.projector.dim
        self.probe = OnlineProbe(self.method.embedding_dim, len(self.data.classes), config.probe).to(self.device)
        self.optimizer = _optimizer(self.method, config)
        mean, std = (t.to(self.device) for t in self.data.channel_statistics())
        self.multicrop = Multicrop(self.method.views(), config.data.size, mean, std)
        self.epoch = 0
        self.reports: list[EpochReport] = []
        self.info: dict[str, Any] = {
            "device": str(self.device) if self.device.type == "cpu" else torch.cuda.get_device_name(self.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "encoder_params": sum(p.numel() for p in self.method.encoder.parameters()),
            "feature_dim": dim,
            "probe_protocol": probes.PROTOCOL,
            "train_images": len(self.data.train),
            "val_images": len(self.data.val),
            "test_images": len(self.data.test),
        }

    def __iter__(self) -> Iterator[EpochReport]:
        while self.epoch < self.config.length:
            report = self._run_epoch()
            self.epoch = report.epoch
            self.reports.append(report)
            self.save()
            yield report

    def _run_epoch(self) -> EpochReport:
        start = time.perf_counter()
        metrics = self._train() if self.method.trains else {}
        seconds = time.perf_counter() - start
        metrics |= self._evaluate()
        images = self.steps_per_epoch * self.config.batch_size if self.method.trains else 0
        timing = {
            "seconds": time.perf_counter() - start,
            "train_seconds": seconds,
            "images_per_second": images / seconds if images else 0.0,
        }
        return EpochReport(self.epoch + 1, metrics, timing)

    def _train(self) -> dict[str, float]:
        """One pass over the training images; the mean losses of the epoch."""
        self.method.train()
        totals: dict[str, Tensor] = {}
        for i, index in enumerate(self._batches()):
            step = self.epoch * self.steps_per_epoch + i
            images = self.data.train.images[index].to(self.device, non_blocking=True)
            views = self.multicrop(images, sample_keys(self.config.seed, self.epoch, index).to(self.device))
            rate = learning_rate(step, self.steps, self.steps_per_epoch, self.config)
            decay = weight_decay(step, self.steps, self.config)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["rate_scale"]
                group["weight_decay"] = decay * group["decay_scale"]

            with self._autocast():
                losses = self.method(views, step)
            self.optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            self.optimizer.step()
            self.method.after_step(step, self.steps)
            self.probe.learn(self.method.seen, self.data.train.labels[index].to(self.device))

            for name, value in losses.items():
                totals[name] = totals.get(name, torch.zeros_like(value.detach())) + value.detach()
            if i % 16 == 15 or i + 1 == self.steps_per_epoch:  # asking at every step would wait for the device
                _check_finite(totals, self.epoch + 1, step)
        means = {f"train/{name}": float(total) / self.steps_per_epoch for name, total in totals.items()}
        return means | {"train/lr": rate, "train/weight_decay": decay}

    def _batches(self) -> tuple[Tensor, ...]:
        """The epoch's batches of indices; the last, incomplete one is dropped."""
        order = torch.randperm(len(self.data.train), generator=generator(self.config.seed, _ORDER, self.epoch))
        return order[: self.steps_per_epoch * self.config.batch_size].split(self.config.batch_size)

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def _evaluate(self) -> dict[str, float]:
        """Probes on val and the diagnostics, where this epoch is to be evaluated."""
        done = self.epoch + 1
        if done % self.config.probe.every and done != self.config.length:
            return {}
        embeddings, projections = self._embed(self.data.val)
        if not (embeddings.isfinite().all() and projections.isfinite().all()):
            raise Diverged(done, done * self.steps_per_epoch - 1, "the embeddings of val are not finite")
        val = self._select(embeddings, projections, self.data.val)
        scores = probes.evaluate(self._features(self.data.train), val, val, *self._probe_settings)
        if self.method.trains:
            with torch.no_grad():
                scores["online"] = probes.accuracy(self.probe(embeddings), self.data.val.labels.to(self.device))
        metrics = {f"val/{name}": value for name, value in scores.items()}
        described = diagnostics.spread(embeddings)
        if self.method.trains:
            described |= diagnostics.collapse(embeddings, projections, self.method.target_std)
            described["sigreg"] = float(SIGReg()(projections[: self.config.batch_size].unsqueeze(0), step=0))
        return metrics | {f"diag/{name}": value for name, value in described.items()}

    def test(self) -> dict[str, float]:
        """`test/…` accuracies of the probes fitted on train. The only place where test labels are read."""
        embeddings, projections = self._embed(self.data.test)
        query = self._select(embeddings, projections, self.data.test)
        train, val = self._features(self.data.train), self._features(self.data.val)
        scores = probes.evaluate(train, val, query, *self._probe_settings)
        return {f"test/{name}": value for name, value in scores.items()}

    @property
    def _probe_settings(self) -> tuple[int, Any]:
        return len(self.data.classes), self.config.probe

    def _features(self, split: Split) -> Features:
        return self._select(*self._embed(split), split)

    def _select(self, embeddings: Tensor, projections: Tensor, split: Split) -> Features:
        chosen = embeddings if self.config.probe.on == "embedding" else projections
        return Features(chosen, split.labels.to(self.device))

    @torch.no_grad()
    def _embed(self, split: Split) -> tuple[Tensor, Tensor]:
        """Embeddings (N, D) and projections (N, K) of a split's images as they are, float32."""
        self.method.eval()
        embeddings, projections = [], []
        for images in split.images.split(1024):
            with self._autocast():
                x = self.multicrop.normalize(images.to(self.device)).contiguous(memory_format=torch.channels_last)
                embedding = self.method.encode(x)
                projections.append(self.method.project(embedding).float())
            embeddings.append(embedding.float())
        return torch.cat(embeddings), torch.cat(projections)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write everything that the rest of the training depends on. Does nothing without a checkpoint_dir."""
        if self.checkpoint_dir is None:
            return
        state = {
            "config": _identity(self.config, self.data),
            "reports": json.dumps([asdict(report) for report in self.reports]),
            "epoch": self.epoch,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "probe": self.probe.state_dict(),
            "probe_optimizer": self.probe.optimizer.state_dict(),
            "rng": torch.get_rng_state(),  # drop path and dropout draw from it
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        checkpoint.write(self.checkpoint_dir, state)

    def load(self) -> bool:
        """Go on from the newest usable checkpoint; False where there is none.

        A broken last.pt gives way to previous.pt, which is printed and kept in `info`. CheckpointError where files are
        there and none can be used, or they belong to another config, other data or other code.
        """
        broken: list[str] = []
        for name in (checkpoint.LAST, checkpoint.PREVIOUS):
            path = None if self.checkpoint_dir is None else self.checkpoint_dir / name
            if path is None or not path.exists():
                continue
            try:
                state = checkpoint.read(path)
            except checkpoint.CheckpointError as error:
                broken.append(str(error))
                print(f"passed over: {error}", flush=True)
                self.info["checkpoints_passed_over"] = broken
                continue
            if state["config"] != _identity(self.config, self.data):
                raise checkpoint.CheckpointError(f"{path}: belongs to another config or other data")
            try:
                self._restore(state)
            except (KeyError, RuntimeError, ValueError) as error:  # other layers, other parameter groups
                raise checkpoint.CheckpointError(f"{path}: does not fit this code: {error}") from error
            return True
        if broken:
            raise checkpoint.CheckpointError("; ".join(broken))
        return False

    def _restore(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.probe.load_state_dict(state["probe"])
        self.probe.optimizer.load_state_dict(state["probe_optimizer"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        self.reports = [EpochReport(**report) for report in json.loads(state["reports"])]
        self.epoch = state["epoch"]


def learning_rate(step: int, steps: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Linear warm-up over `optimizer.warmup` epochs, then a cosine from lr to lr/1000 at the last step."""
    warmup = min(round(config.optimizer.warmup * steps_per_epoch), steps - 1)
    if step < warmup:
        return config.optimizer.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    floor = config.optimizer.lr / 1000
    return floor + (config.optimizer.lr - floor) * (1 + math.cos(math.pi * progress)) / 2


def weight_decay(step: int, steps: int, config: TrainConfig) -> float:
    """A cosine from `optimizer.weight_decay` to `weight_decay_end` at the last step; constant without an end."""
    start, end = config.optimizer.weight_decay, config.optimizer.weight_decay_end
    if end is None:
        return start
    return end + (start - end) * (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2


def _optimizer(method: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW without decay on biases and one-dimensional parameters; a group scales rate and decay by its factors."""
    decayed = [p for p in method.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in method.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "rate_scale": 1.0, "decay_scale": 1.0},
        {"params": plain, "rate_scale": 1.0, "decay_scale": 0.0},
    ]
    groups = [group for group in groups if group["params"]] or [
        {"params": [nn.Parameter(torch.zeros(1))], "scale": 1.0}
    ]
    return torch.optim.AdamW(groups, lr=config.optimizer.lr, betas=config.optimizer.betas)


def _check_finite(totals: dict[str, Tensor], epoch: int, step: int) -> None:
    bad = sorted(name for name, total in totals.items() if not torch.isfinite(total))
    if bad:
        raise Diverged(epoch, step, f"{', '.join(bad)} not finite at or before this step")


def _identity(config: TrainConfig, data: Dataset) -> str:
    """What a checkpoint must agree on: the config but for where it runs, and the data."""
    what = config.model_dump(mode="json", exclude=WHERE)
    return json.dumps({"config": what, "data": data.fingerprint}, sort_keys=True)


def _resolve_device(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, and torch finds no CUDA device")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
