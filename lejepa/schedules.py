"""What changes from step to step: the learning rate and the weight decay."""

import math

from lejepa.config import TrainConfig


def learning_rate(step: int, steps: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Linear warm-up over `optimizer.warmup` epochs, then a cosine from lr to lr/1000 at the last step."""
    warmup = min(round(config.optimizer.warmup * steps_per_epoch), steps - 1)
    if step < warmup:
        return config.optimizer.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    floor = config.optimizer.lr / 1000
    return floor + (config.optimizer.lr - floor) * (1 + math.cos(math.pi * progress)) / 2


def weight_decay(step: int, steps: int, config: TrainConfig) -> float:
    """A cosine from `optimizer.weight_decay` to `weight_decay_end` at the last step; constant without an end."""
    start, end = config.optimizer.weight_decay, config.optimizer.weight_decay_end
    if end is None:
        return start
    return end + (start - end) * (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2
