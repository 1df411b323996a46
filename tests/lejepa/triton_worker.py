"""SIGReg through the GPU's kernels, by Triton's interpreter: TRITON_INTERPRET=1 python triton_worker.py FILE."""

import sys

import torch

from lejepa.sigreg import EppsPulley, SIGReg

Readings = dict[str, tuple[torch.Tensor, torch.Tensor]]
# (V, N, D), slices or none for the statistic of the columns themselves, t_max, knots, interval
CASES = {
    "several views": ((3, 37, 8), 10, (3.0, 17, "half")),
    "more samples than a tile": ((1, 600, 4), 3, (3.0, 17, "half")),
    "two knots": ((2, 16, 5), 6, (2.0, 2, "half")),
    "the whole interval": ((1, 20, 6), 5, (5.0, 26, "whole")),
    "columns": ((2, 20, 3), None, (3.0, 17, "half")),
}


def readings(statistic: type[EppsPulley], dtype: torch.dtype) -> Readings:
    """Value and gradient of every case."""
    found = {}
    for seed, (name, (shape, slices, quadrature)) in enumerate(CASES.items()):
        z = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.5
        x = z.to(dtype).requires_grad_()
        test = statistic(*quadrature)
        value = test(x) if slices is None else SIGReg(slices, test)(x, step=1)
        found[name] = value.detach(), torch.autograd.grad(value.sum(), x)[0]
    return found


if __name__ == "__main__":
    from lejepa.harmonics_triton import TritonHarmonics

    class ThroughTriton(EppsPulley):
        def harmonics(self, n: int, like: torch.Tensor) -> TritonHarmonics:
            return TritonHarmonics(self.t, self.phi, self.weight, n, n, like)

    torch.save(readings(ThroughTriton, torch.float32), sys.argv[1])
