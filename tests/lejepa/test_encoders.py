"""Encoders give what a config asks for, refuse what they have not, and show their last two layers."""

from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import nn

from lejepa.config import ProjectorConfig, TrainConfig
from lejepa.encoders import build_encoder, build_projector, check_encoder, last_layers

SMALL = ["small_resnet", "small_convnext", "small_vit"]


def config(name: str, size: int = 32, **encoder: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {"encoder": {"name": name, **encoder}, "data": {"size": size}, "views": {"local_views": 0}}
    )


def built(name: str, size: int = 32, channels: int = 3, **encoder: Any) -> tuple[Any, int]:
    torch.manual_seed(0)
    module, dim = build_encoder(config(name, size, **encoder), channels)
    return module.eval(), dim


def images(size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


# -- building ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [8, 20, 32, 64])
def test_small_encoders_take_images_from_8_to_64_px(name: str, size: int) -> None:
    encoder, dim = built(name, size, channels=1)
    assert encoder(images(size, channels=1)).shape == (2, dim)


@pytest.mark.parametrize("name", [*SMALL, "resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_the_width_of_an_embedding_is_the_one_that_is_told(name: str) -> None:
    encoder, dim = built(name)
    assert encoder(images()).shape == (2, dim)


@pytest.mark.parametrize("name", [*SMALL, "resnet10t", "test_vit", "mobilenetv3_small_050", "gmlp_ti16_224"])
def test_embeddings_have_the_dim_that_is_asked_for_and_do_not_start_at_zero(name: str) -> None:
    encoder, dim = built(name, dim=24)
    embeddings = encoder(images())
    assert dim == 24
    assert embeddings.shape == (2, 24)
    assert embeddings.std() > 1e-3  # gMLP's classifier starts at zero, where no loss has a gradient


@pytest.mark.parametrize(("name", "depth"), [("small_vit", 4), ("small_convnext", 1), ("test_vit", None)])
def test_drop_path_drops_in_training_and_not_after(name: str, depth: int | None) -> None:
    encoder, _ = built(name, depth=depth, drop_path=0.9)
    x = images().repeat(8, 1, 1, 1)
    with torch.no_grad():
        assert torch.equal(encoder(x), encoder(x))
        encoder.train()
        assert not torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize("name", ["small_vit", "test_vit"])
def test_registers_are_tokens_more_that_change_the_embedding_and_are_not_pooled(name: str) -> None:
    plain, _ = built(name)
    encoder, _ = built(name, registers=3)
    width = encoder.num_features
    added = sum(p.numel() for p in encoder.parameters()) - sum(p.numel() for p in plain.parameters())
    assert encoder.reg_token.shape == (1, 3, width)
    assert added in (3 * width, 6 * width)  # where a model gives registers a position, too
    before = encoder(images())
    nn.init.normal_(encoder.reg_token)
    assert not torch.allclose(before, encoder(images()))


def test_a_vit_with_registers_gives_its_patches_and_no_register_as_tokens() -> None:
    encoder, _ = built("small_vit", registers=3)
    with torch.no_grad():
        tokens = encoder.tokens(images())
        torch.testing.assert_close(tokens.mean(1), encoder(images()))
        everything = torch.arange(64).expand(2, -1)
        torch.testing.assert_close(encoder.tokens(images(), keep=everything), tokens)
        assert encoder.tokens(images(), keep=everything[:, :5]).shape == (2, 5, 192)


@pytest.mark.parametrize(
    ("encoder", "says"),
    [
        ({"name": "vgg11", "drop_path": 0.1}, "vgg11 has no drop path"),
        ({"name": "resnet10t", "registers": 4}, "resnet10t has no register tokens"),
        ({"name": "levit_128s", "dim": 16}, "levit_128s ends in more than one linear layer"),
    ],
)
def test_what_a_model_of_timm_has_not_is_refused_when_it_is_built(encoder: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_encoder(config(**encoder))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoder": {"name": "small_resnet", "drop_path": 0.1}}, "no drop path"),
        ({"encoder": {"name": "small_resnet", "registers": 2}}, "no register tokens"),
        ({"encoder": {"name": "small_convnext", "registers": 2}}, "no register tokens"),
        ({"encoder": {"name": "small_convnext", "patch": 4}}, "no patches"),
        ({"encoder": {"name": "small_vit", "depth": 1, "drop_path": 0.1}}, "depth 1"),
        ({"encoder": {"name": "small_vit", "drop_path": 1.0}}, "less than 1"),
        ({"method": {"name": "ijepa"}, "encoder": {"name": "small_vit", "dim": 16}}, "leave encoder.dim out"),
        ({"encoder": {"name": "small_convnext"}, "views": {"local_size": 4}}, "8 or more"),
    ],
)
def test_what_a_small_encoder_has_not_is_refused_before_it_is_built(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TrainConfig.model_validate(changes)


def test_a_model_of_another_size_is_refused_with_its_size() -> None:
    with pytest.raises(ValueError, match=r"eva02_tiny_patch14_224 cannot .* 32 px"):
        check_encoder(config("eva02_tiny_patch14_224"))


# -- layers -----------------------------------------------------------------------------------------------------------

WIDTHS = {  # of the last two layers: channels of the stages, by each family's paper or timm's own feature_info
    "small_resnet": (64, 128),
    "small_convnext": (64, 128),
    "small_vit": (192, 192),
    "vit_tiny_patch16_224": (192, 192),
    "deit3_small_patch16_224": (384, 384),
    "resnet18": (256, 512),
    "convnext_atto": (160, 320),
    "efficientnet_lite0": (112, 1280),  # 1280: the convolution of the head
    "mobilenetv3_small_050": (24, 1024),
    "levit_128s": (256, 384),
    "gmlp_ti16_224": (128, 128),
}


@pytest.mark.parametrize("name", list(WIDTHS))
def test_the_last_layer_is_the_embedding_and_the_one_before_comes_first(name: str) -> None:
    encoder, dim = built(name, size=64)
    with torch.no_grad():
        features, embeddings = last_layers(encoder, images(64)), encoder(images(64))
    assert features.shape == (2, sum(WIDTHS[name]))
    assert dim == WIDTHS[name][1]
    torch.testing.assert_close(features[:, -dim:], embeddings)


@pytest.mark.parametrize("name", [*SMALL, "test_vit", "resnet10t"])
def test_layers_are_those_before_the_linear_layer_of_dim(name: str) -> None:
    encoder, _ = built(name, dim=16)
    linear = encoder.head if hasattr(encoder, "head") else encoder.fc
    with torch.no_grad():
        torch.testing.assert_close(linear(last_layers(encoder, images())[:, -linear.in_features :]), encoder(images()))


def test_the_last_block_but_one_of_a_vit_is_read_through_the_final_norm_at_the_class_token() -> None:
    """Derived by cutting the last block off: what is left is a ViT whose embedding is that layer."""
    encoder, dim = built("vit_tiny_patch16_224")
    features = last_layers(encoder, images())
    encoder.blocks = encoder.blocks[:-1]
    torch.testing.assert_close(features[:, :dim], encoder(images()))


def test_patches_are_averaged_where_a_vit_has_no_class_token_and_registers_are_not() -> None:
    encoder, dim = built("small_vit", registers=2)
    features = last_layers(encoder, images())
    encoder.blocks = encoder.blocks[:-1]
    torch.testing.assert_close(features[:, :dim], encoder.tokens(images()).mean(1))


def test_the_stage_before_the_last_of_a_resnet_is_its_mean_map() -> None:
    encoder, _ = built("resnet18", size=64)
    seen: list[torch.Tensor] = []
    encoder.layer3.register_forward_hook(lambda module, given, out: seen.append(out))
    features = last_layers(encoder, images(64))
    torch.testing.assert_close(features[:, :256], seen[0].mean((2, 3)))


@pytest.mark.parametrize("name", ["hiera_tiny_224"])
def test_a_model_that_does_not_show_its_layers_is_told_so(name: str) -> None:
    with pytest.raises(ValueError, match="does not show its layers"):
        last_layers(built(name, size=64)[0], images(64))
    with pytest.raises(ValueError, match="does not show its layers"):
        last_layers(nn.Flatten(), images())


# -- projector --------------------------------------------------------------------------------------------------------


def test_the_projector_has_the_norm_that_is_asked_for_after_every_hidden_layer() -> None:
    kinds = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    for norm in ("batch", "layer", "none"):
        projector = build_projector(ProjectorConfig(layers=3, hidden=12, dim=5, norm=norm), 8)
        assert projector(torch.randn(4, 8)).shape == (4, 5)
        for other, kind in kinds.items():
            assert sum(isinstance(m, kind) for m in projector) == (2 if other == norm else 0)


def test_projections_without_batch_statistics_do_not_depend_on_the_batch_around_them() -> None:
    x = torch.randn(6, 8)
    for norm, alone in (("batch", False), ("layer", True), ("none", True)):
        projector = build_projector(ProjectorConfig(hidden=12, dim=5, norm=norm), 8)
        assert torch.allclose(projector(x)[:2], projector(x[:2]), atol=1e-6) == alone


def test_encoders_of_timm_are_what_plain_timm_makes() -> None:
    encoder, _ = built("vit_tiny_patch16_224", size=32)
    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, dynamic_img_size=True).eval()
    torch.testing.assert_close(encoder(images()), plain(images()), rtol=0, atol=0)
