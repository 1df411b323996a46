"""What a sweep's surroundings are written down as."""

import json
import subprocess
from pathlib import Path

import pytest

import lejepa.config
from harness import environment
from harness.spec import SweepSpec
from harness.trials import code_hash

SPEC = SweepSpec.model_validate({"name": "a", "pool": {"max_concurrent": 3}})


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that tracks the trainer's config.py, as far as `describe` can see."""
    (tmp_path / "lejepa").mkdir()
    (tmp_path / "lejepa" / "config.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(lejepa.config, "__file__", str(tmp_path / "lejepa" / "config.py"))
    return tmp_path


def test_the_description_is_json_and_names_code_packages_and_machine() -> None:
    described = json.loads(json.dumps(environment.describe(SPEC, "local", ["harness", "run"])))
    assert described["code"] == code_hash()
    assert {"torch", "ray", "optuna", "mlflow"} <= described["packages"].keys()
    assert (described["executor"], described["command"]) == ("local", ["harness", "run"])
    assert described["pool"] == {"cpus": 1, "gpus": 0.0, "ranks": 1, "max_concurrent": 3}
    assert (described["pools"], described["cluster"]) == ({}, "local")
    assert described["cpu"]
    assert described["memory_gib"] > 0


def test_each_of_several_pools_is_told_with_what_a_trial_gets_there() -> None:
    pools = {"small": {"max_concurrent": 2}, "big": {"cpus": 4, "gpus": 1, "max_concurrent": 1, "memory": "2 GiB"}}
    spec = SweepSpec.model_validate({"name": "a", "pools": pools, "cluster": {"address": "auto"}})
    described = json.loads(json.dumps(environment.describe(spec, "ray", [])))
    assert described["pools"]["small"] == {"cpus": 1, "gpus": 0.0, "ranks": 1, "max_concurrent": 2}
    assert described["pools"]["big"]["memory"] == 2 * 2**30
    assert (described["pool"]["max_concurrent"], described["cluster"]) == (3, "auto")


def test_a_worktree_is_clean_until_a_tracked_file_changes(clone: Path) -> None:
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "first")
    clean = environment.describe(SPEC, "ray", [])["git"]
    assert (len(clean["sha"]), clean["dirty"], clean["diff"]) == (40, False, None)
    (clone / "lejepa" / "config.py").write_text("a = 2\n")
    dirty = environment.describe(SPEC, "ray", [])["git"]
    assert (dirty["sha"], dirty["dirty"], len(dirty["diff"])) == (clean["sha"], True, 64)


def test_a_package_inside_a_repository_that_does_not_track_it_has_no_git(clone: Path) -> None:
    assert environment.describe(SPEC, "ray", [])["git"] is None
