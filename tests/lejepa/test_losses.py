"""The losses against formulas written in numpy's float64, against lightly, and at points where the value is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lejepa.losses import (
    barlow_twins,
    barlow_twins_parts,
    byol,
    dino,
    dino_parts,
    masked_smooth_l1,
    moco_v3,
    nt_xent,
    simsiam,
    vicreg,
    vicreg_parts,
)

Array = np.ndarray


def pair(n: int = 12, d: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two correlated views, with correlated dims and a mean."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d))
    x = rng.normal(size=(n, d))
    first, second = ((x + 0.5 * rng.normal(size=(n, d))) @ mix + 0.3 for _ in range(2))
    return torch.from_numpy(first), torch.from_numpy(second)


def log_softmax(x: Array) -> Array:
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def unit(x: Array) -> Array:
    return x / np.sqrt((x**2).sum(1, keepdims=True))


# -- VICReg -----------------------------------------------------------------------------------------------------------


def vicreg_reference(x: Array, y: Array) -> tuple[float, float, float]:
    """facebookresearch/vicreg: invariance, halved standard deviation hinges, summed covariances."""
    d = x.shape[1]
    std = sum(np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)).mean() / 2 for z in (x, y))
    cov = 0.0
    for z in (x, y):
        c = np.cov(z, rowvar=False)
        cov += (c[~np.eye(d, dtype=bool)] ** 2).sum() / d
    return float(((x - y) ** 2).mean()), float(std), float(cov)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_vicreg_agrees_with_its_reference(scale: float) -> None:
    z1, z2 = (scale * z for z in pair(32, 12))
    inv, std, cov = vicreg_reference(z1.numpy(), z2.numpy())
    parts = vicreg_parts(z1, z2)
    assert [parts[k].item() for k in ("inv", "std", "cov")] == pytest.approx([inv, std, cov], rel=1e-10)
    assert vicreg(z1, z2).item() == pytest.approx(25 * inv + 25 * std + cov, rel=1e-10)
    assert vicreg(z1, z2, inv=1.0, std=0.0, cov=2.0).item() == pytest.approx(inv + 2 * cov, rel=1e-10)


def test_vicreg_of_identical_spread_uncorrelated_views_is_nearly_zero() -> None:
    z = 2 * hadamard(64)[:, 1:9]  # deviation above 1
    assert vicreg(z, z).item() == pytest.approx(0, abs=1e-6)


def hadamard(n: int) -> Tensor:
    """(n, n) of ±1: columns pairwise orthogonal, of mean 0 but for the first."""
    h = torch.tensor([[1.0]])
    while len(h) < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h


# -- Barlow Twins -----------------------------------------------------------------------------------------------------


def test_barlow_twins_agrees_with_its_formula() -> None:
    z1, z2 = pair(20, 6)
    x, y = ((z.numpy() - z.numpy().mean(0)) / np.sqrt(z.numpy().var(0) + 1e-5) for z in (z1, z2))
    on, off = 0.0, 0.0
    for i in range(6):
        for j in range(6):
            c = (x[:, i] * y[:, j]).mean()
            on, off = (on + (c - 1) ** 2, off) if i == j else (on, off + c**2)
    parts = barlow_twins_parts(z1, z2)
    assert parts["on"].item() == pytest.approx(on, rel=1e-10)
    assert parts["off"].item() == pytest.approx(off, rel=1e-10)
    assert barlow_twins(z1, z2).item() == pytest.approx(on + 0.0051 * off, rel=1e-10)
    assert barlow_twins(z1, z2, off_diagonal=0.5).item() == pytest.approx(on + 0.5 * off, rel=1e-10)


def test_barlow_twins_of_identical_uncorrelated_views_is_zero_at_any_scale_and_shift() -> None:
    z = 5 * hadamard(32)[:, 1:9] + 3
    assert barlow_twins(z, 2 * z).item() == pytest.approx(0, abs=1e-9)


# -- NT-Xent ----------------------------------------------------------------------------------------------------------


def test_nt_xent_agrees_with_its_formula() -> None:
    z1, z2 = pair(9, 5)
    z, n, total = unit(np.concatenate([z1.numpy(), z2.numpy()])), 9, 0.0
    for i in range(2 * n):
        others = [j for j in range(2 * n) if j != i]
        logits = {j: float(z[i] @ z[j]) / 0.2 for j in others}
        total += math.log(sum(math.exp(v) for v in logits.values())) - logits[(i + n) % (2 * n)]
    assert nt_xent(z1, z2, temperature=0.2).item() == pytest.approx(total / (2 * n), rel=1e-10)


def test_nt_xent_of_equal_rows_is_the_log_of_the_number_of_others() -> None:
    z = torch.ones(8, 3)
    assert nt_xent(z, z, temperature=0.1).item() == pytest.approx(math.log(15))


def test_nt_xent_is_symmetric_and_ignores_lengths() -> None:
    z1, z2 = pair()
    value = nt_xent(z1, z2, temperature=0.5).item()
    assert nt_xent(z2, z1, temperature=0.5).item() == pytest.approx(value, rel=1e-12)
    assert nt_xent(3 * z1, 0.1 * z2, temperature=0.5).item() == pytest.approx(value, rel=1e-12)


# -- MoCo v3 ----------------------------------------------------------------------------------------------------------


def test_moco_v3_agrees_with_its_formula() -> None:
    q, k = pair(9, 5)
    log_p = log_softmax(unit(q.numpy()) @ unit(k.numpy()).T / 0.2)
    expected = -2 * 0.2 * np.diag(log_p).mean()
    assert moco_v3(q, k, temperature=0.2).item() == pytest.approx(expected, rel=1e-10)


def test_moco_v3_of_equal_keys_is_twice_the_temperature_times_the_log_of_their_number() -> None:
    assert moco_v3(pair(8)[0], torch.ones(8, 7).double(), temperature=0.3).item() == pytest.approx(0.6 * math.log(8))


# -- BYOL and SimSiam -------------------------------------------------------------------------------------------------


def test_byol_is_the_squared_distance_on_the_sphere() -> None:
    p, z = pair()
    expected = ((unit(p.numpy()) - unit(z.numpy())) ** 2).sum(1).mean()
    assert byol(p, z).item() == pytest.approx(expected, rel=1e-10)


def test_byol_is_0_of_equal_directions_and_4_of_opposite_ones() -> None:
    p = pair()[0]
    assert byol(p, 3 * p).item() == pytest.approx(0, abs=1e-12)
    assert byol(p, -p).item() == pytest.approx(4)


def test_simsiam_is_minus_the_mean_cosine() -> None:
    p, z = pair()
    assert simsiam(p, z).item() == pytest.approx(-(unit(p.numpy()) * unit(z.numpy())).sum(1).mean(), rel=1e-10)
    assert simsiam(p, 3 * p).item() == pytest.approx(-1)


# -- DINO -------------------------------------------------------------------------------------------------------------


def dino_reference(student: Array, teacher: Array, center: Array, student_temp: float, teacher_temp: float) -> Array:
    """(3,): the cross-entropy, the teacher's entropy, and its entropy given no image."""
    log_p, log_q = log_softmax((teacher - center) / teacher_temp), log_softmax(student / student_temp)
    p = np.exp(log_p)
    mean = p.mean(0)
    return np.array([-(p * log_q).sum(1).mean(), -(p * log_p).sum(1).mean(), -(mean * np.log(mean)).sum()])


