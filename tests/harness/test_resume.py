"""What `resume`, `stop`, `retry`, `sync` and `gc` do with a sweep, and what they refuse."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from harness import cli, environment, resume
from harness.checkpoints import collect
from harness.folder import Refused, RunError
from harness.keep import Keep
from harness.ledger import Ledger, LedgerError
from harness.lock import driving
from harness.mlflow_store import default_uri
from harness.resume import resume_sweep, to_retry
from harness.run import run_sweep
from harness.spec import SweepSpec
from lejepa.checkpoint import CheckpointError
from lejepa.config import TrainConfig
from lejepa.trainer import EpochReport
from tests.harness.driver import driver, epochs, mlflow_statuses, record, wait_until
from tests.harness.fake import Fake, FakeTrainer

pytestmark = pytest.mark.usefixtures("without_mlflow")

SPEC: dict[str, Any] = {
    "name": "swept",
    "base": {"epochs": 3, "data": {"name": "digits", "size": 16}},
    "arms": {"lejepa": {"scientific": {"method.lamb": {"grid": [0.0, 0.05]}}}},
    "seeds": [0, 1],
}


class Cut(Exception):
    """Stands in for the driver's death."""


class Dying(Fake):
    """Trials of a driver that dies in an epoch of a seed."""

    def __init__(self, seed: int, epoch: int) -> None:
        object.__setattr__(self, "at", (seed, epoch))
        super().__init__()

    def __call__(self, config: TrainConfig, checkpoints: Path) -> FakeTrainer:
        at = self.at  # type: ignore[attr-defined]

        class Trainer(FakeTrainer):
            def __iter__(self) -> Iterator[EpochReport]:
                for report in super().__iter__():
                    if (self.config.seed, report.epoch) == at:
                        raise KeyboardInterrupt  # after the checkpoint, before the report
                    yield report

        return Trainer(self, config, checkpoints)


def sweep(runs: Path, trainer: Any = None, **changes: Any) -> Path:
    spec = SweepSpec.model_validate({**SPEC, **changes})
    folder = runs / spec.name
    run_sweep(spec, folder, "local", trainer=trainer or Fake())
    return folder


@pytest.fixture
def whole(runs: Path, tmp_path: Path) -> dict[str, Any]:
    """The record of the sweep when nothing happens to it."""
    (tmp_path / "whole").mkdir()
    shutil.copy(runs / "mlflow.db", tmp_path / "whole" / "mlflow.db")
    return record(sweep(tmp_path / "whole"))


def events(folder: Path, kind: str) -> list[Any]:
    with Ledger.read(folder / "ledger.db") as ledger:
        return [event for event in ledger.events() if event.kind == kind]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


# -- going on ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_trial_goes_on_with_the_epochs_that_only_its_checkpoint_has(
    runs: Path, whole: dict[str, Any]
) -> None:
    folder = sweep(runs, Dying(seed=0, epoch=2))
    assert epochs(folder) == 1
    resume_sweep(folder, trainer=Fake())
    assert record(folder) == whole
    assert [event.payload["epoch"] for event in events(folder, "started")][:2] == [0, 2]


def test_a_trial_that_only_lacked_its_last_word_reads_test_and_is_finished(runs: Path, whole: dict[str, Any]) -> None:
    folder = sweep(runs, Dying(seed=0, epoch=3))
    resume_sweep(folder, trainer=Fake())
    assert record(folder) == whole
    assert [event.payload["epoch"] for event in events(folder, "started")][:2] == [0, 3]
    finished = events(folder, "finished")
    assert len(finished) == 4
    assert all(event.payload["test"] for event in finished)


def test_a_trial_that_lost_its_checkpoint_trains_again_and_doubles_nothing(runs: Path, whole: dict[str, Any]) -> None:
    folder = sweep(runs, Dying(seed=1, epoch=3))
    shutil.rmtree(folder / "checkpoints")
    resume_sweep(folder, trainer=Fake())
    assert record(folder) == whole
    [note] = events(folder, "note")
    assert note.payload["text"] == "its checkpoint holds 0 of 2 known epochs; the others are trained again"


