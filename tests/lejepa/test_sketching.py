"""What fewer slices lose: the spread of the estimate and the angle of its gradient."""

import pytest
import torch
from torch import Tensor

from lejepa.config import TrainConfig
from lejepa.gaussianity import AndersonDarling
from lejepa.sigreg import SIGReg
from lejepa.sketching import sketching
from lejepa.trainer import Trainer


def skewed(n: int = 96, dim: int = 16) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(0)).exp()


def test_the_variance_of_the_estimate_is_that_of_one_slice_over_their_number() -> None:
    z = skewed()
    one = SIGReg(4096)
    each = one.statistic((z @ one.directions(16, step=1_000)).unsqueeze(0)).flatten()
    of_one_slice = float(each.var() / SIGReg("exact")(z.unsqueeze(0), step=0).square())
    for slices in (16, 256):
        found = sketching(SIGReg(slices), z, batch=96)["slices_variance"] * slices
        assert of_one_slice / 4 < found < 4 * of_one_slice  # 8 draws: χ² with 7 degrees of freedom


def test_the_gradient_turns_to_the_exact_one_as_slices_grow() -> None:
    cosines = [sketching(SIGReg(slices), skewed(), batch=96)["slices_cosine"] for slices in (4, 32, 256, 2048)]
    assert cosines == sorted(cosines)
    assert cosines[0] < 0.9 < 0.98 < cosines[-1] <= 1


def test_the_seed_of_the_training_and_its_fixed_directions_do_not_matter() -> None:
    ours = sketching(SIGReg(32), skewed(), batch=96)
    assert sketching(SIGReg(32, seed=7, directions="fixed", scale="none"), skewed(), batch=96) == ours


def test_exact_slices_lose_nothing_and_other_statistics_say_nothing() -> None:
    assert sketching(SIGReg("exact"), skewed(), batch=96) == {"slices_variance": 0.0, "slices_cosine": 1.0}
    assert sketching(SIGReg(8, AndersonDarling()), skewed(), batch=96) == {}


@pytest.mark.parametrize(
    "method",
    [
        {"name": "lejepa", "lamb": 0.05, "slices": 32},
        {"name": "predictive", "slices": 32, "heuristics": {"sigreg": 0.05, "predictor": True}},
    ],
)
def test_an_evaluation_records_the_loss_over_lambda_and_what_the_slices_lose(method: dict[str, object]) -> None:
    config = {"method": method, "data": {"name": "digits", "limit": 256}, "epochs": 1, "batch_size": 64}
    (report,) = Trainer(TrainConfig.model_validate(config))
    assert report.metrics["diag/loss_over_lambda"] == pytest.approx(report.metrics["train/loss"] / 0.05**0.4)
    assert 0 < report.metrics["diag/slices_cosine"] < 1
    assert report.metrics["diag/slices_variance"] > 0


def test_without_sigreg_there_is_no_loss_over_lambda() -> None:
    config = {"method": {"lamb": 0.0, "name": "lejepa"}, "data": {"name": "digits", "limit": 256}, "epochs": 1}
    (report,) = Trainer(TrainConfig.model_validate({**config, "batch_size": 64}))
    assert "diag/loss_over_lambda" not in report.metrics
