"""Recipes: one for every method at both scales, each a config that trains; the small ones compare."""

from typing import Any

import pytest
import torch

from lejepa.config import FLOORS, METHODS, TrainConfig
from lejepa.methods import build_method
from lejepa.recipes import RECIPES, Scale, recipe
from lejepa.views import Views

SCALES: tuple[Scale, ...] = ("cpu", "gpu")
MASKED = {"ijepa", "data2vec", "mae"}


def config(method: str, scale: Scale, **parts: Any) -> TrainConfig:
    return TrainConfig.model_validate(recipe(method, scale) | parts)


def test_every_method_has_a_recipe() -> None:
    assert set(RECIPES) == set(METHODS)
    assert all(set(scales) == set(SCALES) for scales in RECIPES.values())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_is_a_config_of_its_method(method: str, scale: Scale) -> None:
    made = config(method, scale)
    assert made.method.name == method
    assert made.data.size == (32 if scale == "cpu" else 224)
    assert TrainConfig.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize("method", [m for m in METHODS if m not in FLOORS])
def test_every_small_recipe_takes_a_step(method: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    built = build_method(config(method, "cpu"), channels=3, classes=10).train()
    asked = built.views()
    side = asked.local_size or 32
    views = Views(torch.randn(asked.global_views, 4, 3, 32, 32), torch.randn(asked.local_views, 4, 3, side, side))
    built.labels = torch.arange(4)
    loss = built(views, 0)["loss"]
    loss.backward()
    built.after_step(0, 100)
    assert loss.isfinite()


def test_small_recipes_differ_in_the_method_alone_but_for_what_is_said() -> None:
    made = {name: config(name, "cpu") for name in METHODS if name not in FLOORS | MASKED}
    like = made["lejepa"]
    for name, other in made.items():
        for part in ("encoder", "data", "probe", "epochs", "batch_size", "precision"):
            assert getattr(other, part) == getattr(like, part), (name, part)
        assert other.views.recipe == like.views.recipe == "cifar"
        assert other.optimizer.model_copy(update={"clip": None}) == like.optimizer, name
    encoders = {config(name, "cpu").encoder for name in MASKED}
    assert len(encoders) == 1


def test_published_rates_are_scaled_by_the_batch() -> None:
    rates = {name: config(name, "gpu") for name in ("simclr", "byol", "barlow_twins", "simsiam", "moco_v3", "mae")}
    base = {"simclr": 0.3, "byol": 0.2, "barlow_twins": 0.2, "simsiam": 0.05, "moco_v3": 0.6, "mae": 1.5e-4}
    for name, made in rates.items():
        assert made.optimizer.lr / made.batch_size * 256 == pytest.approx(base[name]), name


def test_a_recipe_is_the_callers_own() -> None:
    recipe("byol", "cpu")["optimizer"]["lr"] = 1.0
    assert recipe("byol", "cpu")["optimizer"]["lr"] == recipe("vicreg", "cpu")["optimizer"]["lr"] == 2e-3


def test_names_that_are_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match="no recipe 'bjol' at scale 'cpu'; known are lejepa"):
        recipe("bjol", "cpu")
    with pytest.raises(ValueError, match="no recipe 'byol' at scale 'tpu'"):
        recipe("byol", "tpu")  # type: ignore[arg-type]
