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
from harness.budget import EVENT as BUDGET_SPENT
from harness.drive import Means, RunSummary, drive
from harness.folder import EXTENDED, Refused, environment_of, is_over, opened
from harness.importance import weigh
from harness.ledger import AssignmentRow, Ledger, LedgerError, canonical, remedy
from harness.losses import lost
from harness.mlflow_store import uri_of
from harness.pool import PoolError
from harness.recommend import recommend
from harness.reuse import ReuseError, library
from harness.spec import SweepSpec
from harness.trials import Fingerprint, TrialSpec, code_hash, data_of, enumerate_trials
from lejepa.config import TrainConfig

Change = tuple[str, dict[str, Any]]  # an event of the sweep: kind and payload


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
    folder, requeue = Path(folder).absolute(), list(requeue)
    with opened(folder) as (spec, ledger):
        _refuse_losses(folder, ledger)
        if is_over(ledger) and not requeue:
            weigh(spec, ledger)  # a sweep that ended before the ledger kept it
            recommend(spec, ledger)
            return None
        means = means_for(folder, spec, ledger, executor, tracking_uri, trainer, reuse)
        changes = changes_since(folder, ledger, accept_code_change)
        with ledger.transaction():
            change(ledger, changes)
            for key in requeue:
                ledger.add_event("requeued", key)
        return go_on(spec, ledger, means, command)


def means_for(
    folder: Path,
    spec: SweepSpec,
    ledger: Ledger,
    executor: str | None,
    tracking_uri: str | None,
    trainer: TrainerFactory,
    reuse: Sequence[Path],
) -> Means:
    """With what a sweep goes on, where not given as in its run. Refused where its data are not those of the run, or its
    ledger is not whole.
    """
    from lejepa.data import fingerprint  # torch

    _refuse_losses(folder, ledger)

    try:
        known = library([*map(Path, reuse)], folder)
    except ReuseError as error:
        raise Refused(f"--reuse: {error}") from error
    where = executor or environment_of(folder).get("executor", "ray")
    means = Means(where, trainer, cache(fingerprint), uri_of(folder, tracking_uri), known)
    _check_data(folder, spec, ledger, means.fingerprint)
    return means


def changes_since(folder: Path, ledger: Ledger, accept_code_change: bool) -> list[Change]:
    """What is not as it was when the sweep began. Refused where it matters and was not accepted."""
    return [*_code_change(folder, ledger, accept_code_change), *_torch_change(ledger, environment_of(folder))]


def change(ledger: Ledger, changes: Sequence[Change]) -> None:
    for kind, payload in changes:
        ledger.add_event(kind, **payload)


def go_on(spec: SweepSpec, ledger: Ledger, means: Means, command: Sequence[str]) -> RunSummary:
    """Drive what is left of a sweep. Raises Refused, RunError."""
    resumed = {"command": list(command), "pid": os.getpid(), "executor": means.executor, "torch": _torch()}
    try:
        return drive(spec, ledger, means, resumed)
    except PoolError as error:
        raise Refused(str(error)) from error


def why_over(folder: Path) -> str:
    """Why there is nothing to do for a resume, and what there may be to do instead."""
    with Ledger.read(folder / "ledger.db") as ledger:
        last = [event for event in ledger.events() if event.kind in (BUDGET_SPENT, EXTENDED, "requeued")]
        waiting = sum(state == "waiting" for state in ledger.states().values())
    if not last or last[-1].kind != BUDGET_SPENT:
        return (
            f"{folder}: the sweep has finished, there is nothing to do; `harness retry` tries failed trials, `harness "
            f"extend` adds seeds or trials"
        )
    name, limit = last[-1].payload["budget"], last[-1].payload["limit"]
    return (
        f"{folder}: budget.{name} is used, and {waiting} trials wait; `harness extend {folder} --set budget.{name}=N` "
        f"goes on, N above {limit:g}"
    )


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


def _refuse_losses(folder: Path, ledger: Ledger) -> None:
    """What is left of a ledger is not the sweep that was begun: to finish over it would pass it off as that."""
    try:
        missing = lost(ledger)
    except LedgerError as error:
        raise Refused(str(error)) from error
    if missing:
        raise Refused(f"{folder}: rows of its ledger are lost: {'; '.join(missing)}; {remedy(folder)}")


def _check_data(folder: Path, spec: SweepSpec, ledger: Ledger, fingerprint: Fingerprint) -> None:
    """The same images and splits as when the sweep began, and hence the same trials in the same places."""
    from lejepa.data import DataError

    try:
        for before, row in {row.data: row for row in ledger.trials()}.items():
            config = TrainConfig.model_validate(row.config)
            if (now := data_of(config, fingerprint)) != before:
                names = ", ".join([config.data.name, *config.probe.transfer])
                raise Refused(
                    f"{folder}: data {names} are not those that the sweep began with (fingerprint {before}, now "
                    f"{now}), and trials on other data do not compare; put the old ones back, or begin a new sweep"
                )
        planned = {_place(trial): trial.key for trial in enumerate_trials(spec, fingerprint)}
    except DataError as error:
        raise Refused(f"{folder}: {error}") from error
    except ValidationError as error:
        raise Refused(f"{folder}: its trials cannot be read by this version: {error}") from error
    filled = {_place(row): row.key for row in ledger.assignments()}
    if empty := [place for place in planned if place not in filled]:
        arm, cell, study, ordinal, purpose = empty[0]
        such = f"{purpose} {ordinal} of arm {arm}, cell {cell}, study {study}"
        raise Refused(
            f"{folder}: {len(empty)} of {len(planned)} places of the design have no trial in the ledger, such as "
            f"{such}: rows are lost, and then {remedy(folder)}; or the version that began the sweep, which "
            f"environment.json names, plans otherwise, and then go on with that one"
        )
    strange = [place for place, key in planned.items() if filled[place] != key]
    if strange:
        raise Refused(
            f"{folder}: this version would train {len(strange)} trials that the sweep does not have, as a default or "
            f"the meaning of a key has changed; go on with the version that began it (environment.json names it)"
        )


def _place(filled: TrialSpec | AssignmentRow) -> tuple[str, str, int, int, str]:
    return filled.arm, canonical(filled.cell), filled.study, filled.ordinal, filled.purpose


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
