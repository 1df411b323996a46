"""What doctor says of a machine, with one thing wrong at a time."""

import http.server
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch

from harness import doctor, environment
from harness.doctor import FAIL, PASS, WARN, Finding, examine


def findings(runs: Path, uri: str | None = None) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(runs, uri, with_ray=False)}


@pytest.fixture
def server() -> Iterator[str]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as here:
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{here.server_port}"
        here.shutdown()


def test_a_machine_that_is_fine_passes_and_nothing_is_left_behind(runs: Path) -> None:
    before = sorted(runs.iterdir())
    found = findings(runs)
    assert found["installation"].result == PASS
    assert found["disk"].result in (PASS, WARN)
    assert f"torch {metadata.version('torch')}" in found["installation"].found
    assert found["data"].found.startswith("digits")
    assert sorted(runs.iterdir()) == before
    assert FAIL not in {finding.result for finding in found.values()}


def test_a_package_of_another_version_fails_and_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1" if name == "optuna" else real(name))
    said = findings(runs)["installation"]
    assert said.result == FAIL
    assert "optuna 0.1 is not" in said.found


def test_gpus_that_torch_cannot_use_fail(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpus", lambda: ["A GPU"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert findings(runs)["GPUs"].result == FAIL
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert findings(runs)["GPUs"].result == PASS


def test_a_quota_below_the_cores_is_told_with_the_number_that_fits(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_cgroup_cpus", lambda: 0.5)
    said = findings(runs)["processor"]
    assert said.result == WARN
    assert "set pool.max_concurrent to 1" in said.found


def test_a_place_where_no_ledger_can_live_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> None:
        from harness.ledger import LedgerError

        raise LedgerError(f"{folder} lies on nfs4")

    monkeypatch.setattr("harness.ledger._refuse_network_file_system", refused)
    said = findings(tmp_path)["disk"]
    assert said.result == FAIL
    assert "nfs4" in said.found


def test_a_tracking_server_that_answers_passes_and_a_silent_one_is_a_warning(runs: Path, server: str) -> None:
    assert findings(runs, server)["tracking"].result == PASS
    silent = findings(runs, "http://me:secret@127.0.0.1:9")["tracking"]
    assert silent.result == WARN
    assert "secret" not in silent.found


def test_an_address_that_mlflow_cannot_serve_fails(runs: Path) -> None:
    said = findings(runs, "foo:bar")["tracking"]
    assert said.result == FAIL
    assert "foo:bar: it is of no kind that MLflow knows" in said.found


def test_a_store_of_mlflow_is_counted_and_a_broken_one_fails(runs: Path) -> None:
    assert "0 runs" in findings(runs)["tracking"].found
    (runs / "mlflow.db").write_text("no database")
    assert findings(runs)["tracking"].result == FAIL


def test_data_sets_under_the_root_are_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "photos").mkdir()
    monkeypatch.setenv("LEJEPA_DATA", str(runs))
    assert findings(runs)["data"].found.endswith("photos")
    monkeypatch.setenv("LEJEPA_DATA", str(runs / "nowhere"))
    assert findings(runs)["data"].result == WARN


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        raise RuntimeError("no such thing")
        yield

    monkeypatch.setattr(doctor, "_shared_memory", broken)
    found = findings(runs)
    assert found["shared memory"].result == FAIL
    assert "tracking" in found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_is_started_once_and_ended(tmp_path: Path) -> None:
    import ray

    said = {finding.what: finding for finding in examine(tmp_path)}["Ray"]
    assert said.result in (PASS, WARN)
    assert "starts and answers" in said.found
    assert not ray.is_initialized()
