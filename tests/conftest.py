"""Two processes share the tests: those of the harness stay in one, which starts Ray once; others go by the file."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        part = item.path.relative_to(Path(__file__).parent).parts
        item.add_marker(pytest.mark.xdist_group(part[0] if part[0] == "harness" else item.path.name))
