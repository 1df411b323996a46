"""A trainer that trains nothing: deterministic curves with a known optimum, and failures on order."""

import hashlib
import json
import math
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.trials import TrialSpec
from lejepa.checkpoint import CheckpointError
from lejepa.config import FLOORS, TrainConfig
from lejepa.trainer import Diverged, EpochReport

BEST_LAMB, BEST_LR = 0.05, 1e-3


@dataclass(frozen=True)
class Fake:
    """A factory of FakeTrainers. The mappings go from a trial's seed to the epoch in which it happens."""

    diverges: dict[int, int] = field(default_factory=dict)
    reports_nan: dict[int, int] = field(default_factory=dict)
    raises: dict[int, int] = field(default_factory=dict)
    dies: dict[int, int] = field(default_factory=dict)  # kill -9 on its own process
    deaths: dict[int, int] = field(default_factory=dict)  # seed → how many times; once where not given
    waits_for: dict[int, int] = field(default_factory=dict)  # seed → seed of the trial that must have begun, too
    seconds: float = 0.0  # per epoch
    diaries: str = ""  # folder where every epoch that is trained is noted, in a file per trial; empty: none

    def __call__(self, config: TrainConfig, checkpoints: Path) -> "FakeTrainer":
        return FakeTrainer(self, config, checkpoints)


class FakeTrainer:
    def __init__(self, fake: Fake, config: TrainConfig, checkpoints: Path) -> None:
        self.fake, self.config, self.checkpoint = fake, config, Path(checkpoints) / "fake.json"
        self.reports: list[EpochReport] = []
        self.info: dict[str, Any] = {
            "device": config.device, "threads": config.threads, "pid": os.getpid(), "ranks": 1,
            "torch": torch.__version__,
        }  # fmt: skip
        random.seed(config.seed)  # the process's own generator, so that one trial could spoil the next

    def load(self) -> bool:
        if not self.checkpoint.exists():
            return False
        digest, _, content = self.checkpoint.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise CheckpointError(f"{self.checkpoint}: damaged")
        saved = json.loads(content)
        self.reports = [EpochReport(**report) for report in saved["reports"]]
        version, state, gauss = saved["random"]
        random.setstate((version, tuple(state), gauss))
        return True

    def save(self) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        written = self.checkpoint.with_suffix(".new")
        reports = [vars(report) for report in self.reports]
        content = json.dumps({"reports": reports, "random": random.getstate()})
        written.write_text(f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}")
        written.replace(self.checkpoint)

    def __iter__(self) -> Iterator[EpochReport]:
        for epoch in range(len(self.reports) + 1, self.config.length + 1):
            self._meet()
            self._misbehave(epoch)
            time.sleep(self.fake.seconds)
            self.reports.append(EpochReport(epoch, self._metrics(epoch), {"seconds": self.fake.seconds}))
            self._note(epoch)
            self.save()
            yield self.reports[-1]

    def test(self) -> dict[str, float]:
        return {"test/linear": self.reports[-1].metrics["val/linear"] - 1.0}

    def _metrics(self, epoch: int) -> dict[str, float]:
        noise = random.uniform(-0.5, 0.5)
        if self.fake.reports_nan.get(self.config.seed) == epoch:
            return {"val/linear": 10.0, "train/loss": math.nan}
        if self.config.method.name in FLOORS:
            return {"val/linear": 30.0 + noise}
        lamb = getattr(self.config.method, "lamb", 1.0)
        miss = abs(lamb - BEST_LAMB) + abs(math.log10(self.config.optimizer.lr / BEST_LR)) / 4
        return {"val/linear": 80.0 / (1 + miss) * (1 - math.exp(-epoch)) + noise, "train/loss": 1.0 / epoch + noise}

    def _note(self, epoch: int) -> None:
        if self.fake.diaries:
            with (Path(self.fake.diaries) / self.checkpoint.parent.name).open("a") as diary:
                diary.write(f"{epoch}\n")

    def _meet(self) -> None:
        other, patience = self.fake.waits_for.get(self.config.seed), time.monotonic() + 120
        if other is None:
            return
        meeting = self.checkpoint.parent.parent
        meeting.mkdir(parents=True, exist_ok=True)
        (meeting / f"began-{self.config.seed}").touch()
        while not (meeting / f"began-{other}").exists():
            if time.monotonic() > patience:
                raise TimeoutError(f"seed {self.config.seed} waited for seed {other} in vain")
            time.sleep(0.05)

    def _misbehave(self, epoch: int) -> None:
        seed = self.config.seed
        if self.fake.diverges.get(seed) == epoch:
            raise Diverged(epoch, 7, "loss is nan")
        if self.fake.raises.get(seed) == epoch:
            print("about to raise")
            raise RuntimeError(f"seed {seed} does not like epoch {epoch}")
        if self.fake.dies.get(seed) == epoch and self._deaths_so_far() < self.fake.deaths.get(seed, 1):
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            (self.checkpoint.parent / f"died-{self._deaths_so_far()}").touch()
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def _deaths_so_far(self) -> int:
        return len(list(self.checkpoint.parent.glob("died-*")))


def trial(seed: int = 0, epochs: int = 3, purpose: str = "evidence", **config: Any) -> TrialSpec:
    full = TrainConfig.model_validate({"epochs": epochs, "seed": seed, **config})
    return TrialSpec("lejepa", {}, 0, seed, purpose, full, "no data")


class NoMirror:
    """MLflow has tests of its own, and takes a second a sweep."""

    trouble = ""

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass


class Diary:
    """A listener that remembers, and knows an epoch again as a ledger does."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []  # (what, seed, …) in the order told
        self.info: dict[int, list[dict[str, Any]]] = {}
        self.reports: dict[int, dict[int, dict[str, float]]] = {}
        self.ends: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        self.running: set[int] = set()
        self.most_at_once = 0

    def started(self, trial: TrialSpec, epoch: int, info: dict[str, Any]) -> None:
        seed = trial.config.seed
        self.lines.append(("started", seed, epoch))
        self.info.setdefault(seed, []).append(info)
        self.running.add(seed)
        self.most_at_once = max(self.most_at_once, len(self.running))

    def epoch(self, trial: TrialSpec, report: EpochReport) -> bool:
        known = self.reports.setdefault(trial.config.seed, {})
        is_new = report.epoch not in known
        known[report.epoch] = report.metrics
        if is_new:
            self.lines.append(("epoch", trial.config.seed, report.epoch))
        return is_new

    def noted(self, trial: TrialSpec, text: str) -> None:
        self.lines.append(("note", trial.config.seed, text))

    def ended(self, trial: TrialSpec, state: str, payload: dict[str, Any]) -> None:
        self.lines.append((state, trial.config.seed))
        self.ends.setdefault(trial.config.seed, []).append((state, payload))
        self.running.discard(trial.config.seed)

    def state(self, seed: int) -> str:
        return self.ends[seed][-1][0]