def test_dino_agrees_with_its_formula() -> None:
    student, teacher = pair()
    center = torch.linspace(-1, 1, 7).double()
    loss, entropy, of_the_mean = dino_reference(student.numpy(), teacher.numpy(), center.numpy(), 0.5, 0.9)
    parts = dino_parts(student, teacher, center=center, student_temp=0.5, teacher_temp=0.9)
    assert parts["loss"].item() == pytest.approx(loss, rel=1e-10)
    assert parts["entropy"].item() == pytest.approx(entropy, rel=1e-10)
    assert parts["kl"].item() == pytest.approx(loss - entropy, rel=1e-8)
    assert parts["information"].item() == pytest.approx(of_the_mean - entropy, rel=1e-8)
    of_a_buffer = torch.tensor(0.9, dtype=torch.float64)
    whole = dino(student, teacher, center=center.unsqueeze(0), student_temp=0.5, teacher_temp=of_a_buffer)
    assert whole.item() == pytest.approx(loss, rel=1e-10)


def test_dino_of_a_uniform_student_is_the_log_of_the_number_of_prototypes() -> None:
    for teacher in (torch.zeros(6, 32), 100 * torch.eye(32)[:6]):
        loss = dino(torch.ones(6, 32), teacher, center=torch.zeros(32), student_temp=0.1, teacher_temp=0.04)
        assert loss.item() == pytest.approx(math.log(32), rel=1e-6)


def test_dinos_information_is_0_of_every_collapse_and_full_where_every_image_has_its_prototype() -> None:
    options = {"center": torch.zeros(32), "student_temp": 0.1, "teacher_temp": 0.04}
    uniform, one, each = torch.zeros(8, 32), 100 * torch.eye(32)[[3] * 8], 100 * torch.eye(32)[:8]
    found = [dino_parts(torch.zeros(8, 32), t, **options)["information"].item() for t in (uniform, one, each)]
    assert found == pytest.approx([0, 0, math.log(8)], abs=1e-5)


