"""The paper's univariate tests of N(0, 1), beside Epps–Pulley: modules x (..., N, M) → (..., M), for SIGReg.

Each returns the textbook's statistic of every column, at least in float32 and whatever the autocast; 0 or a small
positive value where the sample looks normal, and differentiable. On several processes N is the global batch: moments
are sums over ranks; the tests that rank their samples (AndersonDarling, CramerVonMises, Watson, ShapiroWilk) gather the
columns of all ranks first, so their traffic grows with the batch. ValueError where N is too small for the statistic or
unequal on some rank.
"""

import math

import torch
from torch import Tensor, nn

from lejepa import ranks

_FLOOR = 1e-12  # of a variance that something is divided by


class UnivariateTest(nn.Module):
    """x (..., N, M) → (..., M)."""

    least = 2  # samples

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[-2] < self.least:
            raise ValueError(f"samples must be (..., N, M) with N of {self.least} or more, not {tuple(x.shape)}")
        with torch.autocast(x.device.type, enabled=False):
            samples = x if x.dtype == torch.float64 else x.float()
            return self.statistic(samples, ranks.global_batch(x.shape[-2], x.device))

    def statistic(self, x: Tensor, n: int) -> Tensor:
        """x: this rank's samples (..., N, M); n: the samples of all ranks together."""
        raise NotImplementedError


# -- moments ----------------------------------------------------------------------------------------------------------


class VCReg(UnivariateTest):
    """n·mean²/var + (n − 1)·(var − 1)²/2, var unbiased: χ² with 2 degrees under the null. Source: lejepa package."""

    def statistic(self, x: Tensor, n: int) -> Tensor:
        mean, var, _ = _central(x, n)
        return _mean_and_variance(mean, var, n)


class ExtendedJarqueBera(UnivariateTest):
    """VCReg's two terms and n·skew²/6 + n·(kurtosis − 3)²/24: χ² with 4 degrees under the null. Source: lejepa package.

    Skewness and kurtosis are the biased ones of Jarque and Bera, over the biased variance.
    """

    def statistic(self, x: Tensor, n: int) -> Tensor:
        mean, var, centred = _central(x, n)
        biased = (var * (n - 1) / n).clamp(min=_FLOOR)
        skew = ranks.total(centred.pow(3).sum(-2)) / n / biased.pow(1.5)
        kurtosis = ranks.total(centred.pow(4).sum(-2)) / n / biased.square()
        return _mean_and_variance(mean, var, n) + n / 6 * (skew.square() + (kurtosis - 3).square() / 4)


class VICReg(UnivariateTest):
    """mean² + (std − 1)²: with it, SIGReg is VICReg's variance and covariance terms in another guise (paper, §4.1)."""

    def statistic(self, x: Tensor, n: int) -> Tensor:
        mean, var, _ = _central(x, n)
        return mean.square() + (var.clamp(min=_FLOOR).sqrt() - 1).square()


class Moments(UnivariateTest):
    """|mean| + Σ_{k=2}^{k_max} e^{−k}·|mean of x^k − E of g^k|, g ~ N(0, 1). Source: lejepa package."""

    def __init__(self, k_max: int = 4) -> None:
        super().__init__()
        if k_max < 1:
            raise ValueError(f"k_max must be at least 1, not {k_max}")
        self.k_max = k_max

    def statistic(self, x: Tensor, n: int) -> Tensor:
        powers = torch.stack([x.pow(k).sum(-2) for k in range(1, self.k_max + 1)])
        means = ranks.total(powers) / n
        value = means[0].abs()
        for k in range(2, self.k_max + 1):
            normal = math.prod(range(k - 1, 0, -2)) if k % 2 == 0 else 0  # (k − 1)!!
            value = value + math.exp(-k) * (means[k - 1] - normal).abs()
        return value


