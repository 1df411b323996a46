"""Several nodes of Ray on one machine: trials find the nodes that their pool names, and outlive the loss of one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pools_find_their_nodes_and_a_trial_outlives_its_node(tmp_path: Path) -> None:
    """In a process of its own: the other tests have a Ray of one node."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=590
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = ["doctor is content", "pools kept to their nodes", "the trial went on"]
    assert [line for line in done.stdout.splitlines() if line in said] == said, done.stdout  # Ray talks in between


SCRIPT = """
import json, os, shutil, sys, threading, time
from dataclasses import dataclass
from pathlib import Path
sys.path.insert(0, ".")
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from harness.doctor import PASS
from harness.doctor_cluster import examine_cluster
from harness.executors import RayExecutor
from harness.pool import placement
from harness.search import Enumerated
from harness.spec import SweepSpec
from tests.harness import fake

cloudpickle.register_pickle_by_value(fake)
folder = Path(sys.argv[1])
head = dict(num_cpus=1, include_dashboard=False, object_store_memory=80 * 2**20)
cluster = Cluster(initialize_head=True, head_node_args={**head, "labels": {"kind": "plain"}})
nodes = [cluster.add_node(num_cpus=1, num_gpus=1, labels={"kind": "fast"}, object_store_memory=80 * 2**20)
         for _ in range(2)]
cluster.wait_for_nodes()

def spec(address):
    return SweepSpec.model_validate({
        "name": "nodes", "base": {"epochs": 1}, "cluster": {"address": address},
        "pools": {"plain": {"max_concurrent": 1, "labels": {"kind": "plain"}},
                  "fast": {"max_concurrent": 2, "gpus": 1, "labels": {"kind": "fast"}}},
        "place": [{"when": "data.size >= 16", "pool": "fast"}],
    })

findings = list(examine_cluster(placement(spec(cluster.address)), folder / "runs"))
assert [finding.result for finding in findings] == [PASS, PASS, PASS, PASS], findings
assert "pools.plain 1 of 1, pools.fast 2 of 2" in findings[-1].found, findings
assert not list((folder / "runs").iterdir())
print("doctor is content")

@dataclass(frozen=True)
class Telling(fake.Fake):
    def __call__(self, config, checkpoints):
        trainer = super().__call__(config, checkpoints)
        trainer.info["node"] = ray.get_runtime_context().get_node_id()
        return trainer

trials = [fake.trial(seed, data={"size": 8 if seed < 3 else 16}) for seed in range(6)]
diary = fake.Diary()
with RayExecutor(placement(spec(cluster.address)), Telling(waits_for={3: 4, 4: 3})) as executor:
    labels = {node["NodeID"]: node["Labels"]["kind"] for node in ray.nodes()}
    executor.run(Enumerated(trials), diary, folder / "labels")
where = {seed: labels[infos[0]["node"]] for seed, infos in diary.info.items()}
assert where == {seed: "plain" if seed < 3 else "fast" for seed in range(6)}, where
assert len({diary.info[seed][0]["node"] for seed in (3, 4)}) == 2
print("pools kept to their nodes")

class Killer(fake.Diary):
    # takes the node away, and with it what it alone has: its storage is not shared
    def epoch(self, trial, report):
        if report.epoch == 2 and len(self.info[trial.config.seed]) == 1:
            node = self.info[trial.config.seed][0]["node"]
            gone = next(one for one in nodes if one.node_id == node)
            cluster.remove_node(gone, allow_graceful=False)
            shutil.rmtree(folder / "lost" / "checkpoints")
        return super().epoch(trial, report)

diary = Killer()
with RayExecutor(placement(spec(cluster.address)), Telling(seconds=0.5)) as executor:
    executor.run(Enumerated([fake.trial(7, epochs=6, data={"size": 16})]), diary, folder / "lost")
told = [line for line in diary.lines if line[0] != "epoch"]
assert told == [("started", 7, 0), ("interrupted", 7), ("started", 7, 0), ("finished", 7)], told
assert diary.info[7][0]["node"] != diary.info[7][1]["node"]
print("the trial went on")
cluster.shutdown()
"""