def test_an_epoch_that_comes_out_differently_the_second_time_is_told_and_the_first_stays(runs: Path) -> None:
    folder = sweep(runs, Dying(seed=0, epoch=3))
    shutil.rmtree(folder / "checkpoints")
    with Ledger.read(folder / "ledger.db") as ledger:
        before = [row.metrics for row in ledger.epochs()]

    class Other(FakeTrainer):
        def _metrics(self, epoch: int) -> dict[str, float]:
            return {name: value + 1 for name, value in super()._metrics(epoch).items()}

    resume_sweep(folder, trainer=lambda config, checkpoints: Other(Fake(), config, checkpoints))
    texts = [event.payload["text"] for event in events(folder, "note")]
    assert "epoch 1 trained again gave other metrics; the first ones stay" in texts
    with Ledger.read(folder / "ledger.db") as ledger:
        key = ledger.trials()[0].key
        assert [row.metrics for row in ledger.epochs(key)][:2] == before


def test_finished_trials_are_not_touched_and_a_whole_sweep_has_nothing_to_do(runs: Path) -> None:
    folder = sweep(runs)
    before = record(folder)
    assert resume_sweep(folder, trainer=Fake(raises={0: 1, 1: 1})) is None
    assert record(folder) == before
    result = call("resume", str(folder))
    assert result.exit_code == 0
    assert "nothing to do" in result.stdout


@pytest.mark.usefixtures("mirrored")
def test_a_resumed_sweep_keeps_its_executor_and_its_store_and_says_that_it_was_resumed(runs: Path) -> None:
    store = f"sqlite:///{runs / 'other.db'}"
    shutil.copy(runs / "mlflow.db", runs / "other.db")
    spec = SweepSpec.model_validate(SPEC)
    run_sweep(spec, runs / "swept", "local", store, trainer=Dying(seed=0, epoch=2))
    resume_sweep(runs / "swept", command=["harness", "resume"], trainer=Fake())
    [resumed] = events(runs / "swept", "sweep_resumed")
    assert resumed.payload["command"] == ["harness", "resume"]
    assert resumed.payload["executor"] == "local"
    [experiment] = MlflowClient(tracking_uri=store).search_experiments(filter_string="name = 'swept'")
    found = MlflowClient(tracking_uri=store).search_runs([experiment.experiment_id])
    assert [run.info.status for run in found] == ["FINISHED"] * 5
    assert MlflowClient(tracking_uri=default_uri(runs / "swept")).get_experiment_by_name("swept") is None


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(folder: Path, match: str, **how: Any) -> None:
    with Ledger.read(folder / "ledger.db") as ledger:
        before = ledger.states(), ledger.epochs()
    with pytest.raises(Refused, match=match):
        resume_sweep(folder, trainer=Fake(), **how)
    assert not events(folder, "sweep_resumed")
    with Ledger.read(folder / "ledger.db") as ledger:
        assert (ledger.states(), ledger.epochs()) == before


