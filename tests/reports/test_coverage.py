"""How often the intervals that reports print hold the truth, in 2,000 samples each. Nominal is 95 %.

The functions are called as reports call them, with all their resamples.
"""

import math

import numpy as np
import pytest

from reports import statistics as st

SAMPLES = 2000
MEAN_OF_LOGNORMAL = math.exp(0.5)  # σ = 1


ALL = [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (6, 7, 8, 10, 20))]


def coverage(samples, truth):
    intervals = [st.mean_interval(sample) for sample in samples]
    return np.mean([found.low <= truth <= found.high for found in intervals])


@pytest.mark.parametrize("n", [3, *ALL])
def test_intervals_of_normal_data_cover_between_92_and_97_percent(n):
    samples = np.random.default_rng(11).normal(70.0, 2.0, (SAMPLES, n))
    assert 0.92 <= coverage(samples, 70.0) <= 0.97


@pytest.mark.parametrize("n", ALL)
def test_intervals_of_lognormal_data_cover_at_least_90_percent(n):
    samples = np.random.default_rng(11).lognormal(0.0, 1.0, (SAMPLES, n))
    assert coverage(samples, MEAN_OF_LOGNORMAL) >= 0.90


@pytest.mark.parametrize("n", ALL)
def test_paired_differences_cover_though_seeds_move_both_arms(n):
    rng = np.random.default_rng(11)
    seeds = rng.normal(0.0, 5.0, (SAMPLES, n))
    a, b = (seeds + rng.normal(level, 1.0, (SAMPLES, n)) for level in (71.0, 70.0))
    assert 0.92 <= paired_coverage(a, b, 1.0) <= 0.97


@pytest.mark.parametrize("n", ALL)
def test_paired_differences_of_lognormal_data_cover_at_least_90_percent(n):
    rng = np.random.default_rng(11)
    a, b = (rng.lognormal(0.0, 1.0, (SAMPLES, n)) for _ in range(2))
    assert paired_coverage(a, b, 0.0) >= 0.90


def paired_coverage(a, b, truth):
    found = [st.paired_interval(one, other) for one, other in zip(a, b, strict=True)]
    return np.mean([e.low <= truth <= e.high for e in found])
