"""One training from the command line, without Ray: its progress, its results, its files.

In `out`: `last.pt` and `previous.pt`, from which the same command goes on; `metrics.jsonl`, every epoch with all that
was measured; `test.json`, the scores on test; `export/`, the encoder. Under torchrun every rank runs this, and rank 0
speaks and writes.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from lejepa import atomic, checkpoint, ranks
from lejepa.checkpoint import CheckpointError
from lejepa.config import TrainConfig
from lejepa.data import DataError
from lejepa.diagnostics import why
from lejepa.encoders import check_encoder
from lejepa.export import export
from lejepa.probes import PROTOCOL
from lejepa.sigreg import NotFinite
from lejepa.trainer import Diverged, EpochReport, Trainer

_SHOWN = ("train/loss", "val/")  # of an epoch's line; the rest is in metrics.jsonl


class Ended(Exception):
    """A training that did not come to its end.

    code: 1 it had to stop, or a score on test is missing; 2 the input is wrong; 130 interrupted.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


def train(config: TrainConfig, out: Path | None = None) -> None:
    """Train, or go on with what is in `out`; metrics to stdout, a bar to stderr if that is a terminal. Raises Ended."""
    try:
        _make(out)
        with ranks.joined(device=config.device):
            _train(config, out)
    except (Diverged, NotFinite) as error:
        raise Ended(1, str(error)) from error
    except (DataError, CheckpointError) as error:
        raise Ended(2, str(error)) from error
    except ValueError as error:  # what only shows where it is built, or meets the data
        raise Ended(2, " ".join(str(error).split())) from error
    except OSError as error:  # a full disk
        raise Ended(1, f"stopped: {error}") from error
    except KeyboardInterrupt:
        again = f"the same command with --out {out} goes on" if out else "nothing was kept"
        raise Ended(130, f"interrupted; {again}") from None


def _make(out: Path | None) -> None:
    """The folder, or what is wrong with it before anything is computed."""
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise Ended(2, f"--out {out}: {error.strerror}; name a folder that can be written to") from error


def _train(config: TrainConfig, out: Path | None) -> None:
    check_encoder(config)
    trainer = Trainer(config, out)
    if out is not None and trainer.load():
        _say(f"going on after epoch {trainer.epoch}")
        _note(trainer.reports, out)  # the last epoch's line is missing where a kill came between it and the checkpoint
    with _bar(trainer):
        for report in trainer:
            _say(_line(report, config.length))
            _note(trainer.reports, out)
    scores = trainer.test()
    failed: dict[str, str] = trainer.info.get("test_failed", {})
    _say("  ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    if out is None:
        _say("nothing was kept; --out DIR keeps checkpoints and the encoder")
    elif ranks.rank() == 0:
        tested = {"epoch": trainer.epoch, "protocol": PROTOCOL, "metrics": scores, "failed": failed}
        atomic.write(out / "test.json", (json.dumps(tested, indent=2) + "\n").encode())
        _say(f"checkpoint: {out / checkpoint.LAST}")
        if config.method.name != "pixels":  # which has no encoder
            _say(f"encoder: {export(trainer, out / 'export', scores)}")
    if failed:
        raise Ended(1, "; ".join(f"no {name}: {reason}" for name, reason in failed.items()))


def _say(text: str) -> None:
    if ranks.rank() == 0:
        tqdm.write(text)
        sys.stdout.flush()


def _line(report: EpochReport, epochs: int) -> str:
    shown = [
        f"{name} {value:.4g}"
        for name, value in report.metrics.items()
        if name.startswith(_SHOWN) and not name.endswith("_ridge")
    ]
    if reason := why(report.metrics):
        shown.append(f"collapsed: {reason}")
    if speed := report.timing.get("images_per_second"):
        shown.append(f"{speed:,.0f} images/s")
    return f"epoch {report.epoch}/{epochs}  {'  '.join(shown)}"


def _note(reports: list[EpochReport], out: Path | None) -> None:
    if out is not None and ranks.rank() == 0:
        lines = "".join(json.dumps(asdict(report)) + "\n" for report in reports)
        atomic.write(out / "metrics.jsonl", lines.encode())


@contextmanager
def _bar(trainer: Trainer) -> Iterator[None]:
    """Steps of the whole training, and which epoch it is in, while it runs."""
    epochs = trainer.config.length
    hidden = ranks.rank() > 0 or not sys.stderr.isatty() or not trainer.method.trains
    done = trainer.epoch * trainer.steps_per_epoch
    with tqdm(total=trainer.steps, initial=done, unit="step", disable=hidden, dynamic_ncols=True) as bar:

        def step(_step: int, _steps: int) -> None:
            bar.set_description(f"epoch {trainer.epoch + 1}/{epochs}", refresh=False)
            bar.update()

        trainer.on_step = step
        yield