def test_changed_trainer_code_is_refused_unless_accepted_and_then_recorded(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweep(runs, Dying(seed=0, epoch=2))
    with Ledger.read(folder / "ledger.db") as ledger:
        old = ledger.trials()[0].code
    monkeypatch.setattr(resume, "code_hash", lambda: "f" * 64)
    refused(folder, r"trainer's code has changed.*--accept-code-change")
    resume_sweep(folder, accept_code_change=True, trainer=Dying(seed=1, epoch=2))
    assert [event.payload for event in events(folder, "code_changed")] == [{"old": old, "new": "f" * 64}]
    resume_sweep(folder, trainer=Fake())  # what was accepted once is what the sweep has now
    assert len(events(folder, "code_changed")) == 1
    with Ledger.read(folder / "ledger.db") as ledger:
        assert {row.code for row in ledger.trials()} == {old}


def test_changed_data_are_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lejepa.data

    folder = sweep(runs, Dying(seed=0, epoch=2))
    monkeypatch.setattr(lejepa.data, "fingerprint", lambda data: "0" * 16)
    refused(folder, r"data digits are not those.*now 0000000000000000")


LOST = {
    "one place with its events": ("assignments", "events"),
    "a trial": ("assignments", "events", "epochs", "trials"),
    "a trial but its events": ("assignments", "epochs", "trials"),
    "the epochs of a finished trial": ("epochs",),
}


@pytest.mark.parametrize("tables", LOST.values(), ids=LOST.keys())
@pytest.mark.parametrize("last", [False, True], ids=["the first", "the last"])
def test_a_ledger_from_which_rows_are_lost_is_never_finished_over(
    runs: Path, tables: tuple[str, ...], last: bool
) -> None:
    folder = sweep(runs, Dying(seed=1, epoch=3))
    with sqlite3.connect(folder / "ledger.db") as db:
        finished = [key for (key,) in db.execute("SELECT key FROM events WHERE kind = 'finished' ORDER BY id")]
        listed = [key for (key,) in db.execute("SELECT key FROM trials ORDER BY rowid")]
        key = listed[-1] if last and "trials" in tables else finished[-1 if last else 0]
        for table in tables:
            db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
        before = list(db.iterdump())
    db.close()
    for command in (("resume", str(folder)), ("extend", str(folder), "--seeds", "3")):
        result = call(*command)
        assert result.exit_code == 2
        assert "or `harness run " in result.stderr
        assert result.stderr.count("\n") == 1
    with sqlite3.connect(folder / "ledger.db") as db:
        assert list(db.iterdump()) == before
    db.close()


def test_status_and_report_say_which_rows_are_lost(runs: Path) -> None:
    folder = sweep(runs)
    with sqlite3.connect(folder / "ledger.db") as db:
        db.execute("DELETE FROM epochs WHERE key = (SELECT key FROM trials LIMIT 1) AND epoch = 2")
    db.close()
    assert "table epochs lacks epochs of 1 trial" in " ".join(call("status", str(folder)).stdout.split())
    result = call("report", str(folder))
    assert result.exit_code == 0
    assert "rows of the ledger are lost: table epochs lacks epochs of 1 trial" in result.stderr
    assert "Rows of the ledger are lost" in (folder / "report" / "report.md").read_text()


def test_a_report_that_cannot_be_written_ends_in_one_line(runs: Path) -> None:
    folder = sweep(runs)
    (runs / "file").write_text("in the way")
    for options in (["--out", str(runs / "file" / "report")], ["--out", str(runs / "file"), "--watch"]):
        result = call("report", str(folder), *options)
        assert result.exit_code == 2, result.exception
        assert "the ledger is as it was, and `harness report " in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_run_whose_report_cannot_be_written_ends_with_1_and_its_ledger_is_whole(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweep(runs, Dying(seed=1, epoch=3))
    (folder / "report").write_text("in the way")
    monkeypatch.setattr("lejepa.trainer.Trainer", Fake())
    result = call("resume", str(folder))
    assert result.exit_code == 1, result.exception
    assert f"`harness report {folder} --out OTHER` writes it elsewhere" in result.stderr.splitlines()[-1]
    assert events(folder, "sweep_finished")


def test_a_sweep_file_that_this_version_cannot_read_is_explained_in_one_line_with_its_place(runs: Path) -> None:
    folder = sweep(runs, Dying(seed=1, epoch=3))
    text = (folder / "sweep.yaml").read_text()
    place = text.splitlines().index("rope: 1.0") + 1
    (folder / "sweep.yaml").write_text(text.replace("rope: 1.0", "rope: wide"))
    with pytest.raises(Refused) as told:
        resume_sweep(folder, trainer=Fake())
    assert str(told.value).startswith(f"{folder / 'sweep.yaml'}:{place}: rope: ")
    assert "http" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("  max_concurrent:", "  max_concurrentx:", "pool has no max_concurrent"),
        ("arms:", "arms: [1]\nrest:", "arms are no mapping"),
        ("metric:", "metric: {x: 1}\nrest:", "metric is not as a sweep has it"),
        ("metric:", "metric: [:", "holds no sweep"),
    ],
)
def test_a_damaged_sweep_file_is_one_line_for_whoever_reads_it(runs: Path, before: str, after: str, says: str) -> None:
    folder = sweep(runs, Dying(seed=1, epoch=3))
    text = (folder / "sweep.yaml").read_text()
    (folder / "sweep.yaml").write_text(text.replace(before, after, 1))
    for command in ("resume", "status", "report", "gc"):
        result = call(command, str(folder))
        assert result.exit_code == 2, result.exception
        assert says in result.stderr
        assert result.stderr.count("\n") == 1


