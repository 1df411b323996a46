"""What doctor says of a cluster: one that is fine, on real nodes of one machine, and what several nodes can lack."""

from pathlib import Path

from harness.doctor import FAIL, PASS, WARN
from harness.doctor_cluster import same_code, shared

RUNS = Path("/shared/runs")


def test_storage_that_all_nodes_share_passes() -> None:
    said = shared({"a": "1", "b": "2"}, {"a": {"1", "2"}, "b": {"1", "2"}}, RUNS)
    assert said.result == PASS
    assert said.found == "each of 2 nodes reads what the others write in /shared/runs"


def test_one_node_proves_nothing_about_sharing() -> None:
    assert shared({"a": "1"}, {"a": {"1"}}, RUNS).result == WARN


def test_a_node_with_a_folder_of_its_own_under_that_name_is_found_out() -> None:
    said = shared({"a": "1", "b": "2", "c": "3"}, {"a": {"1", "2"}, "b": {"1", "2"}, "c": {"3"}}, RUNS)
    assert said.result == FAIL
    assert "a does not see what c writes; b does not see what c writes; c does not see what a, b writes" in said.found
    assert "would start from epoch 0" in said.found


def test_a_node_without_the_folder_is_named() -> None:
    missing = FileNotFoundError("No such file or directory: '/shared/runs/.doctor-1/2'")
    said = shared({"a": "1", "b": missing}, {"a": {"1"}, "b": missing}, RUNS)
    assert said.result == FAIL
    assert "cannot be used on b: No such file" in said.found


def test_nodes_whose_code_differs_or_is_missing_fail() -> None:
    assert same_code({"a": ("abc", "2.14"), "b": ("abc", "2.14")}).result == PASS
    differing = same_code({"a": ("abc", "2.14"), "b": ("abd", "2.14")})
    assert (differing.result, "b: lejepa abd, torch 2.14" in differing.found) == (FAIL, True)
    missing = same_code({"a": ("abc", "2.14"), "b": ModuleNotFoundError("No module named 'harness'")})
    assert (missing.result, "b: cannot load the harness" in missing.found) == (FAIL, True)