# -- masked smooth L1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_smooth_l1_is_a_parabola_and_then_a_line(beta: float) -> None:
    difference = torch.tensor([[0.5 * beta, -beta, 3 * beta]]).double()
    expected = np.mean([0.125 * beta, 0.5 * beta, 2.5 * beta])
    assert masked_smooth_l1(difference + 1, torch.ones(1, 3).double(), beta=beta).item() == pytest.approx(expected)


# -- what holds for all -----------------------------------------------------------------------------------------------

TWO_SIDED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "vicreg": vicreg,
    "barlow_twins": barlow_twins,
    "nt_xent": lambda a, b: nt_xent(a, b, temperature=0.3),
    "byol": byol,
}
STOPPED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "simsiam": simsiam,
    "moco_v3": lambda a, b: moco_v3(a, b, temperature=0.3),
    "dino": lambda a, b: dino(a, b, center=torch.ones(b.shape[-1]), student_temp=0.3, teacher_temp=0.2),
}
ALL = TWO_SIDED | STOPPED


@pytest.mark.parametrize("name", TWO_SIDED)
def test_gradients_match_finite_differences(name: str) -> None:
    inputs = [z.requires_grad_() for z in pair(6, 3)]
    assert torch.autograd.gradcheck(TWO_SIDED[name], inputs)


@pytest.mark.parametrize("name", STOPPED)
def test_the_teachers_side_gets_no_gradient(name: str) -> None:
    student, teacher = (z.requires_grad_() for z in pair(6, 3))
    assert torch.autograd.gradcheck(lambda a: STOPPED[name](a, teacher.detach()), [student])
    STOPPED[name](student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("name", ALL)
def test_losses_keep_float64_and_lift_bfloat16(name: str) -> None:
    z1, z2 = pair()
    assert ALL[name](z1, z2).dtype == torch.float64
    low1, low2 = z1.bfloat16(), z2.bfloat16()
    assert torch.equal(ALL[name](low1, low2), ALL[name](low1.float(), low2.float()))


@pytest.mark.parametrize("name", ALL)
def test_autocast_changes_nothing(name: str) -> None:
    z1, z2 = (z.float() for z in pair(64, 32))
    expected = ALL[name](z1, z2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ALL[name](z1, z2), expected)


@pytest.mark.parametrize("name", ALL)
def test_tensors_of_unlike_shapes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"one shape \(N, D\), not \(4, 3\) and \(1, 3\)"):
        ALL[name](torch.zeros(4, 3), torch.zeros(1, 3))


def test_statistics_of_one_image_and_temperatures_that_are_not_positive_are_refused() -> None:
    one, two = torch.zeros(1, 3), torch.zeros(2, 3)
    for loss in (vicreg, barlow_twins):
        with pytest.raises(ValueError, match="2 images at least, not of 1"):
            loss(one, one)
    with pytest.raises(ValueError, match="temperature must be positive, not 0"):
        nt_xent(two, two, temperature=0)
    with pytest.raises(ValueError, match="temperature must be positive, not -1"):
        moco_v3(two, two, temperature=-1)
    with pytest.raises(ValueError, match="student_temp must be positive"):
        dino(two, two, center=torch.zeros(3), student_temp=0, teacher_temp=0.1)


# -- another implementation -------------------------------------------------------------------------------------------


def test_losses_agree_with_lightly_where_the_convention_is_the_same() -> None:
    lightly = pytest.importorskip("lightly.loss", reason="lightly is an extra: bench")
    z1, z2 = (z.float() for z in pair(48, 16))
    theirs = {
        "vicreg": lightly.VICRegLoss()(z1, z2),
        "barlow_twins": lightly.BarlowTwinsLoss(lambda_param=0.0051)(z1, z2),
        "nt_xent": lightly.NTXentLoss(temperature=0.3)(z1, z2),
        "simsiam": lightly.NegativeCosineSimilarity()(z1, z2),
    }
    for name, value in theirs.items():
        assert ALL[name](z1, z2).item() == pytest.approx(value.item(), rel=1e-5), name


def test_dinos_mean_over_pairs_and_its_center_agree_with_lightly() -> None:
    lightly = pytest.importorskip("lightly.loss", reason="lightly is an extra: bench")
    student, teacher = ([z.float() for z in pair(20, 16, seed)] for seed in (1, 2))
    other = lightly.DINOLoss(16, warmup_teacher_temp=0.3, teacher_temp=0.3, student_temp=0.5)
    options = {"student_temp": 0.5, "teacher_temp": 0.3}
    for center in (torch.zeros(16), 0.1 * torch.cat(teacher).mean(0)):  # moved by the first call
        ours = sum(dino(student[1 - i], teacher[i], center=center, **options) for i in range(2)) / 2
        assert other(teacher, student).item() == pytest.approx(float(ours), rel=1e-5)