def test_another_torch_is_warned_of_and_recorded_once(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep(runs, Dying(seed=0, epoch=2))
    monkeypatch.setattr(resume, "_torch", lambda: "99.0")
    resume_sweep(folder, trainer=Dying(seed=1, epoch=2))
    resume_sweep(folder, trainer=Fake())
    texts = [event.payload["text"] for event in events(folder, "note")]
    assert texts == [f"torch was {environment._versions()['torch']}, is 99.0: trials that go on may differ in their "
                     "last bits from unbroken ones"]  # fmt: skip
    assert "is 99.0" in capsys.readouterr().err


def test_a_pool_that_is_gone_and_a_folder_without_a_sweep_are_refused(runs: Path) -> None:
    folder = sweep(runs, Dying(seed=0, epoch=2), pool={"cpus": 1})
    text = (folder / "sweep.yaml").read_text()
    (folder / "sweep.yaml").write_text(text.replace("base:\n", "base:\n  device: cuda\n", 1))
    refused(folder, r"set pool\.gpus")
    with pytest.raises(Refused, match="holds no sweep"):
        resume_sweep(runs, trainer=Fake())
    (folder / "ledger.db").unlink()
    with pytest.raises(Refused, match="there is no ledger here"):
        resume_sweep(folder, trainer=Fake())
    assert not (folder / "ledger.db").exists()


def test_whoever_needs_the_folder_alone_is_refused_while_a_driver_has_it(runs: Path) -> None:
    folder = sweep(runs, Fake(raises={0: 1}))
    with driving(folder):
        for command in (["resume"], ["retry"], ["sync"], ["gc"]):
            result = call(*command, str(folder))
            assert result.exit_code == 2
            assert f"is driven by process {os.getpid()}" in result.stderr
        assert f"driven by process {os.getpid()}" in call("status", str(folder)).stdout


def test_a_driver_is_stopped_from_afar_and_another_is_refused_while_it_lives(runs: Path) -> None:
    folder = runs / "swept"
    with driver(folder, {**SPEC, "seeds": 20}, seconds=0.2) as process:
        wait_until(lambda: epochs(folder) > 0, process)
        assert f"driven by process {process.pid}" in call("resume", str(folder)).stderr
        result = call("stop", str(folder))
        assert result.exit_code == 0, result.output
        assert "is stopped; `harness resume" in result.stdout
        assert process.wait(20) == 130
    [interrupted] = events(folder, "sweep_interrupted")
    assert interrupted.payload == {"reason": "SIGTERM"}
    assert (
        f"nobody drives it, so there is nothing to stop; `harness resume {folder}`" in call("stop", str(folder)).stdout
    )


def test_stop_of_a_sweep_that_has_finished_names_no_resume_unless_a_trial_waits_again(runs: Path) -> None:
    folder = sweep(runs)
    assert call("stop", str(folder)).stdout == f"{folder}: the sweep has finished; there is nothing to stop\n"
    with Ledger(folder / "ledger.db") as ledger:
        ledger.add_event("requeued", ledger.trials()[0].key)
    assert f"`harness resume {folder}` goes on" in call("stop", str(folder)).stdout


# -- checkpoints that break, disks that are full ----------------------------------------------------------------------


class Broken(FakeTrainer):
    def load(self) -> bool:
        if self.checkpoint.exists() and self.checkpoint.read_text() == "garbage":
            raise CheckpointError("fake.json: truncated")
        return super().load()


def broken(config: TrainConfig, checkpoints: Path) -> Broken:
    return Broken(Fake(), config, checkpoints)


def test_a_broken_checkpoint_is_told_and_kept_and_the_trial_starts_again(runs: Path, whole: dict[str, Any]) -> None:
    folder = sweep(runs, Dying(seed=0, epoch=3))
    [checkpoint] = (folder / "checkpoints").glob("*/fake.json")
    checkpoint.write_text("garbage")
    resume_sweep(folder, trainer=broken)
    assert record(folder) == whole
    key = checkpoint.parent.name
    notes = [event.payload["text"] for event in events(folder, "note") if event.key == key]
    assert notes[0].startswith("starts again from epoch 0: fake.json: truncated; the broken checkpoint is kept in ")
    assert (folder / "checkpoints" / f"{key}.broken-1" / "fake.json").read_text() == "garbage"
    assert "fake.json: truncated" in (folder / "logs" / f"{key}.txt").read_text()


def test_a_real_trainers_truncated_checkpoint_gives_way_to_the_one_before_and_garbage_to_epoch_0(runs: Path) -> None:
    small = {
        "epochs": 3,
        "batch_size": 64,
        "data": {"name": "digits", "size": 8, "limit": 128},
        "encoder": {"name": "small_resnet", "width": 8},
        "method": {"name": "lejepa", "slices": 16},
        "views": {"local_views": 0},
    }
    spec = SweepSpec.model_validate({"name": "real", "base": small, "seeds": 2})
    folder = runs / "real"
    run_sweep(spec, folder, "local")
    before = record(folder)
    with Ledger(folder / "ledger.db") as ledger:
        truncated, garbage = (row.key for row in ledger.trials())
        for key in (truncated, garbage):  # as if their driver had died now
            ledger.add_event("requeued", key)
    last = folder / "checkpoints" / truncated / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    for path in (folder / "checkpoints" / garbage).iterdir():
        path.write_bytes(b"not a checkpoint")
    resume_sweep(folder, requeue=[truncated, garbage])
    started = {event.key: event.payload["epoch"] for event in events(folder, "started")}
    assert started == {truncated: 2, garbage: 0}
    with Ledger.read(folder / "ledger.db") as ledger:
        assert [(row.key, row.epoch, row.metrics) for row in ledger.epochs()] == before["epochs"]
        tests = {event.key: event.payload["test"] for event in ledger.events() if event.kind == "finished"}
    assert tests == {key: test for key, (_, test) in before["ends"].items()}
    assert "not a checkpoint of this program" in (folder / "logs" / f"{garbage}.txt").read_text()


class Full(FakeTrainer):
    def save(self) -> None:
        if (self.config.seed, len(self.reports)) == (1, 2):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.pt")
        super().save()


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_disk_that_is_full_stops_the_sweep_which_goes_on_when_there_is_room(
    runs: Path, whole: dict[str, Any], executor: str, request: pytest.FixtureRequest
) -> None:
    if executor == "ray":
        request.getfixturevalue("ray_on_two_cpus")
    full, folder = (lambda config, checkpoints: Full(Fake(), config, checkpoints)), runs / "swept"
    with pytest.raises(RunError, match=r"No space left on device: 'last\.pt'.*harness resume"):
        run_sweep(SweepSpec.model_validate(SPEC), folder, executor, trainer=full)
    with Ledger.read(folder / "ledger.db") as ledger:
        assert "failed" not in ledger.states().values()
        assert "running" not in ledger.states().values()
    assert "No space left" in events(folder, "interrupted")[0].payload["reason"]
    resume_sweep(folder, "local", trainer=Fake())
    assert record(folder) == whole


def test_a_ledger_on_a_full_disk_ends_with_exit_code_1_and_goes_on_when_there_is_room(
    runs: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, rows = Ledger.add_epoch, []

    def add_epoch(self: Ledger, *args: Any, **kwargs: Any) -> bool:
        if len(rows) == 5:
            raise LedgerError("ledger.db: database or disk is full; nothing of this step was written")
        rows.append(args)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add_epoch", add_epoch)
        with pytest.raises(RunError, match=r"disk is full.*harness resume") as error:
            sweep(runs)
    assert not isinstance(error.value, Refused)
    assert epochs(runs / "swept") == 5
    resume_sweep(runs / "swept", trainer=Fake())
    assert record(runs / "swept") == whole


# -- retry ------------------------------------------------------------------------------------------------------------


def test_failed_trials_are_tried_again_and_the_others_stay(runs: Path, whole: dict[str, Any]) -> None:
    folder = sweep(runs, Fake(raises={1: 2}))
    failed = to_retry(folder, {"failed"})
    assert len(failed) == 2
    resume_sweep(folder, requeue=failed, trainer=Fake())
    with Ledger.read(folder / "ledger.db") as ledger:
        assert ledger.states() == whole["states"]
        assert [(row.key, row.epoch, row.metrics) for row in ledger.epochs()] == whole["epochs"]
        kinds = [event.kind for event in ledger.events(failed[0])]
    assert kinds == ["started", "failed", "requeued", "started", "finished"]


def test_a_retry_that_could_not_begin_is_not_forgotten(runs: Path) -> None:
    folder = sweep(runs, Fake(raises={1: 2}))
    with Ledger(folder / "ledger.db") as ledger:
        for key in to_retry(folder, {"failed"}):
            ledger.add_event("requeued", key)
    summary = resume_sweep(folder, trainer=Fake())
    assert summary
    assert summary.counts == {"finished": 4}


def test_only_what_has_failed_or_diverged_is_tried_again(runs: Path) -> None:
    folder = sweep(runs, Fake(raises={1: 2}, diverges={0: 2}))
    with Ledger.read(folder / "ledger.db") as ledger:
        key = next(key for key, state in ledger.states().items() if state == "diverged")
    assert to_retry(folder, {"diverged"}, [key[:6]]) == [key]
    result = call("retry", str(folder), key)
    assert result.exit_code == 2
    assert f"{key} is diverged: only trials that have failed are tried again" in result.stderr
    with pytest.raises(Refused, match="0 trials have a key that starts with"):
        to_retry(folder, {"failed"}, ["zz"])
    assert not events(folder, "requeued")


def test_retry_where_nothing_failed_says_so(runs: Path) -> None:
    result = call("retry", str(sweep(runs)), "--failed", "--diverged")
    assert result.exit_code == 2
    assert "no trial has diverged or failed" in result.stderr


# -- MLflow -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["locked", "read-only", "away"])
@pytest.mark.usefixtures("mirrored")
def test_a_store_that_takes_nothing_is_told_once_and_made_up_for_by_sync(
    runs: Path, trouble: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    monkeypatch.chdir(runs.parent)  # MLflow takes `file:` for a folder's name, and makes it here
    database = runs / "mlflow.db"
    uri = {
        "locked": f"sqlite:///{database}?timeout=0.1",
        "read-only": f"sqlite:///file:{database}?mode=ro&uri=true",
        "away": "sqlite:////proc/no/such/mlflow.db",
    }[trouble]
    spec, folder = SweepSpec.model_validate(SPEC), runs / "swept"
    holder = sqlite3.connect(database)
    if trouble == "locked":
        holder.execute("BEGIN EXCLUSIVE")
    summary = run_sweep(spec, folder, "local", uri, trainer=Fake())
    holder.close()
    assert summary.counts == {"finished": 4}
    assert capsys.readouterr().err.count("MLflow lags behind the ledger") == 1
    result = call("sync", str(folder), "--tracking-uri", default_uri(folder))
    assert result.exit_code == 0, result.output
    statuses, parent = mlflow_statuses(folder, "swept")
    assert (list(statuses.values()), parent) == (["FINISHED"] * 4, "FINISHED")


@pytest.mark.usefixtures("mirrored")
def test_sync_of_a_sweep_whose_driver_died_leaves_no_run_running_and_doubles_nothing(runs: Path) -> None:
    folder = sweep(runs)
    with Ledger(folder / "ledger.db") as ledger:
        key = ledger.trials()[0].key
        ledger.add_event("sweep_resumed")
        ledger.add_event("started", key, attempt=2, epoch=3, info={})
    for _ in range(2):
        assert call("sync", str(folder)).exit_code == 0
        statuses, parent = mlflow_statuses(folder, "swept")
        assert statuses.pop(key) == parent == "KILLED"
        assert list(statuses.values()) == ["FINISHED"] * 3
        client = MlflowClient(tracking_uri=default_uri(folder))
        [run] = client.search_runs(["1"], f"tags.trial_key = '{key}'")
        assert len(client.get_metric_history(run.info.run_id, "val/linear")) == 3
        statuses = {}


def test_sync_says_in_one_line_why_mlflow_takes_nothing(runs: Path) -> None:
    result = call("sync", str(sweep(runs)), "--tracking-uri", "sqlite:////proc/no/such/mlflow.db")
    assert result.exit_code == 1
    assert "MLflow does not take it" in result.stderr
    assert result.stderr.count("\n") == 1


# -- gc ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(runs: Path) -> tuple[Path, dict[str, str]]:
    """A sweep with checkpoints of a kilobyte, and its keys by what they are."""
    folder = sweep(runs, Dying(seed=1, epoch=2))  # seed 0 of both cells finished, seed 1 of the first waits
    with Ledger(folder / "ledger.db") as ledger:
        better, other, waiting, pruned = (row.key for row in sorted(ledger.trials(), key=lambda row: _place(row)))
        ledger.add_event("pruned", pruned, epoch=1)
    for key in (better, other, waiting, pruned):
        (folder / "checkpoints" / key).mkdir(exist_ok=True)
        for name in ("last.pt", "previous.pt"):
            (folder / "checkpoints" / key / name).write_bytes(b"x" * 1024)
    return folder, {"better": better, "other": other, "waiting": waiting, "pruned": pruned}


def _place(row: Any) -> tuple[int, float]:
    return row.seed, row.config["method"]["lamb"]


def left(folder: Path, keys: dict[str, str]) -> dict[str, list[str]]:
    names = {name: folder / "checkpoints" / key for name, key in keys.items()}
    return {name: sorted(p.name for p in path.glob("*.pt")) for name, path in names.items() if path.is_dir()}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "checkpoints").rglob("*") if path.is_file())


BOTH = ["last.pt", "previous.pt"]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Keep.last, {"better": ["last.pt"], "other": ["last.pt"], "waiting": BOTH}),
        (Keep.best, {"better": ["last.pt"], "other": ["last.pt"], "waiting": BOTH}),
        (Keep.none, {"waiting": BOTH}),
    ],
)
def test_checkpoints_of_ended_trials_are_deleted_and_never_those_of_trials_that_go_on(
    kept: tuple[Path, dict[str, str]], keep: Keep, expected: dict[str, list[str]]
) -> None:
    folder, keys = kept
    before = size(folder)
    freed = collect(folder, keep)
    assert left(folder, keys) == expected
    assert freed.bytes == before - size(folder) > 4000
    assert freed.trials == 3


