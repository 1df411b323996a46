"""Every shipped sweep is planned in all its profiles without data, and those of paper/ ask what their tables ask."""

from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from harness.plan import plan
from harness.spec import SweepSpec, load_sweep
from lejepa.encoders import build_encoder, check_encoder

SWEEPS = Path(__file__).parents[2] / "sweeps"
FILES = sorted(path.relative_to(SWEEPS).with_suffix("") for path in SWEEPS.rglob("*.yaml") if path.stem != "published")
NAMES = [file.as_posix() for file in FILES]
PAPER = [name for name in NAMES if name.startswith("paper/")]


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LEJEPA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


load = cache(load_sweep)


def profiles(name: str) -> set[str]:
    """Those of a file and of what it extends."""
    raw = yaml.safe_load((SWEEPS / f"{name}.yaml").read_text(encoding="utf-8"))
    below = profiles(raw["extends"]) if "extends" in raw else set()
    return below | set(raw.get("profiles", {}))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_planned_in_every_profile_without_data(name: str) -> None:
    for profile in (None, *sorted(profiles(name))):
        sweep = load(name, profile)
        planned = plan(sweep)
        assert sweep.name == name.removeprefix("paper/")
        assert sweep.question
        assert planned.trials >= len(sweep.arms)
        assert planned.epochs >= planned.trials


@pytest.mark.parametrize("name", [*PAPER, "scaling"])
def test_a_table_has_three_scales_and_as_written_it_is_the_smallest(name: str) -> None:
    assert profiles(name) >= {"cpu", "gpu", "paper"}
    as_written, cpu, gpu = (load(name, profile) for profile in (None, "cpu", "gpu"))
    assert as_written == cpu.model_copy(update={"profile": None})
    assert len(cpu.seeds) >= 3
    assert cpu.pool.gpus == 0 < gpu.pool.gpus <= 1
    assert all(cpu.config(cell, 0).data.name in ("cifar10", "digits") for cell in cpu.cells())


def axes(sweep: SweepSpec) -> dict[str, set[str]]:
    """Scientific parameter → its values, over all arms."""
    found: dict[str, set[str]] = {}
    for cell in sweep.cells():
        for path, value in cell.values.items():
            found.setdefault(path, set()).add(repr(value))
    return found


@pytest.mark.parametrize("name", PAPER)
def test_the_axes_of_a_table_are_the_same_at_every_scale(name: str) -> None:
    small, middle, published = (axes(load(name, profile)) for profile in ("cpu", "gpu", "paper"))
    assert small.keys() == middle.keys() == published.keys()
    for path, values in small.items():
        assert len(values) >= min(2, len(published[path])), path


# -- figure 9 ---------------------------------------------------------------------------------------------------------

FAMILIES = ("resnet", "convnext", "efficientnet", "regnet", "mobilenet", "vit", "xcit", "maxvit")


def encoders(profile: str) -> dict[str, list[str]]:
    """Family → names, trained ones alone."""
    sweep = load("paper/figure9_architectures", profile)
    return {arm: [cell.values["encoder.name"] for cell in sweep.cells() if cell.arm == arm] for arm in FAMILIES}


@pytest.mark.parametrize("profile", ["gpu", "paper"])
def test_figure_9_has_more_than_fifty_encoders_of_eight_families(profile: str) -> None:
    found = [name for names in encoders(profile).values() for name in names]
    assert len(set(found)) == len(found) >= 50
    assert all(len(names) >= 5 for names in encoders(profile).values())


@pytest.mark.slow
def test_the_encoders_of_figure_9_have_fewer_than_20_m_parameters() -> None:
    sweep = load("paper/figure9_architectures", "paper")
    for cell in sweep.cells():
        if cell.arm in FAMILIES:
            with torch.device("meta"):
                encoder, _ = build_encoder(sweep.config(cell, 0), channels=3)
            assert sum(weight.numel() for weight in encoder.parameters()) < 20e6, cell.values


# -- encoders too large to build here ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["gpu", "paper"])
@pytest.mark.parametrize("name", [*PAPER, "scaling"])
def test_every_encoder_takes_its_images_and_shows_what_the_probes_read(name: str, profile: str) -> None:
    sweep = load(name, profile)
    configs = [sweep.config(cell, 0) for cell in sweep.cells()]
    for config in {str((c.encoder, c.data.size, c.views, c.probe)): c for c in configs}.values():
        if config.encoder.name != "small_convnext":  # its drop path reads a tensor while it is built
            with torch.device("meta"):  # shapes without arithmetic
                check_encoder(config)
