"""Attention without torch's fused kernel is the same function, and is what a CPU trains with."""

import torch

from lejepa import attention
from lejepa.config import TrainConfig
from lejepa.trainer import Trainer
from lejepa.vit import SmallViT


def test_plain_attention_gives_the_same_outputs_and_gradients() -> None:
    torch.manual_seed(0)
    vit = SmallViT(size=16, channels=1, patch=4, width=64, depth=2)
    images = torch.randn(3, 1, 16, 16)
    fused = vit(images)
    before = torch.autograd.grad(fused.square().sum(), list(vit.blocks.parameters()))
    attention.plain(vit)
    again = vit(images)
    after = torch.autograd.grad(again.square().sum(), list(vit.blocks.parameters()))
    torch.testing.assert_close(again, fused, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_nothing_of_a_method_is_fused_on_a_cpu() -> None:
    method = {"name": "ijepa", "min_keep": 2}
    config = {"method": method, "encoder": {"name": "small_vit", "patch": 4}, "data": {"name": "digits", "size": 32}}
    views = {"recipe": "crop", "global_views": 1, "local_views": 0}
    trainer = Trainer(TrainConfig.model_validate({**config, "views": views, "device": "cpu"}))
    flags = [module.fused_attn for module in trainer.method.modules() if hasattr(module, "fused_attn")]
    assert flags
    assert not any(flags)
