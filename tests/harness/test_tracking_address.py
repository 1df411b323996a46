"""MLflow's address: what it holds of the user's is never kept or shown, and nothing is written elsewhere instead."""

import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness import cli, endings, resume, run
from harness.address import command_shown, shown, unservable, withhold
from harness.folder import Refused, environment_of
from harness.mlflow_store import client_of, default_uri, uri_of
from harness.resume import resume_sweep
from harness.run import run_sweep
from harness.spec import SweepSpec
from harness.tracking import sync
from tests.harness.fake import Fake

SPEC = {"name": "swept", "base": {"epochs": 2, "data": {"name": "digits", "size": 16}}, "seeds": 2}
USER, PASSWORD = "robertina", "s3cret%2Fword"
ADDRESS = f"http://{USER}:{PASSWORD}@127.0.0.1:9"  # where nobody listens
SEEN = "http://…@127.0.0.1:9"
SECRETS = (USER, "s3cret", "word@")


@contextmanager
def server() -> Iterator[str]:
    """The place of one that knows a single run, whatever it is asked."""
    run = {"info": {"run_id": "1", "run_name": "a", "experiment_id": "1", "status": "FINISHED"}, "data": {}}

    class Knows(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"run": run, "run_info": run["info"]}).encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Knows) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    return CliRunner().invoke(cli.app, arguments)


def all_that_is_kept(runs: Path) -> Iterator[tuple[str, str]]:
    """Every file below, and what the databases say."""
    for path in (path for path in runs.rglob("*") if path.is_file()):
        yield str(path), path.read_bytes().decode("utf-8", errors="replace")
        if path.suffix == ".db":
            with sqlite3.connect(path) as db:
                yield f"tables of {path}", "\n".join(db.iterdump())
            db.close()


