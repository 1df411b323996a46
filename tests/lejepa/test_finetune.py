"""Fine-tuning: it learns, it repeats, and it leaves everything else as it was."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from lejepa.config import TrainConfig
from lejepa.data import Dataset, Split, load
from lejepa.encoders import build_encoder
from lejepa.finetune import RATE, crops, finetune, learning_rate
from lejepa.methods import build_method
from lejepa.views import Multicrop


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(epochs: int = 1, **changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "encoder": {"name": "small_resnet", "width": 8},
        "data": {"name": "digits", "size": 16},
        "probe": {"finetune": epochs},
        "batch_size": 64,
    }
    return TrainConfig.model_validate(base | changes)


def parts(config: TrainConfig, seed: int = 0) -> tuple[nn.Module, Dataset, Multicrop]:
    torch.manual_seed(seed)
    data = load(config.data)
    return build_encoder(config, 1)[0], data, Multicrop(config.views, config.data.size, *data.channel_statistics())


def run(config: TrainConfig, encoder: nn.Module, data: Dataset, multicrop: Multicrop) -> float:
    return finetune(encoder, data.train, data.test, multicrop, len(data.classes), config)


def test_it_learns_the_classes_and_leaves_encoder_and_random_numbers_as_they_were() -> None:
    c = config(epochs=3)
    encoder, data, multicrop = parts(c)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    random_numbers = torch.get_rng_state()
    encoder.train()
    assert run(c, encoder, data, multicrop) > 40
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert encoder.training
    assert all(p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_arguments_give_an_equal_accuracy(precision: str) -> None:
    drop = {"name": "small_vit", "width": 64, "depth": 2, "patch": 4, "drop_path": 0.5}
    c = config(encoder=drop, precision=precision, data={"name": "digits", "size": 16, "limit": 300})
    first = run(c, *parts(c))
    torch.rand(3)
    assert run(c, *parts(c)) == first


@pytest.mark.parametrize("method", ["byol", "ijepa"])
def test_a_teacher_that_no_gradient_reached_is_trained_like_any_encoder(method: str) -> None:
    vit = {"name": "small_vit", "width": 64, "depth": 2, "patch": 4, "drop_path": 0.9}
    c = config(2, encoder=vit, method={"name": method}, data={"name": "digits", "size": 16, "limit": 300})
    student, data, multicrop = parts(c)
    expected = run(c, student, data, multicrop)
    taught = build_method(c, 1, 10)
    taught.evaluated.load_state_dict(student.state_dict())
    assert run(c, taught.evaluated, data, multicrop) == expected
    assert not any(p.requires_grad for p in taught.evaluated.parameters())


def test_the_labels_of_test_are_for_counting_only() -> None:
    c = config(data={"name": "digits", "size": 16, "limit": 300})
    encoder, data, multicrop = parts(c)
    labels = data.test.labels
    of_each_label = [
        finetune(encoder, data.train, Split(data.test.images, (labels + shift) % 10), multicrop, 10, c)
        for shift in range(10)
    ]
    assert sum(of_each_label) == pytest.approx(100)  # the predictions are the same ten times


def test_batches_larger_than_the_training_set_are_cut_to_it() -> None:
    c = config(batch_size=4096, data={"name": "digits", "size": 16, "limit": 100})
    assert 0 <= run(c, *parts(c)) <= 100


def test_no_epochs_are_refused() -> None:
    c = config(epochs=0)
    with pytest.raises(ValueError, match="set it to 1 or more"):
        run(c, *parts(c))


def test_a_loss_that_is_not_finite_ends_it() -> None:
    c = config(data={"name": "digits", "size": 16, "limit": 100})
    encoder, data, multicrop = parts(c)
    with torch.no_grad():
        next(encoder.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite in epoch 1"):
        run(c, encoder, data, multicrop)


def test_the_views_are_light_and_do_not_depend_on_the_method() -> None:
    natural = TrainConfig.model_validate({"data": {"name": "x"}, "views": {"recipe": "byol"}})
    light = crops(natural)
    assert (light.global_views, light.local_views, light.flip, light.global_scale) == (1, 0, 0.5, (0.3, 1.0))
    assert light.jitter == light.grey == light.blur == light.solarize == light.rotate == light.cutout == 0
    assert crops(natural.model_copy(update={"views": natural.views.model_copy(update={"recipe": "crop"})})) == light
    assert crops(config()).flip == 0


def test_the_rate_warms_up_for_a_tenth_of_the_steps_and_falls_as_a_cosine() -> None:
    rates = [learning_rate(step, 200, 128) for step in range(200)]
    assert max(rates) == rates[19] == RATE / 2
    assert rates[0] == pytest.approx(RATE / 2 / 20)
    assert rates[19 + 90] == pytest.approx(RATE / 4, rel=0.02)
    assert 0 < rates[-1] < RATE / 1000
    assert all(before > after for before, after in itertools.pairwise(rates[20:]))
    assert learning_rate(0, 1, 256) == RATE
