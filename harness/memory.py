"""What training a config takes of memory: measured once, by a few steps on made-up images, and kept by shape.

`python -m harness.memory` is the process that is measured. It reads a config from stdin and no data, and runs the
trainer as it is for one short epoch with its evaluation. docs/memory.md says what that leaves out.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from harness import kept
from harness.mockup import CLASSES, channels, on_noise
from lejepa.config import ProbeConfig, TrainConfig
from lejepa.masked_config import MASKED

_CONTEXT = 2**29  # bytes that a process takes of a GPU beside its tensors: CUDA's context and libraries; an assumption
_HEADROOM = 1.1  # fragmentation differs from run to run
_MOST = 100  # trials on a GPU: Ray counts in ten-thousandths, too coarse for more
_PATIENCE = 900  # seconds for one measurement


class MeasurementError(Exception):
    """A config's memory cannot be measured, or it does not fit; the message says what to change."""


def peak_bytes(config: TrainConfig) -> int:
    """The most that one process takes which trains and evaluates the config by itself, on the device that it names.

    On CUDA what torch's allocator reserves; on the CPU the resident set of the whole process, interpreter and libraries
    included. Taken from the cache where the same shape was measured. Raises MeasurementError.
    """
    asked = shape(config)
    known = kept.read("memory", asked).get("bytes")
    if type(known) is not int or known < 1:
        known = _measured(config)
        kept.write("memory", asked, bytes=known)
    return known


def share(needed: int, gpu_bytes: int) -> float:
    """The part of a GPU to ask Ray for, f, such that floor(1 / f) trials of `needed` bytes fit on one with room to
    spare. MeasurementError where not even one does.
    """
    whole = _HEADROOM * needed + _CONTEXT
    fit = math.floor(gpu_bytes / whole)
    if fit < 1:
        raise MeasurementError(
            f"a trial takes {needed / 1e9:.2f} GB, with headroom and CUDA's own {whole / 1e9:.2f} GB, and the GPU has "
            f"{gpu_bytes / 1e9:.2f} GB; {REMEDY}"
        )
    return math.floor(10_000 / min(fit, _MOST)) / 10_000


def larger_part(gpus: float) -> float:
    """The part of a GPU of which half as many fit on one as of `gpus`."""
    fit = math.floor(1 / gpus + 1e-6)
    return math.floor(10_000 / max(1, fit // 2)) / 10_000


def limit(gpus: float) -> None:
    """Keep this process's tensors within its part of the GPU, so that what runs out of memory is never a neighbour."""
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(tensors_part(gpus, total))


def tensors_part(gpus: float, gpu_bytes: int) -> float:
    """The part of a GPU that is left for tensors to a process that was granted so many GPUs."""
    return 1.0 if gpus >= 1 else max(gpus / 2, gpus - _CONTEXT / gpu_bytes)


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what an exception says: torch's, of CUDA or of the CPU, or Python's own."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


_SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",  # outside of torch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)

REMEDY = "lower batch_size, the number or size of the views, or the encoder, or take precision: bf16"


# -- what it depends on ------------------------------------------------------------------------------------------------


def shape(config: TrainConfig) -> dict[str, Any]:
    """What the memory depends on: sizes and switches of a config, and what it runs on. Not λ, lr, seed or epochs."""
    from harness.trials import code_hash  # with all that a sweep file needs, which a worker does not

    same = {"encoder", "projector", "views", "batch_size", "accumulate", "precision", "compile"}
    method = config.method.model_dump(mode="json")
    return config.model_dump(mode="json", include=same) | {
        "method": sizes_of(method),
        "data": {"size": config.data.size, "stored": config.data.stored, "channels": channels(config)},
        "optimizer": config.optimizer.name,
        "average": config.average is not None,
        "probe": {"on": config.probe.on, "finetune": config.probe.finetune > 0},
        "device": _device(config),
        "torch": metadata.version("torch"),
        "code": code_hash(),
    }


def _switches(value: Any) -> Any:
    """A method's settings without its strengths: of a real number it only matters whether it is there and not 0."""
    if isinstance(value, dict):
        return {name: _switches(inner) for name, inner in value.items()}
    return bool(value) if isinstance(value, float) else value


def _device(config: TrainConfig) -> list[str]:
    from harness.environment import gpus

    kind = config.device
    if kind == "auto":
        import torch

        kind = "cuda" if torch.cuda.is_available() else "cpu"
    return [kind, platform.machine()] if kind == "cpu" else [kind, *sorted(set(gpus()))]


def sizes_of(method: dict[str, Any]) -> dict[str, Any]:
    """A method's settings as far as tensors depend on them: what is masked is not computed."""
    return method if method["name"] in MASKED else _switches(method)


# -- the measurement --------------------------------------------------------------------------------------------------


def _measured(config: TrainConfig) -> int:
    """In a process of its own, as peaks are a process's, and memory that ran out there takes nothing with it."""
    what = f"the memory of {config.method.name} on {config.encoder.name} with batch_size {config.batch_size}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.memory"],
            input=config.model_dump_json(), capture_output=True, text=True, timeout=_PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"{what} was not measured within {_PATIENCE} s; declare it in the pool") from error
    if done.returncode < 0:
        killed = f"the process was killed by signal {-done.returncode}"
        raise MeasurementError(f"{what}: {killed}, most likely as the machine has no memory left; {REMEDY}")
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise MeasurementError(f"{what} cannot be measured: {last}") from error
    if "error" in told:
        raise MeasurementError(f"{what}: it does not fit, though nothing else ran beside it: {told['error']}; {REMEDY}")
    return int(told["bytes"])


def main() -> None:
    """A config on stdin → its `bytes`, or the `error` that it does not fit, on stdout."""
    config = TrainConfig.model_validate_json(sys.stdin.read())
    try:
        told: dict[str, Any] = {"bytes": rehearse(config)}
    except Exception as error:
        if not out_of_memory(error):
            raise
        told = {"error": str(error).partition("\n")[0] or type(error).__name__}
    print(json.dumps(told))


def rehearse(config: TrainConfig) -> int:
    """Train and evaluate for a few steps on noise; the most bytes that this process ever took."""
    import torch

    from lejepa import telemetry
    from lejepa.trainer import Trainer

    with on_noise(config, max(_STEPS * config.batch_size, 2 * CLASSES), _EVALUATED):
        training = Trainer(_short(config))
    (report,) = training
    if config.probe.finetune:
        training.test()
    if training.device.type == "cuda":
        return torch.cuda.max_memory_reserved(training.device)
    # every look forgets the peak: one at the end of the steps, one now
    return int(1e6 * max(report.timing.get("peak_memory_mb", 0.0), telemetry.peak_memory(training.device)))


_STEPS = 3  # the optimiser's state is there after the first
_EVALUATED = 1024  # images, a batch of lejepa/evaluation.py


def _short(config: TrainConfig) -> TrainConfig:
    """The config as far as memory depends on it: one epoch, no reading ahead, the fewest probes, hardly any step."""
    probe = ProbeConfig(on=config.probe.on, draws=1, finetune=min(config.probe.finetune, 1))
    method = config.method
    if "frozen_epochs" in type(method).model_fields:  # what stands still has no state in the optimiser yet
        method = method.model_copy(update={"frozen_epochs": 0})
    optimizer = config.optimizer.model_copy(update={"lr": 1e-6})  # noise must not diverge
    return config.model_copy(update={"epochs": 1, "probe": probe, "method": method, "optimizer": optimizer})


if __name__ == "__main__":
    main()
