"""Before the first trial: data that cannot be used are named, those of the transfer probes, too."""

from pathlib import Path
from typing import Any

import pytest

from harness.preflight import preflight
from harness.spec import SpecError, SweepSpec


def spec(**base: Any) -> SweepSpec:
    return SweepSpec(name="s", base={"data": {"size": 8}, "batch_size": 64, **base}, seeds=1)


def test_a_design_that_can_run_passes() -> None:
    preflight(spec(probe={"transfer": ["digits"]}), "sweep.yaml")


def test_data_that_are_not_there_are_named_with_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path))
    with pytest.raises(SpecError, match=r"sweep\.yaml: base\.data: data set 'pets': there is no folder"):
        preflight(spec(data={"name": "pets", "size": 8}), "sweep.yaml")
    with pytest.raises(SpecError, match=r"sweep\.yaml: base\.probe\.transfer: data set 'pets': there is no folder"):
        preflight(spec(probe={"transfer": ["pets"]}), "sweep.yaml")


def test_a_batch_of_more_images_than_there_are_is_refused() -> None:
    with pytest.raises(SpecError, match=r"2000 is more than the \d+ training images"):
        preflight(spec(batch_size=2000), "sweep.yaml")
