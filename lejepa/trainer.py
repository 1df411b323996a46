"""The trainer: an iterator of epoch reports.

    trainer = Trainer(TrainConfig(), "checkpoints/mine")
    trainer.load()                      # goes on where a checkpoint ends, bit for bit on the CPU
    for report in trainer: ...          # trains an epoch, evaluates on val, saves, yields
    trainer.test()                      # the one look at test

Labels are used by the probes alone (and by the method `supervised`). Everything random is a function of seed, epoch and
image, or of seed and step, or lives in the checkpoint. Under `ranks.joined` every rank runs the same lines on its part
of each batch, and the training equals that of one process on the whole batch; rank 0 writes.
"""

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from lejepa import allocator, attention, checkpoint, loading, probes, ranks, telemetry
from lejepa.averaging import follow_all
from lejepa.config import WHERE, TrainConfig
from lejepa.data import DataError, load
from lejepa.evaluation import Evaluation
from lejepa.methods import build_method
from lejepa.methods.base import Method
from lejepa.norms import synchronized
from lejepa.optimizers import build_optimizer, schedule
from lejepa.precision import autocast
from lejepa.probes import OnlineProbe
from lejepa.schedules import learning_rate, weight_decay
from lejepa.seeding import generator, sample_keys
from lejepa.sigreg import NotFinite
from lejepa.views import Multicrop

_ORDER, _RANK = 1, 2  # what a generator is for


@dataclass(frozen=True)
class EpochReport:
    epoch: int  # finished epochs, from 1
    metrics: dict[str, float]  # finite; equal for equal trainings, bit for bit
    timing: dict[str, float]  # seconds, images per second, MB, FLOPs; never equal


class Diverged(Exception):
    """The loss became NaN or infinite. epoch: in which it did, from 1; step: of the whole training, from 0."""

    def __init__(self, epoch: int, step: int, reason: str) -> None:
        super().__init__(epoch, step, reason)
        self.epoch, self.step, self.reason = epoch, step, reason

    def __str__(self) -> str:
        return f"diverged in epoch {self.epoch}, step {self.step}: {self.reason}"