def test_a_sweep_keeps_and_shows_no_user_name_or_password_and_writes_nowhere_else(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_sweep", partial(run_sweep, trainer=Fake(raises={1: 2})))
    monkeypatch.setattr(resume, "resume_sweep", partial(resume_sweep, trainer=Fake()))
    file, folder = runs.parent / "swept.yaml", runs / "swept"
    file.write_text(SweepSpec.model_validate(SPEC).to_yaml())
    store = (runs / "mlflow.db").read_bytes()
    told = [call(monkeypatch, "run", str(file), "--dir", str(runs), "--executor", "local", "--tracking-uri", ADDRESS)]
    assert told[0].exit_code == 1, told[0].output  # a trial failed
    assert f"`harness sync {folder} --tracking-uri {SEEN}` makes up for it" in told[0].stderr
    assert environment_of(folder)["command"][-2:] == ["--tracking-uri", SEEN]
    for command in ("sync", "retry"):
        told.append(call(monkeypatch, command, str(folder)))
        assert told[-1].exit_code == 2, told[-1].output
        assert "give the address again, as --tracking-uri or in MLFLOW_TRACKING_URI" in told[-1].stderr
    told.append(call(monkeypatch, "sync", str(folder), "--tracking-uri", ADDRESS))
    assert "MLflow does not take it" in told[-1].stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    monkeypatch.setattr(endings, "show_report", lambda *_, **__: None)  # one is enough
    told.append(call(monkeypatch, "retry", str(folder)))
    assert told[-1].exit_code == 0, told[-1].output
    assert "MLflow lags behind" in told[-1].stderr
    assert (runs / "mlflow.db").read_bytes() == store
    assert (folder / "report" / "index.html").is_file()
    kept = [*all_that_is_kept(runs), *(("a command's output", result.output) for result in told)]
    assert [(where, secret) for where, text in kept for secret in SECRETS if secret in text] == []
    assert sum(SEEN in text for _, text in kept) > 5


def test_mlflow_itself_prints_no_address_when_a_run_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with server() as place:
        client_of(f"http://{USER}:{PASSWORD}@{place}").set_terminated("1", "FINISHED")
    assert capfd.readouterr().out == ""


def test_an_address_of_another_place_is_not_taken_for_the_one_that_was_withheld(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs / "swept"
    folder.mkdir()
    (folder / "environment.json").write_text(f'{{"tracking_uri": "{SEEN}"}}')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    with pytest.raises(Refused, match="give the address again"):
        uri_of(folder)
    assert uri_of(folder, "http://elsewhere:5000") == "http://elsewhere:5000"
    for same in (ADDRESS, "http://127.0.0.1:9/"):  # the second where MLflow has user and password by its own variables
        monkeypatch.setenv("MLFLOW_TRACKING_URI", same)
        assert uri_of(folder) == same


def test_a_run_takes_the_address_of_mlflows_own_variable_and_keeps_it_for_any_directory(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs.parent / "elsewhere").mkdir()
    (runs / "mlflow.db").rename(runs.parent / "elsewhere" / "mlflow.db")
    monkeypatch.chdir(runs.parent / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    run_sweep(SweepSpec.model_validate(SPEC), runs / "swept", "local", trainer=Fake())
    monkeypatch.chdir("/")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(runs / "swept")[0] == f"sqlite:///{runs.parent / 'elsewhere' / 'mlflow.db'}"
    assert not (runs / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        (ADDRESS, SEEN),
        ("https://token@host/path", "https://…@host/path"),
        ("postgresql+psycopg://me:a:b@c@host:5432/db", "postgresql+psycopg://…@host:5432/db"),
        ("http://me:it's a word@host", "http://…@host"),
        ("http://me:a/b@host", "http://…@host"),
        ("me:word@host", "…@host"),
        ("postgresql://host/db?user=me&password=word&sslmode=on", "postgresql://host/db?user=…&password=…&sslmode=on"),
        ("sqlite:///runs/mlflow.db?timeout=1", "sqlite:///runs/mlflow.db?timeout=1"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_what_is_shown_of_an_address_is_its_place(address: str, seen: str) -> None:
    assert shown(address) == seen
    assert shown(seen) == seen
    assert command_shown(["harness", "sync", "--tracking-uri", address])[-1] == seen
    assert withhold(f"no answer from {address}/api: refused", address) == f"no answer from {seen}/api: refused"


def test_a_user_name_or_password_that_stands_alone_in_an_error_is_withheld() -> None:
    text = "FATAL: no password s3cret/word or s3cret%2Fword for 'robertina' of robertinas, see https://a:b@host/x"
    assert withhold(text, ADDRESS) == "FATAL: no password … or … for '…' of robertinas, see https://…@host/x"
    assert withhold("nothing in it, mail a@b.org") == "nothing in it, mail a@b.org"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("foo:bar", "no kind that MLflow knows; take http"),
        ("mysqlx://host/db", "no kind that MLflow knows"),
        (f"{USER}:{PASSWORD}@host", "no kind that MLflow knows"),
        ("./mlruns", "a folder"),
        ("file:///tmp/mlruns", "a folder"),
        ("http://", "no host"),
        (f"http://{USER}:s3cret/word@host", "cannot be read"),
        (f"postgresql+nothing://{USER}:{PASSWORD}@host/db", "no database's address"),
        (f"mssql+pymssql://{USER}:{PASSWORD}@host/db", "pymssql is not installed"),
        ("sqlite:mlflow.db", "no database's address"),
        ("sqlite://", "gone with the process"),
        (SEEN, "write it out"),
    ],
)
def test_what_mlflow_cannot_serve_is_refused_before_compute(runs: Path, address: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        run_sweep(SweepSpec.model_validate(SPEC), runs / "swept", "local", address, trainer=Fake())
    assert not (runs / "swept").exists()
    assert not [secret for secret in SECRETS if secret in str(refused.value)]


@pytest.mark.parametrize(
    "address",
    [
        *("http://host", "https://token@host:1/x", "databricks", "databricks://profile"),
        *("sqlite:////proc/no/mlflow.db", "sqlite:///file:a.db?mode=ro&uri=true", default_uri(Path("runs/swept"))),
    ],
)
def test_what_may_only_be_down_is_not_refused(address: str) -> None:
    assert unservable(address) == ""
