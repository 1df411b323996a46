"""TrainConfig refuses what cannot be meant and fills in what depends."""

import json

import pytest
from pydantic import ValidationError

from lejepa.config import METHODS, DataConfig, EncoderConfig, OptimizerConfig, ProjectorConfig, TrainConfig
from lejepa.masked_config import MASKED
from lejepa.view_config import ViewsConfig


@pytest.mark.parametrize(
    ("config", "place", "says"),
    [
        ({"method": {"name": "lejepa", "lamb": 1.5}}, "lamb", "less than or equal to 1"),
        ({"method": {"name": "lejepa", "lamb": -0.1}}, "lamb", "greater than or equal to 0"),
        ({"method": {"name": "vicreg", "lamb": 0.1}}, "lamb", "not permitted"),
        ({"epoch": 3}, "epoch", "not permitted"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"encoder": {"name": "resnet19"}}, "encoder", "did you mean 'resnet18'"),
        ({"encoder": {"name": "small_resnet", "patch": 4}}, "encoder", "no patches"),
        ({"encoder": {"name": "resnet18", "width": 64}}, "encoder", "belong to"),
        ({"encoder": {"name": "small_vit", "patch": 5}}, "", "multiple"),
        ({"encoder": {"name": "small_vit", "width": 96}}, "", "multiple of 64"),
        ({"method": {"name": "ijepa"}}, "", "needs the encoder small_vit"),
        ({"method": {"name": "vicreg"}, "views": {"global_views": 1}}, "", "two global views"),
        ({"data": {"name": "../secrets"}}, "data", "inside data.root"),
        ({"data": {"name": "/etc"}}, "data", "inside data.root"),
        ({"views": {"global_scale": [0.5, 0.2]}}, "views", "low"),
        ({"views": {"local_size": 4}}, "", "8 or more"),
        ({"views": {"global_views": 1, "local_views": 0}}, "", "one view of an image from others"),
        ({"method": {"name": "ijepa", "target_scale": [0.2, 0.1]}, "encoder": {"name": "small_vit"}}, "scale", "low"),
        (
            {"method": {"name": "data2vec", "masked": 0.05}, "encoder": {"name": "small_vit"}, "data": {"size": 8}},
            "",
            "mask more",
        ),
        ({"probe": {"lidar": 1}}, "lidar", "2 or more"),
        ({"probe": {"transfer": ["digits", "../secrets"]}}, "transfer", "inside data.root"),
        ({"optimizer": {"lr": float("nan")}}, "lr", "finite"),
        ({"batch_size": "many"}, "batch_size", "integer"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused_at_its_place(config: dict, place: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate(config)
    error = caught.value.errors()[0]
    assert place in ".".join(map(str, error["loc"])), error
    assert says in error["msg"], error


def test_a_dumped_config_says_everything_and_builds_itself_again() -> None:
    config = TrainConfig.model_validate({"data": {"name": "digits", "size": 16}, "views": {"flip": 0.25}})
    assert config.views.recipe == "digits"
    assert config.views.rotate == 12.0
    assert config.views.flip == 0.25
    assert config.views.local_size == 8
    assert TrainConfig.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("name", METHODS)
def test_a_part_that_is_built_means_what_the_same_part_means_as_a_dict(name: str) -> None:
    encoder = {"name": "small_vit"} if name in MASKED else {}
    written = TrainConfig.model_validate({"method": {"name": name}, "encoder": encoder})
    built = TrainConfig.model_validate({
        "method": written.method, "encoder": EncoderConfig.model_validate(encoder), "data": DataConfig(),
        "optimizer": OptimizerConfig(), "projector": ProjectorConfig(),
    })  # fmt: skip
    assert built == written


def test_what_is_set_in_a_part_that_is_built_stays_and_the_rest_is_filled_in() -> None:
    config = TrainConfig(optimizer=OptimizerConfig(lr=1e-2), views=ViewsConfig(flip=0.1), data=DataConfig(size=16))
    assert (config.optimizer.lr, config.views.flip, config.views.recipe) == (1e-2, 0.1, "paper")
    assert (config.views.global_size, config.views.local_size) == (16, 8)


@pytest.mark.parametrize("size", [32, "32", 32.0])
def test_sizes_that_depend_are_filled_in_however_the_size_is_written(size: object) -> None:
    views = TrainConfig.model_validate({"data": {"size": size}}).views
    assert (views.global_size, views.local_size) == (32, 16)


def test_photos_get_the_paper_recipe_and_an_absolute_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEJEPA_DATA", raising=False)
    config = TrainConfig.model_validate({"data": {"name": "cifar10"}})
    assert config.views.recipe == "paper"
    assert config.views.solarize == 0.2
    assert config.data.root is not None
    assert config.data.root.is_absolute()


def test_floors_are_one_report_long() -> None:
    assert TrainConfig.model_validate({"method": {"name": "pixels"}, "epochs": 30}).length == 1
    assert TrainConfig.model_validate({"epochs": 30}).length == 30