class Trainer:
    """Trains a config. checkpoint_dir: where states are kept; None keeps none.

    on_step: called after every step with its number in the epoch, from 1, and the steps of an epoch.
    Raises DataError where the data cannot be used, ValueError where the encoder cannot be built or the ranks cannot
    share a batch.
    """

    on_step: Callable[[int, int], None] = staticmethod(lambda step, steps: None)

    def __init__(self, config: TrainConfig, checkpoint_dir: str | Path | None = None) -> None:
        self.config = config
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.device = torch.device(_resolve_device(config.device))
        self.data = load(config.data)
        if len(self.data.val) < 2:
            raise DataError(f"data set {config.data.name!r}: val has one image, and the diagnostics need two")
        self.steps_per_epoch = _steps_per_epoch(config, len(self.data.train))
        self.steps = self.steps_per_epoch * config.epochs

        torch.manual_seed(config.seed)
        self.method = (
            build_method(config, self.data.channels, len(self.data.classes))
            .to(self.device)
            .to(memory_format=torch.channels_last)
        )
        if self.device.type == "cpu":
            allocator.keep()
            attention.plain(self.method)
        self.probe = OnlineProbe(self.method.embedding_dim, len(self.data.classes), config.probe).to(self.device)
        if ranks.rank():  # equal weights, but other units dropped
            torch.manual_seed(generator(config.seed, _RANK, ranks.rank()).initial_seed())
        mean, std = (t.to(self.device) for t in self.data.channel_statistics())
        self.multicrop = Multicrop(self.method.views(), config.data.size, mean, std)
        self.epoch = 0
        self.reports: list[EpochReport] = []
        self.info = self._describe()

        _check_parts(self.method, config)
        self.averaged = copy.deepcopy(self.method) if config.average is not None else None
        self.learner = _learner(self.method, config)
        self.optimizer = build_optimizer(self.method, config.optimizer)
        judged = self.averaged or self.method
        self.evaluation = Evaluation(config, judged, self.data, self.multicrop, self._autocast)

    def __iter__(self) -> Iterator[EpochReport]:
        while self.epoch < self.config.length:
            report = self._run_epoch()
            self.epoch = report.epoch
            self.reports.append(report)
            self.save()
            yield report

    def _run_epoch(self) -> EpochReport:
        start, cpu = time.perf_counter(), time.process_time()
        metrics, timing = self._train() if self.method.trains else ({}, {})
        metrics |= self._validate(metrics)
        timing |= {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        return EpochReport(self.epoch + 1, metrics, timing)

    def _train(self) -> tuple[dict[str, float], dict[str, float]]:
        """One pass over the training images: the mean losses of the epoch, and what it cost."""
        self.method.train()
        watch, totals, logged = telemetry.Stopwatch(), dict[str, Tensor](), dict[str, float]()
        batches = loading.batches(
            self.data.train, self._order(), self.config.data.workers, pin=self.device.type == "cuda"
        )
        for i, batch in enumerate(watch.waiting(batches)):
            step = self.epoch * self.steps_per_epoch + i
            images, labels, index = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            views = self.multicrop(images, sample_keys(self.config.seed, self.epoch, index))
            if self.method.reads_labels:
                self.method.labels = labels

            with self._autocast():
                losses: dict[str, Tensor] = self.learner(views, step)
            self.optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            logged = self._update(step)
            self.probe.learn(ranks.gather(self.method.seen, 0), ranks.gather(labels, 0))

            for name, value in losses.items():
                totals[name] = totals.get(name, torch.zeros_like(value.detach())) + value.detach()
            if i % 16 == 15 or i + 1 == self.steps_per_epoch:  # asking at every step would wait for the device
                _check_finite(totals, self.epoch + 1, step)
            self.on_step(i + 1, self.steps_per_epoch)
        means = {name: float(ranks.mean(total)) / self.steps_per_epoch for name, total in totals.items()}
        return {f"train/{name}": value for name, value in (means | logged).items()}, self._cost(watch)

    def _update(self, step: int) -> dict[str, float]:
        """The weights' step along the gradient, then that of everything that follows them. What is logged."""
        rate = learning_rate(step, self.steps, self.steps_per_epoch, self.config)
        decay = weight_decay(step, self.steps, self.config)
        schedule(self.optimizer, rate, decay)
        logged = {"lr": rate, "weight_decay": decay}
        if self.config.optimizer.clip is not None:
            norm = nn.utils.clip_grad_norm_(self.method.parameters(), self.config.optimizer.clip)
            logged["gradient_norm"] = float(norm)
        self.optimizer.step()
        logged |= self.method.after_step(step, self.steps)
        if self.averaged is not None and self.config.average is not None:
            momentum = min(self.config.average, (1 + step) / (10 + step))  # the start is forgotten quickly
            follow_all(self.averaged, self.method, momentum)
        return logged

    def _order(self) -> list[Tensor]:
        """This rank's part of the epoch's batches, as indices; the last, incomplete batch is dropped."""
        order = torch.randperm(len(self.data.train), generator=generator(self.config.seed, _ORDER, self.epoch))
        batches = order[: self.steps_per_epoch * self.config.batch_size].split(self.config.batch_size)
        return [batch.chunk(ranks.world_size())[ranks.rank()] for batch in batches]

    def _cost(self, watch: telemetry.Stopwatch) -> dict[str, float]:
        seconds = watch.seconds
        return {
            "train_seconds": seconds,
            "images_per_second": self.steps_per_epoch * self.config.batch_size / seconds,
            "data_wait_share": watch.waited / seconds,
            "peak_memory_mb": telemetry.peak_memory(self.device),
            "flops_per_image": self.info["flops_per_image"],
        }

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def _validate(self, losses: dict[str, float]) -> dict[str, float]:
        """Probes on val and the diagnostics, where this epoch is to be evaluated. losses: of the epoch, `train/…`."""
        done = self.epoch + 1
        if done % self.config.probe.every and done != self.config.length:
            return {}
        try:
            found, embeddings = self.evaluation.validate()
        except NotFinite as error:
            raise Diverged(done, done * self.steps_per_epoch - 1, str(error)) from error
        if not self.method.trains:
            return found
        losses = {name.removeprefix("train/"): value for name, value in losses.items()}
        own = self.method.describe(self.evaluation.project(embeddings), losses)
        found |= {f"diag/{name}": value for name, value in own.items()}
        found["diag/collapsed_loss"] = float(self.method.collapsed(losses))
        found["diag/collapsed"] = max(found["diag/collapsed"], found["diag/collapsed_loss"])
        with torch.no_grad():
            found["val/online"] = probes.accuracy(self.probe(embeddings), self.data.val.labels.to(self.device))
        return found

    def test(self) -> dict[str, float]:
        """`test/…` accuracies of the probes fitted on train. The only place where test labels are read.

        Where fine-tuning diverges its score is missing, and `info["test_failed"]` has the reason by its name.
        """
        found, failed = self.evaluation.test()
        if failed:
            self.info["test_failed"] = failed
        return found

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.config.precision, self.device)

    def _describe(self) -> dict[str, Any]:
        some = torch.arange(min(4, len(self.data.train)))
        few = next(loading.batches(self.data.train, [some], 0))[0].to(self.device)
        flops = telemetry.flops_per_image(self.method, self.multicrop, few) if self.method.trains else 0.0
        on_cpu = self.device.type == "cpu"
        return {
            "device": str(self.device) if on_cpu else torch.cuda.get_device_name(self.device),
            "ranks": ranks.world_size(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "encoder_params": sum(p.numel() for p in self.method.encoder.parameters()),
            "flops_per_image": flops,
            "probe_protocol": probes.PROTOCOL,
            "train_images": len(self.data.train),
            "val_images": len(self.data.val),
            "test_images": len(self.data.test),
            "unreadable_images": len(self.data.unreadable),
        }

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def images(self) -> dict[str, Any]:
        """What an export must know of the data. mean, std: (channels,), of the images on [0, 1]."""
        mean, std = (t.flatten().cpu() for t in (self.multicrop.mean, self.multicrop.std))
        return {"channels": self.data.channels, "classes": len(self.data.classes), "mean": mean, "std": std}

    def save(self) -> None:
        """Write everything that the rest of the training depends on. Does nothing without a checkpoint_dir."""
        if self.checkpoint_dir is None:
            return
        random = torch.get_rng_state().to(self.device)  # drop path and dropout draw from it
        on_cuda = torch.cuda.get_rng_state(self.device).to(self.device) if self.device.type == "cuda" else random[:0]
        state = {
            "config": self._identity(),
            "reports": json.dumps([asdict(report) for report in self.reports]),
            "epoch": self.epoch,
            "images": self.images(),
            "method": self.method.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "probe": self.probe.state_dict(),
            "probe_optimizer": self.probe.optimizer.state_dict(),
            "rng": ranks.gather(random.unsqueeze(0), 0).cpu(),  # (ranks, bytes)
            "cuda_rng": ranks.gather(on_cuda.unsqueeze(0), 0).cpu(),
        }
        if ranks.rank() == 0:
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
            if state["config"] != self._identity():
                raise checkpoint.CheckpointError(f"{path}: belongs to another config or other data")
            try:
                self._restore(state)
            except (KeyError, RuntimeError, ValueError) as error:  # other layers, other parameter groups
                raise checkpoint.CheckpointError(f"{path}: does not fit this code: {error}") from error
            return True
        if broken:
            raise checkpoint.CheckpointError("; ".join(broken))
        return False

    def _identity(self) -> str:
        """What a checkpoint must agree on: the config but for where it runs, and the data."""
        what = {"config": self.config.model_dump(mode="json", exclude=WHERE), "data": self.data.fingerprint}
        if self.evaluation.elsewhere:
            what["elsewhere"] = {name: data.fingerprint for name, data in self.evaluation.elsewhere.items()}
        return json.dumps(what, sort_keys=True)

    def _restore(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.probe.load_state_dict(state["probe"])
        self.probe.optimizer.load_state_dict(state["probe_optimizer"])
        if len(state["rng"]) == ranks.world_size():  # on other ranks than before: other units are dropped
            torch.set_rng_state(state["rng"][ranks.rank()].clone())  # torch crashes on a part of a tensor
            if self.device.type == "cuda" and state["cuda_rng"].numel():
                torch.cuda.set_rng_state(state["cuda_rng"][ranks.rank()].clone(), self.device)
        self.reports = [EpochReport(**report) for report in json.loads(state["reports"])]
        self.epoch = state["epoch"]


def _learner(method: Method, config: TrainConfig) -> nn.Module:
    """The method as it is called in training: norms over all ranks, gradients averaged over them, compiled if asked."""
    if config.compile:
        method.encoder.compile()
    if ranks.world_size() == 1 or not method.trains:
        return method
    synchronized(method)
    return DistributedDataParallel(method)


def _steps_per_epoch(config: TrainConfig, images: int) -> int:
    if images < config.batch_size:
        raise DataError(f"batch_size {config.batch_size} is more than the {images} training images")
    if config.batch_size % ranks.world_size() or config.batch_size < 2 * ranks.world_size():
        raise ValueError(f"batch_size {config.batch_size} cannot be shared equally by {ranks.world_size()} ranks")
    return images // config.batch_size


def _check_parts(method: Method, config: TrainConfig) -> None:
    if config.accumulate > 1 and any(isinstance(module, _BatchNorm) for module in method.encoder.modules()):
        raise ValueError(
            f"encoder {config.encoder.name} normalises by the batch, and would by its parts; set accumulate to 1, or "
            "take an encoder without BatchNorm"
        )


def _check_finite(totals: dict[str, Tensor], epoch: int, step: int) -> None:
    bad = sorted(name for name, total in totals.items() if not torch.isfinite(ranks.mean(total)))
    if bad:
        raise Diverged(epoch, step, f"{', '.join(bad)} not finite at or before this step")


def _resolve_device(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, and torch finds no CUDA device")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
