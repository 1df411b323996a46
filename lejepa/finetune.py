"""Fine-tuning: how good a classifier the encoder becomes when all of it learns from the labels.

Part of the evaluation protocol (lejepa/probes.py). A copy of the encoder, a layer norm without parameters and a linear
layer from zero are trained for `probe.finetune` epochs: AdamW with a peak rate of RATE per 256 images, one tenth of the
steps of linear warm-up, a cosine to 0, weight decay DECAY but none on biases and one-dimensional parameters. Batches
of the config's size, the last, incomplete one left out. Light augmentation: random crops of 30–100 % of the area and
flips, or, where the config's views have the recipe `digits`, its weaker crops without flips. The same whatever the
method. The encoder starts where the training ended, its norms' running statistics included.
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from lejepa import loading, ranks
from lejepa.config import TrainConfig
from lejepa.data import Split
from lejepa.encoders import build_encoder
from lejepa.precision import autocast
from lejepa.probes import accuracy
from lejepa.seeding import generator, sample_keys
from lejepa.view_config import ViewsConfig
from lejepa.views import Multicrop

RATE = 1e-3  # peak learning rate per 256 images
DECAY = 0.05
_WARMUP = 0.1  # share of the steps
_ORDER = 3  # what a generator is for
_EPOCHS_APART = 1 << 20  # fine-tuning's crops are those of epochs that no training reaches


def finetune(
    encoder: nn.Module, train: Split, test: Split, multicrop: Multicrop, classes: int, config: TrainConfig
) -> float:
    """Top-1 accuracy on test, in percent, after `config.probe.finetune` epochs on train. The encoder stays as it is.

    encoder: normalised images (N, C, S, S) → embeddings (N, D). multicrop: gives size, normalisation and device. Equal
    arguments give equal bits on the CPU. ValueError where the config asks for no epochs; FloatingPointError where the
    loss is no longer finite.
    """
    if config.probe.finetune < 1:
        raise ValueError("probe.finetune is 0 epochs; set it to 1 or more to fine-tune")
    device = multicrop.mean.device
    forked = [device] if device.type == "cuda" else []
    with ranks.apart(), torch.random.fork_rng(devices=forked), torch.enable_grad():
        encoder = _as_built(encoder, config, len(multicrop.mean))
        torch.manual_seed(config.seed)  # of dropout and drop path
        model = _classifier(encoder, _width(encoder, train, multicrop), classes).to(device)
        _learn(model, train, Multicrop(crops(config), multicrop.size, multicrop.mean, multicrop.std), config)
        return _test(model, test, multicrop, config)


def crops(config: TrainConfig) -> ViewsConfig:
    """One view an image, without colours."""
    recipe = "digits" if config.views.recipe == "digits" else "paper"
    off = dict.fromkeys(("jitter", "grey", "blur", "solarize", "rotate", "cutout"), 0.0)
    return ViewsConfig(recipe=recipe, global_views=1, local_views=0, **off)


def learning_rate(step: int, steps: int, batch: int) -> float:
    """Of step 0 … steps − 1."""
    warmup = max(1, round(_WARMUP * steps))
    peak = RATE * batch / 256
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step + 1 - warmup) / (steps + 1 - warmup))) / 2


def _learn(model: nn.Module, train: Split, multicrop: Multicrop, config: TrainConfig) -> None:
    device = multicrop.mean.device
    batch = min(config.batch_size, len(train))
    per_epoch = len(train) // batch
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    for epoch in range(config.probe.finetune):
        model.train()
        order = torch.randperm(len(train), generator=generator(config.seed, _ORDER, epoch))
        total = torch.zeros((), device=device)
        batches = loading.batches(train, order[: per_epoch * batch].split(batch), config.data.workers)
        for i, (images, labels, index) in enumerate(batches):
            keys = sample_keys(config.seed, _EPOCHS_APART + epoch, index).to(device)
            x = multicrop(images.to(device), keys).globals[0]
            with autocast(config.precision, device):
                loss = F.cross_entropy(_logits(model, x), labels.to(device))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch * per_epoch + i, config.probe.finetune * per_epoch, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        if not total.isfinite():
            raise FloatingPointError(f"fine-tuning: the loss is not finite in epoch {epoch + 1}")


@torch.no_grad()
def _test(model: nn.Module, test: Split, multicrop: Multicrop, config: TrainConfig) -> float:
    model.eval()
    device = multicrop.mean.device
    logits = []
    for images, _, _ in loading.batches(test, torch.arange(len(test)).split(1024), config.data.workers):
        with autocast(config.precision, device):
            logits.append(_logits(model, multicrop.normalize(images.to(device))).float())
    return accuracy(torch.cat(logits), test.labels.to(device))


def _as_built(encoder: nn.Module, config: TrainConfig, channels: int) -> nn.Module:
    """A copy that learns what the config's encoder learns, and drops paths as that does: a teacher did neither."""
    encoder = copy.deepcopy(encoder)
    if not any(True for _ in encoder.parameters()):  # the floor `pixels`
        return encoder
    built, _ = build_encoder(config, channels)
    for name, parameter in built.named_parameters():
        encoder.get_parameter(name).requires_grad_(parameter.requires_grad)
    for name, module in built.named_modules():
        kept = encoder.get_submodule(name)
        if isinstance(module, DropPath) and isinstance(kept, DropPath):
            kept.drop_prob = module.drop_prob
    return encoder


def _classifier(encoder: nn.Module, dim: int, classes: int) -> nn.Module:
    linear = nn.Linear(dim, classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(encoder, nn.LayerNorm(dim, elementwise_affine=False), linear)


@torch.no_grad()
def _width(encoder: nn.Module, train: Split, multicrop: Multicrop) -> int:
    """D, from one image in evaluation mode."""
    was_training = encoder.training
    x = multicrop.normalize(train.take(torch.zeros(1, dtype=torch.int64)).to(multicrop.mean.device))
    width = encoder.eval()(x).shape[1]
    encoder.train(was_training)
    return int(width)


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    logits: Tensor = model(x.contiguous(memory_format=torch.channels_last))
    return logits
