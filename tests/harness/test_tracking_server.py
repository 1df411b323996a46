"""MLflow on a server that is down, hangs, or answers 500: it never holds up a trial, and is caught up with once."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from harness import tracking
from harness.ledger import Ledger
from harness.mlflow_store import default_uri
from harness.run import run_sweep
from harness.spec import SweepSpec
from harness.tracking import MirrorThread, MlflowMirror, publish, sync
from tests.harness.fake import Fake
from tests.harness.test_tracking import store, write_sweep

SPEC = {
    "name": "swept",
    "base": {"epochs": 2, "data": {"name": "digits", "size": 16}},
    "seeds": 2,
    "pool": {"cpus": 1, "max_concurrent": 1},
}


@contextmanager
def server(hangs: bool) -> Iterator[str]:
    """The address of one that answers 500 to everything, or nothing at all until the test is over."""
    over = threading.Event()

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if hangs:
                over.wait(120)
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        over.set()
        httpd.shutdown()
        httpd.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def troubled(kind: str) -> Iterator[str]:
    if kind == "down":
        yield f"http://127.0.0.1:{free_port()}"
    else:
        with server(hangs=kind == "hangs") as uri:
            yield uri


@pytest.mark.parametrize("kind", ["down", "hangs", "answers 500"])
def test_a_troubled_server_holds_up_no_trial_and_sync_catches_up_once(
    runs: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(tracking, "_SERVER_PATIENCE", 3.0)
    folder = runs / "swept"
    with troubled(kind) as uri:
        summary = run_sweep(SweepSpec.model_validate(SPEC), folder, "local", uri, trainer=Fake())
        assert summary.counts == {"finished": 2}
        assert "makes up for it" in publish(folder, uri)
    with Ledger.read(folder / "ledger.db") as ledger:
        began, ended = (e.time for e in ledger.events() if e.kind in ("sweep_started", "sweep_finished"))
        trained = [e.time for e in ledger.events() if e.key]
    assert max(trained) <= ended, "the mirror is waited for after the sweep is over, not in it"
    assert "MLflow lags behind the ledger" in capsys.readouterr().err
    assert began < ended
    for _ in range(2):
        assert sync(folder, default_uri(folder))[0] == default_uri(folder)
        client, parent, children = store(folder)
        assert parent.info.status == "FINISHED"
        assert sorted(children) == [0, 1]
        assert {run.info.status for run in children.values()} == {"FINISHED"}
        for run in children.values():
            assert len(client.get_metric_history(run.info.run_id, "val/linear")) == 2


def test_closing_is_bounded_while_a_server_hangs(runs: Path) -> None:
    with write_sweep(runs / "swept", {0: "finished"}), server(hangs=True) as uri:
        thread = MirrorThread(runs / "swept", "swept", uri, every=0.05)
        thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        thread.close(timeout=1.0)
        took = time.monotonic() - began
        assert took < 5.0
        assert thread.trouble == "MLflow did not take everything within 1 s"
        assert "lags behind" in publish(runs / "swept", default_uri(runs / "swept")), "two writers would double runs"


def test_a_mirror_that_was_given_up_writes_nothing_more(runs: Path) -> None:
    folder = runs / "swept"
    with write_sweep(folder, {0: "finished"}) as ledger:
        mirror = MlflowMirror(folder, "swept", default_uri(folder))
        mirror.abandoned = True
        with pytest.raises(TimeoutError):
            mirror.replay(ledger)
        assert MlflowClient(tracking_uri=default_uri(folder)).search_experiments(filter_string="name = 'swept'")
        sync_with = MlflowMirror(folder, "swept", default_uri(folder))
        sync_with.replay(ledger)
    assert sorted(store(folder)[2]) == [0]


def test_runs_that_a_slow_server_made_twice_become_one(runs: Path) -> None:
    folder = runs / "swept"
    with write_sweep(folder, {0: "finished", 1: "failed"}) as ledger:
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)
        client, parent, children = store(folder)
        for run in (parent, *children.values()):
            client.create_run(run.info.experiment_id, tags=run.data.tags)
        MlflowMirror(folder, "swept", default_uri(folder)).replay(ledger)
    _, parent, children = store(folder)
    assert sorted(children) == [0, 1]
    assert children[0].info.status == "FINISHED"


@pytest.mark.slow  # an MLflow server takes some ten seconds to start
def test_a_real_server_that_comes_late_and_goes_is_caught_up_with_exactly_once(runs: Path, tmp_path: Path) -> None:
    port, folder = free_port(), runs / "swept"
    uri, log = f"http://127.0.0.1:{port}", (tmp_path / "server.txt").open("w")
    run_sweep(SweepSpec.model_validate(SPEC), folder, "local", uri, trainer=Fake())
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", default_uri(folder), "--artifacts-destination", str(tmp_path / "artifacts")]
    serving = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"{uri}/health")
        for _ in range(2):
            sync(folder, uri)
            _, parent, children = store(folder)
            assert parent.info.status == "FINISHED"
            assert {run.info.status for run in children.values()} == {"FINISHED"}
        assert sorted(children) == [0, 1]
    finally:
        os.killpg(serving.pid, 9)
        serving.wait()
        log.close()
    assert "makes up for it" in publish(folder, uri)


def wait_for(url: str) -> None:
    until = time.monotonic() + 90
    while True:
        try:
            with urlopen(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)
