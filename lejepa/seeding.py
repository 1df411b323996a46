"""Random generators as functions of whole numbers: a seed, a step, what it is for."""

import numpy as np
import torch


def generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that equal numbers seed equally and other numbers otherwise.

    torch's CPU generator keeps the low 32 bits of its seed only, so the numbers are mixed into 32 bits first.
    """
    mixed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)
