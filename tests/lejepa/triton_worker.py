"""SIGReg through the GPU's kernels, by Triton's interpreter: TRITON_INTERPRET=1 python triton_worker.py FILE."""

import sys

import torch

from lejepa import sigreg

# (V, N, D), slices or none for the statistic of the columns themselves, the statistic
CASES = {
    "several views": ((3, 37, 8), 10, sigreg.EppsPulley()),
    "more samples than a tile": ((1, 600, 4), 3, sigreg.EppsPulley()),
    "two knots": ((2, 16, 5), 6, sigreg.EppsPulley(2.0, 2)),
    "the whole interval": ((1, 20, 6), 5, sigreg.EppsPulley(5.0, 26, interval="whole")),
    "columns": ((2, 20, 3), None, sigreg.EppsPulley()),
}


def readings(dtype: torch.dtype) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Value and gradient of every case."""
    found = {}
    for seed, (name, (shape, slices, test)) in enumerate(CASES.items()):
        z = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.5
        x = z.to(dtype).requires_grad_()
        value = test(x) if slices is None else sigreg.SIGReg(slices, test)(x, step=1)
        found[name] = value.detach(), torch.autograd.grad(value.sum(), x)[0]
    return found


if __name__ == "__main__":
    from lejepa.harmonics_triton import TritonHarmonics

    sigreg._engine = lambda like: TritonHarmonics
    torch.save(readings(torch.float32), sys.argv[1])
