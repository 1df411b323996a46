"""The counter-based random numbers: the published SplitMix64, uniform, and independent in every direction."""

import pytest
import torch
from scipy import stats

from lejepa.seeding import sample_keys, uniform

N = 20_000


def numbers(seed: int = 0, epoch: int = 0, counter: int = 0) -> torch.Tensor:
    return uniform(sample_keys(seed, epoch, torch.arange(N)), torch.tensor(counter))


def test_the_stream_of_a_key_is_splitmix64() -> None:
    # the first outputs of the reference program for the seed 1234567, top 24 bits of each
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    stream = uniform(torch.tensor([1234567]), torch.arange(4))
    assert stream.tolist() == [(output >> 40) / 2**24 for output in published]


def test_numbers_are_uniform_over_images_and_over_counters() -> None:
    streams = uniform(sample_keys(0, 0, torch.arange(4)).unsqueeze(1), torch.arange(N))
    for sample in (numbers(), numbers(seed=7), numbers(epoch=3), numbers(counter=11), *streams):
        assert sample.min() >= 0
        assert sample.max() < 1
        assert stats.chisquare(torch.histc(sample, 100, 0, 1).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"counter": 1}, {"counter": 64}, {"counter": 1 << 22}])
def test_neighbouring_seeds_epochs_questions_and_views_are_independent(other: dict[str, int]) -> None:
    a, b = numbers(), numbers(**other)
    table = torch.histogramdd(torch.stack([a, b], 1), bins=[8, 8], range=[0.0, 1.0, 0.0, 1.0]).hist
    assert stats.chisquare(table.flatten().numpy()).pvalue > 1e-4
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4 / N**0.5  # four standard errors


def test_neighbouring_images_are_independent() -> None:
    u = numbers()
    for lag in (1, 2, 64):
        assert abs(torch.corrcoef(torch.stack([u[:-lag], u[lag:]]))[0, 1]) < 4 / N**0.5


def test_no_two_images_of_two_seeds_and_epochs_share_a_key() -> None:
    keys = torch.cat([sample_keys(seed, epoch, torch.arange(N)) for seed in (0, 1) for epoch in (0, 1)])
    assert len(keys.unique()) == 4 * N


def test_a_key_depends_on_its_index_and_not_on_its_place() -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample_keys(5, 2, order), sample_keys(5, 2, torch.arange(100))[order])


@pytest.mark.cuda
def test_the_numbers_are_the_same_bits_on_the_gpu() -> None:
    keys = sample_keys(1, 2, torch.arange(N, device="cuda"))
    assert torch.equal(keys.cpu(), sample_keys(1, 2, torch.arange(N)))
    counter = torch.arange(8)
    on_cpu = uniform(keys.cpu().unsqueeze(1), counter)
    assert torch.equal(uniform(keys.unsqueeze(1), counter.cuda()).cpu(), on_cpu)
