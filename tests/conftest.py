"""Two processes share the tests, file by file; each starts Ray at most once, for all of the harness's files it has.

Tests marked `cuda` run by themselves, `make test-cuda`: all others are about the CPU, also where there is a GPU.
"""

import os
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr != "cuda" and Path("/dev/nvidiactl").exists():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU, and make test-cuda"))
