"""`harness resume`: a folder as whatever stopped its driver left it; checked against today's code and data; then the
driver. Finished, pruned, diverged and failed trials stay; the others go on from their own checkpoints.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.attempt import TrainerFactory, lejepa_trainer
from harness.drive import Means, RunSummary, drive
from harness.folder import MILESTONES, Refused, environment_of, opened
from harness.importance import weigh
from harness.ledger import Ledger, LedgerError
from harness.pool import PoolError
from harness.reuse import ReuseError, library
from harness.spec import SweepSpec
from harness.tracking import uri_of
from harness.trials import Fingerprint, code_hash, enumerate_trials
from lejepa.config import TrainConfig


def resume_sweep(
    folder: Path,
    executor: str | None = None,
    tracking_uri: str | None = None,
    command: Sequence[str] = (),
    accept_code_change: bool = False,
    requeue: Iterable[str] = (),
    trainer: TrainerFactory = lejepa_trainer,
    reuse: Sequence[Path] = (),
) -> RunSummary | None:
    """Go on with a sweep; None where there was nothing to do.

    executor, tracking_uri: as in the run, where not given. requeue: keys of failed or diverged trials that are tried
    again. reuse: as in `run_sweep`. Raises Refused where nothing was started: no sweep, another driver, changed code or
    data, no such pool; RunError where the sweep had to stop again.
    """
    from lejepa.data import fingerprint  # torch

    folder, requeue = Path(folder).absolute(), list(requeue)
    with opened(folder) as (spec, ledger):
        environment = environment_of(folder)
        if _is_over(ledger) and not requeue:
            weigh(spec, ledger)  # a sweep that ended before the ledger kept it
            return None
        try:
            known = library([*map(Path, reuse)])
        except ReuseError as error:
            raise Refused(f"--reuse: {error}") from error
        where = executor or environment.get("executor", "ray")
        means = Means(where, trainer, cache(fingerprint), uri_of(folder, tracking_uri), known)
        _check_data(folder, spec, ledger, means.fingerprint)
        changes = [*_code_change(folder, ledger, accept_code_change), *_torch_change(ledger, environment)]
        with ledger.transaction():
            for kind, payload in changes:
                ledger.add_event(kind, **payload)
            for key in requeue:
                ledger.add_event("requeued", key)
        resumed = {"command": list(command), "pid": os.getpid(), "executor": means.executor, "torch": _torch()}
        try:
            return drive(spec, ledger, means, resumed)
        except PoolError as error:
            raise Refused(str(error)) from error


def _is_over(ledger: Ledger) -> bool:
    """Finished, and no trial was queued again since."""
    kinds = [event.kind for event in ledger.events() if event.kind in (*MILESTONES, "requeued")]
    return kinds[-1:] == ["sweep_finished"]


def to_retry(folder: Path, states: Collection[str], prefixes: Sequence[str] = ()) -> list[str]:
    """Keys of the trials in these states; with prefixes, only of those whose key starts with one. Raises Refused."""
    try:
        with Ledger.read(folder / "ledger.db") as ledger:
            if not prefixes:
                return [key for key, state in ledger.states().items() if state in states]
            keys, now = [ledger.trial(prefix).key for prefix in prefixes], ledger.states()
    except LedgerError as error:
        raise Refused(str(error)) from error
    if wrong := [key for key in keys if now[key] not in states]:
        raise Refused(f"{wrong[0]} is {now[wrong[0]]}: only trials that have {' or '.join(states)} are tried again")
    return list(dict.fromkeys(keys))


Change = tuple[str, dict[str, Any]]  # an event of the sweep: kind and payload


def _check_data(folder: Path, spec: SweepSpec, ledger: Ledger, fingerprint: Fingerprint) -> None:
    """The same images and splits as when the sweep began, and hence the same trials."""
    from lejepa.data import DataError

    try:
        for data, before in {(TrainConfig.model_validate(row.config).data, row.data) for row in ledger.trials()}:
            if (now := fingerprint(data)) != before:
                raise Refused(
                    f"{folder}: data {data.name} are not those that the sweep began with (fingerprint {before}, now "
                    f"{now}), and trials on other data do not compare; put the old ones back, or begin a new sweep"
                )
        strange = {trial.key for trial in enumerate_trials(spec, fingerprint)} - ledger.states().keys()
    except DataError as error:
        raise Refused(f"{folder}: {error}") from error
    except ValidationError as error:
        raise Refused(f"{folder}: its trials cannot be read by this version: {error}") from error
    if strange:
        raise Refused(
            f"{folder}: this version would train {len(strange)} trials that the sweep does not have, as a default or "
            f"the meaning of a key has changed; go on with the version that began it (environment.json names it)"
        )


def _code_change(folder: Path, ledger: Ledger, accepted: bool) -> list[Change]:
    changes = [event.payload["new"] for event in ledger.events() if event.kind == "code_changed"]
    before, now = ([row.code for row in ledger.trials()[:1]] + changes)[-1], code_hash()
    if before == now:
        return []
    if not accepted:
        raise Refused(
            f"{folder}: the trainer's code has changed since (lejepa/ was {before[:12]}, is {now[:12]}), so new epochs "
            f"may not compare with old ones; go back to that code, or add --accept-code-change, which is recorded"
        )
    return [("code_changed", {"old": before, "new": now})]


def _torch_change(ledger: Ledger, environment: Mapping[str, Any]) -> list[Change]:
    """Another torch is no other code, but it may round differently."""
    known = [environment.get("packages", {}).get("torch")]
    known += [event.payload["torch"] for event in ledger.events() if event.kind == "sweep_resumed"]
    if known[-1] in (None, _torch()):
        return []
    text = f"torch was {known[-1]}, is {_torch()}: trials that go on may differ in their last bits from unbroken ones"
    print(text, file=sys.stderr)
    return [("note", {"text": text})]


def _torch() -> str:
    return metadata.version("torch")