def _central(x: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Global mean (..., M), unbiased global variance (..., M), and x minus the mean."""
    mean = ranks.total(x.sum(-2)) / n
    centred = x - mean.unsqueeze(-2)
    return mean, ranks.total(centred.square().sum(-2)) / (n - 1), centred


def _mean_and_variance(mean: Tensor, var: Tensor, n: int) -> Tensor:
    safe = var.clamp(min=_FLOOR)
    return n * mean.square() / safe + (n - 1) / 2 * (var - 1).square()


# -- order statistics -------------------------------------------------------------------------------------------------


class AndersonDarling(UnivariateTest):
    """A² = −n − Σ_i (2i − 1)/n·[ln Φ(x₍ᵢ₎) + ln(1 − Φ(x₍ₙ₊₁₋ᵢ₎))]. Source: Anderson and Darling 1954."""

    def statistic(self, x: Tensor, n: int) -> Tensor:
        s = _sorted(x)
        odd = _odd(n, x)
        # log_ndtr, not the log of a distribution function that rounds to 0 and 1 six deviations out
        return -n - ((torch.special.log_ndtr(s) + torch.special.log_ndtr(-s.flip(-2))) * odd).sum(-2) / n


class CramerVonMises(UnivariateTest):
    """W² = 1/(12n) + Σ_i (Φ(x₍ᵢ₎) − (2i − 1)/(2n))². Source: scipy.stats.cramervonmises."""

    def statistic(self, x: Tensor, n: int) -> Tensor:
        return _cramer_von_mises(torch.special.ndtr(_sorted(x)), n)


class Watson(UnivariateTest):
    """U² = W² − n·(mean of Φ(x) − ½)², which no shift on the circle changes. Source: Watson 1961."""

    def statistic(self, x: Tensor, n: int) -> Tensor:
        probabilities = torch.special.ndtr(_sorted(x))
        return _cramer_von_mises(probabilities, n) - n * (probabilities.mean(-2) - 0.5).square()


class ShapiroWilk(UnivariateTest):
    """1 − W, W = (Σ_i a_i·x₍ᵢ₎)² / Σ_i (x_i − mean)², with Royston's weights (1995): W is scipy.stats.shapiro's.

    Blind to mean and scale, as W is: it asks whether the sample is normal, not whether it is N(0, 1).
    """

    least = 4

    def statistic(self, x: Tensor, n: int) -> Tensor:
        s = _sorted(x)
        centred = s - s.mean(-2, keepdim=True)
        squares = centred.square().sum(-2).clamp(min=_FLOOR)
        return 1 - (_royston(n).to(x).unsqueeze(-1) * centred).sum(-2).square() / squares


def _sorted(x: Tensor) -> Tensor:
    """The columns of all ranks, ascending."""
    ordered: Tensor = ranks.gather(x, -2).sort(dim=-2).values
    return ordered


def _odd(n: int, like: Tensor) -> Tensor:
    return torch.arange(1, 2 * n, 2, dtype=like.dtype, device=like.device).unsqueeze(-1)


def _cramer_von_mises(probabilities: Tensor, n: int) -> Tensor:
    return 1 / (12 * n) + (probabilities - _odd(n, probabilities) / (2 * n)).square().sum(-2)


def _royston(n: int) -> Tensor:
    """Weights a (n,) of the Shapiro–Wilk test, float64: Blom's scores, the two largest corrected by polynomials."""
    i = torch.arange(1, n + 1, dtype=torch.float64)
    score = torch.special.ndtri((i - 0.375) / (n + 0.25))
    total, u = float(score.square().sum()), 1 / math.sqrt(n)
    a = score / math.sqrt(total)
    last = a[-1] + _polynomial(u, 0.221157, -0.147981, -2.071190, 4.434685, -2.706056)
    if n <= 5:
        rest = (total - 2 * score[-1] ** 2) / (1 - 2 * last**2)
        a[1:-1] = score[1:-1] / rest.sqrt()
    else:
        second = a[-2] + _polynomial(u, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633)
        rest = (total - 2 * score[-1] ** 2 - 2 * score[-2] ** 2) / (1 - 2 * last**2 - 2 * second**2)
        a[2:-2] = score[2:-2] / rest.sqrt()
        a[1], a[-2] = -second, second
    a[0], a[-1] = -last, last
    return a


def _polynomial(u: float, *coefficients: float) -> float:
    """c₁u + c₂u² + …"""
    return sum(c * u ** (k + 1) for k, c in enumerate(coefficients))
