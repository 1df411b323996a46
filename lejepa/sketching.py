"""How much a number of slices loses: the estimate of SIGReg and its gradient, against infinitely many slices."""

import torch
from torch import Tensor

from lejepa.diagnostics import evenly
from lejepa.sigreg import EppsPulley, SIGReg

DRAWS = 8  # of all directions


def sketching(sigreg: SIGReg, projections: Tensor, batch: int) -> dict[str, float]:
    """`slices_variance` and `slices_cosine` of a SIGReg on `batch` rows of projections (N, K ≥ 2).

    `slices_variance`: of the estimate over draws of all directions, in units of the exact value's square; it falls as
    1/M. `slices_cosine`: mean cosine of the estimate's gradient to the exact one, 1 at infinitely many slices. Empty
    where the exact value is not known. On several ranks all must call it, with the same projections.
    """
    if not isinstance(sigreg.statistic, EppsPulley) or projections.shape[1] < 2:
        return {}
    if sigreg.slices == "exact":
        return {"slices_variance": 0.0, "slices_cosine": 1.0}
    rows = evenly(projections.detach(), batch).unsqueeze(0)
    exact, along = _value_and_gradient(SIGReg("exact", sigreg.statistic), rows, 0)
    drawn = [_value_and_gradient(SIGReg(sigreg.slices, sigreg.statistic), rows, step) for step in range(DRAWS)]
    values = torch.stack([value for value, _ in drawn])
    cosines = torch.stack([torch.cosine_similarity(gradient, along, dim=0) for _, gradient in drawn])
    return {
        "slices_variance": float(values.var() / exact.square().clamp(min=1e-30)),
        "slices_cosine": float(cosines.mean()),
    }


def _value_and_gradient(sigreg: SIGReg, rows: Tensor, step: int) -> tuple[Tensor, Tensor]:
    z = rows.float().requires_grad_()
    with torch.enable_grad():
        value = sigreg(z, step=step)
        (gradient,) = torch.autograd.grad(value, z)
    return value.detach(), gradient.flatten()