def test_the_best_of_a_cell_is_the_one_with_the_best_metric(runs: Path) -> None:
    folder = sweep(runs)
    with Ledger.read(folder / "ledger.db") as ledger:
        last = {row.key: row.metrics["val/linear"] for row in ledger.epochs()}
        cells = [[row.key for row in ledger.assignments() if row.cell["method.lamb"] == lamb] for lamb in (0.0, 0.05)]
    for key in last:
        (folder / "checkpoints" / key / "last.pt").write_bytes(b"x")
    collect(folder, Keep.best)
    assert {path.parent.name for path in folder.glob("checkpoints/*/last.pt")} == {
        max(keys, key=last.__getitem__) for keys in cells
    }


def test_links_are_not_followed_out_of_the_folder(kept: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, keys = kept
    precious = tmp_path / "elsewhere" / "last.pt"
    precious.parent.mkdir()
    precious.write_bytes(b"precious")
    shutil.rmtree(folder / "checkpoints" / keys["pruned"])
    (folder / "checkpoints" / keys["pruned"]).symlink_to(precious.parent)
    (folder / "checkpoints" / keys["better"] / "inner").symlink_to(precious.parent)
    result = call("gc", str(folder), "--keep", "none")
    assert result.exit_code == 0, result.output
    assert precious.read_bytes() == b"precious"
    assert f"{keys['pruned']} is a link, and was left alone" in result.stderr
    assert "of 2 trials deleted" in result.stdout


def test_at_the_end_of_a_run_pruned_trials_have_no_checkpoints(runs: Path) -> None:
    spec = {
        "nuisance": {"optimizer.lr": {"log_uniform": [1e-5, 1e-1]}},
        "arms": {"lejepa": {}},
        "base": {**SPEC["base"], "epochs": 9},
        "search": {"sampler": "random", "trials": 12},
        "stopping": {"name": "asha"},
    }
    folder = sweep(runs, **spec)
    with Ledger.read(folder / "ledger.db") as ledger:
        states = ledger.states()
    assert "pruned" in states.values()
    kept = {path.name for path in (folder / "checkpoints").iterdir()}
    assert kept == {key for key, state in states.items() if state != "pruned"}
