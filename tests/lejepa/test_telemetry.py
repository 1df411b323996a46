"""What a training says that it costs."""

import subprocess
import sys

import pytest

# In a process of its own: where a training has run before, freed memory is kept (lejepa/allocator.py).
MEASURED = """
import torch
from lejepa.telemetry import peak_memory

cpu = torch.device("cpu")
peak_memory(cpu)
torch.ones(50_000_000).sum()  # 200 MB, gone again
print(peak_memory(cpu), peak_memory(cpu))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets the peak of a process")
def test_the_peak_of_memory_is_that_since_the_last_look() -> None:
    script = [sys.executable, "-c", MEASURED]
    with_it, after = subprocess.run(script, check=True, capture_output=True, text=True, timeout=120).stdout.split()
    assert float(with_it) - float(after) > 150
