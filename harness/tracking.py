"""The MLflow mirror: what the ledger says, written into MLflow once, late rather than never, and never in the way.

There is one mechanism: `MlflowMirror.replay(ledger)` writes what is in the ledger and not yet in MLflow. While a sweep
runs, a `MirrorThread` calls it every few seconds. Metrics carry the ledger's times, so that a replay by another process
writes the same rows, which MLflow keeps once; runs are found again by their tags.

    experiment (name of the sweep) → run of the sweep → run per trial (tags mlflow.parentRunId and trial_key)

When the sweep has ended, `publish` and `sync` add what harness/artifacts.py logs: the report, and the winner.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.address import shown, withhold
from harness.folder import RunError, opened
from harness.ledger import ENDED, AssignmentRow, EventRow, Ledger, TrialRow, canonical
from harness.mlflow_store import brief, client_of, made_up_for, search, unreachable, uri_of
from harness.resolved import read_spec
from harness.spec import SweepSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

STATUS = {
    "waiting": "KILLED",  # begun and interrupted; RUNNING again when it goes on
    "running": "RUNNING",
    "finished": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}
_SWEEP_STATUS = {
    "sweep_started": "RUNNING",
    "sweep_resumed": "RUNNING",
    "sweep_interrupted": "KILLED",
    "sweep_finished": "FINISHED",
}
_SERVER_PATIENCE, _FILE_PATIENCE = 10.0, 60.0  # seconds to close in: a server may hang, a file is slow at worst
_LONGEST_PARAM = 6000  # characters; MLflow cuts what is longer without a word
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100  # most that MLflow takes at once


def sync(folder: Path, uri: str | None = None) -> tuple[str, str]:
    """Write into MLflow what it lacks of a sweep that nobody drives, its report and its winner among it.

    The address of the store as it may be seen, and what was not logged, as it is not there. Raises Refused where there
    is no sweep, or a driver runs, which does the same by itself, or the address has to be given again; RunError where
    MLflow does not take it.
    """
    folder = folder.absolute()
    with opened(folder) as (spec, ledger):
        address = uri_of(folder, uri)
        try:
            missing = MlflowMirror(folder, spec.name, address).publish(spec, ledger)
        except Exception as error:  # a database, a server, a disk: whatever is wrong with MLflow is not the ledger's
            raise RunError(f"{folder}: MLflow does not take it: {brief(error, address)}") from error
    return shown(address), withhold(missing, address)


def publish(folder: Path, uri: str | None = None, patience: float = 60.0) -> str:
    """`sync` for who has just driven the sweep: what went wrong or is missing, in a line; empty where nothing did.

    Takes so many seconds at most, and a few where the server is down, answers nothing or with an error.
    """
    folder = folder.absolute()
    address = uri_of(folder, uri)
    again = made_up_for(folder, address)
    if any(thread.name == _name_of(folder) for thread in threading.enumerate()):
        return f"MLflow lags behind: {again}"
    if trouble := unreachable(address):
        return f"MLflow has no report and no winner: {trouble}; {again}"
    told: list[str] = []
    worker = threading.Thread(target=_publish, args=(folder, address, told), daemon=True)
    worker.start()
    worker.join(patience)
    return told[0] if told else f"MLflow took no report and no winner within {patience:g} s; {again}"


def _publish(folder: Path, uri: str, told: list[str]) -> None:
    try:
        spec = SweepSpec.model_validate(read_spec(folder))
        with Ledger.read(folder / "ledger.db") as ledger:
            told.append(withhold(MlflowMirror(folder, spec.name, uri).publish(spec, ledger), uri))
    except Exception as error:  # a database, a server, a disk: whatever is wrong with MLflow is not the ledger's
        told.append(f"MLflow does not take it: {brief(error, uri)}; {made_up_for(folder, uri)}")


class MlflowMirror:
    """One sweep in one MLflow store. Not for several threads at once; raises whatever MLflow raises.

    After an exception the next replay looks MLflow's runs up again and goes on. Runs that exist twice, as a server was
    slower than our patience with it, become one then.
    """

    abandoned = False  # nobody waits for it any more: the next call to MLflow would be one too many

    def __init__(self, folder: Path, name: str, uri: str) -> None:
        self._folder, self._name, self._uri = folder.absolute(), name, uri
        self._client: MlflowClient | None = None
        self._forget()

    def _forget(self) -> None:
        self._parent = ""  # MLflow's id of the sweep's run
        self._runs: dict[str, str] = {}  # trial key → MLflow's run id
        self._status: dict[str, str] = {}  # run id → as last written
        self._epochs: dict[str, int] = {}  # trial key → last epoch written
        self._events = 0  # id of the last event written

    def replay(self, ledger: Ledger) -> None:
        """Write what is new in the ledger since the last call; all of it in the first."""
        try:
            self._replay(ledger)
        except BaseException:
            self._forget()
            raise

    def publish(self, spec: SweepSpec, ledger: Ledger) -> str:
        """Replay, then log the report and the winner: what was not logged, and why; empty where all was."""
        from harness import artifacts

        self.replay(ledger)
        if not self._parent or self._client is None:
            return "the ledger is empty"
        place = artifacts.Place(self._client, self._experiment, self._parent, self._sweep)
        return artifacts.publish(place, self._folder, spec, ledger)

    def _replay(self, ledger: Ledger) -> None:
        events = ledger.events()
        if not events:
            return
        # what is suggested may never start: a run would wait for it forever
        new = [event for event in events if event.id > self._events and event.kind != "suggested"]
        if not self._parent:
            self._connect(events[0])
        states = ledger.states()
        touched = {event.key for event in new if event.key} | {key for key in self._runs if states[key] == "running"}
        if new:
            self._create_runs(ledger, {event.key: event for event in reversed(new) if event.key})
        for key in sorted(touched):
            self._go_on()
            self._write_trial(ledger, key, states[key], [event for event in new if event.key == key])
        self._write_sweep([event for event in new if event.kind in _SWEEP_STATUS])
        self._events = events[-1].id

    # -- runs ---------------------------------------------------------------------------------------------------------

    def _connect(self, first: EventRow) -> None:
        """Find or make the experiment and the sweep's run, and adopt the trials' runs that are there."""
        client = self._client = self._client or client_of(self._uri)
        known = client.get_experiment_by_name(self._name)
        experiment = known.experiment_id if known else client.create_experiment(self._name, self._artifact_location())
        # the ledger's first moment tells this sweep from an older one of the same name, whose folder was deleted
        self._sweep = hashlib.sha256(canonical([self._name, first.time]).encode()).hexdigest()[:16]
        self._experiment = experiment
        for run in sorted(
            search(client, experiment, f"tags.sweep_id = '{self._sweep}'"), key=lambda run: str(run.info.run_id)
        ):
            key = run.data.tags.get("trial_key")
            if self._runs.get(key) if key else self._parent:
                client.delete_run(run.info.run_id)
                continue
            self._status[run.info.run_id] = run.info.status
            if key:
                self._runs[key] = run.info.run_id
            else:
                self._parent = run.info.run_id
        if not self._parent:
            tags = {"sweep_id": self._sweep, "sweep": self._name, "folder": str(self._folder)}
            run = client.create_run(experiment, _ms(first.time), tags, self._name)
            self._status[run.info.run_id] = "RUNNING"
            self._parent = run.info.run_id
        for file in ("sweep.yaml", "environment.json"):
            if (self._folder / file).is_file():
                client.log_artifact(self._parent, str(self._folder / file))

    def _artifact_location(self) -> str | None:
        """Beside the sweeps, where MLflow is a database file; a server has its own place."""
        if self._uri.startswith(("http:", "https:", "databricks")):
            return None
        return (self._folder.parent / "mlartifacts" / self._name).as_uri()

    def _create_runs(self, ledger: Ledger, first_events: Mapping[str, EventRow]) -> None:
        if not first_events:
            return
        places: dict[str, list[AssignmentRow]] = defaultdict(list)
        for row in ledger.assignments():
            places[row.key].append(row)
        for trial in ledger.trials():
            if trial.key in first_events:
                self._go_on()
                self._create_run(trial, places[trial.key], first_events[trial.key].time)

    def _create_run(self, trial: TrialRow, places: list[AssignmentRow], began: float) -> None:
        client = self._client
        assert client is not None
        if trial.key not in self._runs:
            tags = {"mlflow.parentRunId": self._parent, "sweep_id": self._sweep, "trial_key": trial.key}
            run = client.create_run(self._experiment, _ms(began), tags, _run_name(trial, places))
            self._runs[trial.key] = run.info.run_id
            self._status[run.info.run_id] = "RUNNING"
        elif trial.key in self._epochs:
            return  # this mirror has written what follows
        self._epochs[trial.key] = 0
        from mlflow.entities import Param, RunTag

        run_id = self._runs[trial.key]
        for batch in _batches(flatten(trial.config).items(), _BATCH_PARAMS):
            client.log_batch(run_id, params=[Param(name, value) for name, value in batch])
        facts = {
            "config_sha256": hashlib.sha256(canonical(trial.config).encode()).hexdigest(),
            "data": trial.data,
            "code": trial.code,
            **{name: ", ".join(sorted({str(getattr(p, name)) for p in places})) for name in ("arm", "purpose")},
            "cell": ", ".join(sorted({canonical(place.cell) for place in places})),
        }
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in facts.items()])
        client.log_dict(run_id, trial.config, "config.json")

    # -- what happened ------------------------------------------------------------------------------------------------

    def _write_trial(self, ledger: Ledger, key: str, state: str, events: list[EventRow]) -> None:
        from mlflow.entities import Metric

        client, run_id = self._client, self._runs[key]
        assert client is not None
        epochs = [row for row in ledger.epochs(key) if row.epoch > self._epochs[key]]
        metrics = [
            Metric(name, value, _ms(row.time), row.epoch) for row in epochs for name, value in row.metrics.items()
        ]
        last = epochs[-1].epoch if epochs else self._epochs[key]
        for event in events:
            if event.kind == "finished":
                metrics += _test_metrics(event, last)
        for batch in _batches(metrics, _BATCH_METRICS):
            client.log_batch(run_id, metrics=batch)
        self._epochs[key] = last
        ends = [event.time for event in events if event.kind in ENDED or event.kind == "interrupted"]
        self._set_status(run_id, STATUS[state], ends[-1] if ends else None, state)

    def _go_on(self) -> None:
        if self.abandoned:
            raise TimeoutError("it took too long")

    def _write_sweep(self, events: list[EventRow]) -> None:
        if events:
            self._set_status(self._parent, _SWEEP_STATUS[events[-1].kind], events[-1].time, events[-1].kind)

    def _set_status(self, run_id: str, status: str, at: float | None, state: str) -> None:
        client = self._client
        assert client is not None
        if status == "RUNNING":
            if self._status[run_id] != status:
                client.update_run(run_id, status)
        elif at is not None:
            client.set_terminated(run_id, status, _ms(at))
        else:
            return  # the event of that end came after `events` was read: next time
        client.set_tag(run_id, "state", state)
        self._status[run_id] = status


class MirrorThread:
    """Replays a sweep's ledger in the background, until closed. MLflow may be down: then it lags, and says so once."""

    def __init__(self, folder: Path, name: str, uri: str, every: float = 2.0) -> None:
        self._folder, self._uri, self._every = folder, uri, every
        self._patience = _SERVER_PATIENCE if uri.startswith(("http:", "https:")) else _FILE_PATIENCE
        self._mirror = MlflowMirror(folder, name, uri)
        self._closing = threading.Event()
        self.trouble: str | None = None  # what is wrong, as long as the mirror lags
        self._thread = threading.Thread(target=self._run, name=_name_of(folder), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float | None = None) -> None:
        """Replay what is left, for at most so many seconds; 10 with a server, 60 with a file where not given."""
        timeout = self._patience if timeout is None else timeout
        self._closing.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._mirror.abandoned = True
            self.trouble = self.trouble or f"MLflow did not take everything within {timeout:g} s"

    def _run(self) -> None:
        pause = self._every
        while not self._closing.wait(pause):
            pause = self._every if self._try() else min(4 * pause, 60.0)
        self._try()

    def _try(self) -> bool:
        try:
            with Ledger.read(self._folder / "ledger.db") as ledger:
                self._mirror.replay(ledger)
        except Exception as error:  # a database, a server, a disk: whatever is wrong with MLflow, the sweep goes on
            self.trouble = brief(error, self._uri)
            return False
        self.trouble = None
        return True


def _name_of(folder: Path) -> str:
    return f"mlflow-mirror of {folder.absolute()}"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted path → value as text, for MLflow's params; what MLflow would cut ends in "…"."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        path = re.sub(r"[^\w.\- :/]", "_", f"{prefix}{name}")
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[path] = text if len(text) <= _LONGEST_PARAM else text[: _LONGEST_PARAM - 1] + "…"
    return flat


def _test_metrics(event: EventRow, epoch: int) -> list[Metric]:
    from mlflow.entities import Metric

    test = event.payload.get("test", {})
    return [Metric(name, value, _ms(event.time), epoch) for name, value in test.items() if math.isfinite(value)]


def _run_name(trial: TrialRow, places: list[AssignmentRow]) -> str:
    if not places:
        return trial.key
    values = [f"{path.rpartition('.')[2]}={value}" for path, value in places[0].cell.items()]
    return " ".join([places[0].arm, *values, f"seed={trial.seed}"])


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
