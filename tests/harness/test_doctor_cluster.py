"""What doctor says of a cluster: one that is fine, on real nodes of one machine, and what several nodes can lack."""

from pathlib import Path

import pytest

from harness import cli
from harness.doctor import FAIL, PASS, WARN
from harness.doctor_cluster import places, same_code, shared
from harness.pool import Placement, placement
from harness.spec import SpecError, SweepSpec

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


# -- a sweep file's pools ---------------------------------------------------------------------------------------------

POOLS = """name: pools
cluster: {address: "10.0.0.1:6379"}
pools:
  small: {max_concurrent: 2}
  big: {cpus: 2, gpus: 1, max_concurrent: 1}
"""


def test_an_address_stands_for_itself_and_a_sweep_file_for_its_cluster_and_pools(tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(POOLS)
    for address in ("auto", "10.0.0.1:6379"):
        assert cli._cluster(address) == Placement({}, address=address)
    where = cli._cluster(str(file))
    assert (where.address, [*where.pools]) == ("10.0.0.1:6379", ["pools.small", "pools.big"])
    with pytest.raises(SpecError, match="nowhere"):
        cli._cluster("nowhere.yaml")


@pytest.mark.usefixtures("ray_on_two_cpus")
@pytest.mark.parametrize(
    ("big", "result", "said"),
    [
        ({"cpus": 2, "gpus": 1, "max_concurrent": 1}, PASS,
         "trials at once: pools.small 2 of 2, pools.big 1 of 1, all together at most 3"),
        ({"cpus": 1, "gpus": 1, "max_concurrent": 8}, WARN, "pools.big 2 of 8, all together at most 10; CPUs, GPUs or"),
        ({"cpus": 4, "gpus": 4}, FAIL, "pools.big: a trial asks for 4 CPUs and 4 GPUs, and there are 2 CPUs"),
        ({"labels": {"gpu": "h100"}}, FAIL, "pools.big: no node has the labels {'gpu': 'h100'}; there are made-for"),
        ({"cpus": 3}, FAIL, "pools.big: a trial asks for 3 CPUs"),
    ],
)  # fmt: skip
def test_pools_are_tried_on_the_ray_that_is_there(big: dict[str, object], result: str, said: str) -> None:
    pools = {"small": {"max_concurrent": 2}, "big": big}
    found = places(placement(SweepSpec.model_validate({"name": "a", "pools": pools})))
    assert (found.what, found.result) == ("pools", result)
    assert said in found.found
