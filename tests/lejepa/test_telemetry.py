"""What a training says that it costs."""

import sys

import pytest
import torch

from lejepa.telemetry import peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the peak of a process")
def test_the_peak_of_memory_is_that_since_the_last_look() -> None:
    cpu = torch.device("cpu")
    peak_memory(cpu)
    torch.ones(50_000_000).sum()  # 200 MB, gone again
    high = peak_memory(cpu)
    assert high - peak_memory(cpu) > 150
