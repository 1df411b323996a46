"""The GPU's kernels without a GPU: what they compute, by Triton's interpreter, and that they compile."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lejepa.sigreg import EppsPulley

pytest.importorskip("triton", reason="Triton comes with torch's builds for CUDA only")
WORKER = Path(__file__).with_name("triton_worker.py")


def test_the_kernels_give_value_and_gradient_of_the_cpu_in_float64(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("triton_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, WORKER, tmp_path / "readings.pt"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "readings.pt")
    for name, (value, gradient) in worker.readings(EppsPulley, torch.float64).items():
        torch.testing.assert_close(found[name][0].double(), value, rtol=1e-5, atol=0, msg=name)
        assert (found[name][1] - gradient).norm() < 1e-5 * gradient.norm(), name


def test_the_kernels_compile_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lejepa import harmonics_triton

    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton is not built for NVIDIA's GPUs")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    sizes = {"n": "i32", "count": "i32", "TILE": "constexpr"}
    measure = {"theta": "*fp32", "sums": "*fp32", "WIDTH": "constexpr"} | sizes
    differentiate = {"theta": "*fp32", "sums": "*fp32", "phi": "*fp32", "slope": "*fp32", "batch": "i32"} | sizes
    for kernel, signature, constants in (
        (harmonics_triton._measure, measure, {"WIDTH": 16, "TILE": 512}),
        (harmonics_triton._differentiate, differentiate, {"TILE": 512}),
    ):
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 1})
        assert compiled.asm["cubin"]
