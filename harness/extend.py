"""`harness extend`: more seeds, more search trials or a larger budget for a sweep in its own folder.

What is there stays: every place of the design keeps its trial, and new places come behind. What would change the
meaning of a cell (its config, its spaces, what selects in it) is another sweep, which can take over what is the same.

The ledger decides: an event holds the sweep before and after, in one transaction with the new trials, and then the
resolved file is replaced. A driver that dies between the two leaves the file to whoever opens the folder next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.attempt import TrainerFactory, lejepa_trainer
from harness.folder import EXTENDED, Refused, opened, replace_spec
from harness.ledger import LedgerError
from harness.record import record
from harness.resume import change, changes_since, go_on, means_for
from harness.source import SpecError
from harness.spec import STUDY_SEEDS, SweepSpec, load_sweep
from harness.trials import enumerate_trials

if TYPE_CHECKING:
    from harness.drive import RunSummary

_FREE = ("question", "rope", "contrast", "budget")  # what no trial depends on


def extend_sweep(
    folder: Path,
    overrides: Sequence[str],
    seeds: int | None = None,
    trials: int | None = None,
    executor: str | None = None,
    tracking_uri: str | None = None,
    command: Sequence[str] = (),
    accept_code_change: bool = False,
    trainer: TrainerFactory = lejepa_trainer,
    reuse: Sequence[Path] = (),
) -> RunSummary:
    """Add to a sweep that has finished or was interrupted, and go on with it.

    overrides: `a.b=c`, laid over the resolved sweep. seeds: of every cell and confirmation, trials: of every study, in
    all. The others as in `resume_sweep`. Raises Refused where nothing was written, RunError where it had to stop.
    """
    folder = Path(folder).absolute()
    with opened(folder) as (spec, ledger):
        new = extended(folder, spec, [*_wider(folder, spec, seeds, trials), *overrides])
        means = means_for(folder, spec, ledger, executor, tracking_uri, trainer, reuse)
        changes = changes_since(folder, ledger, accept_code_change)
        before, after = (folder / "sweep.yaml").read_text(encoding="utf-8"), new.to_yaml()
        changes += [(EXTENDED, {"before": before, "after": after, "command": list(command)})]
        try:
            with ledger.transaction():
                change(ledger, changes)
                record(ledger, enumerate_trials(new, means.fingerprint))
        except LedgerError as error:
            raise Refused(str(error)) from error
        replace_spec(folder, after)
        return go_on(new, ledger, means, command)


def extended(folder: Path, spec: SweepSpec, overrides: Sequence[str]) -> SweepSpec:
    """The sweep with overrides laid over it. Raises Refused where that is not the same sweep with more in it."""
    try:
        new = load_sweep(folder / "sweep.yaml", None, overrides)
    except SpecError as error:
        raise Refused(str(error)) from error
    if new == spec:
        raise Refused(f"{folder}: the sweep has all of this; `harness resume {folder}` goes on with it")
    if wrong := _other(spec, new):
        sets = " ".join(f"--set '{override}'" for override in overrides)
        raise Refused(
            f"{folder}: {wrong}. That is another sweep; `harness run {folder / 'sweep.yaml'} --set name=OTHER {sets} "
            f"--reuse {folder}` runs it and takes over what is the same"
        )
    return new


def _other(old: SweepSpec, new: SweepSpec) -> str:
    """What makes the new one another sweep; empty where it only has more."""
    if new.seeds[: len(old.seeds)] != old.seeds:
        return f"seeds {list(new.seeds)} do not begin with {list(old.seeds)}, which are trained"
    if old.confirm and (lacking := _less(old, new)):
        return lacking
    for name in ("trials", "studies"):
        before, after = getattr(old.search, name) or 0, getattr(new.search, name) or 0
        if after < before:
            return f"search.{name} would be {after}, and {before} are planned already"
    was, would = _fixed(old), _fixed(new)
    changed = [key for key in was if was[key] != would[key]]
    return f"{changed[0]} would change what its trials are, or how they are judged" if changed else ""


def _less(old: SweepSpec, new: SweepSpec) -> str:
    if old.confirm is None or new.confirm is None:
        return "confirm would be taken back"
    before, after = old.confirm.seeds, new.confirm.seeds
    if after[: len(before)] != before:
        return f"confirm.seeds {list(after)} do not begin with {list(before)}, which are trained"
    if new.confirm.top < old.confirm.top:
        return f"confirm.top would be {new.confirm.top}, and {old.confirm.top} are confirmed"
    return ""


def _fixed(spec: SweepSpec) -> dict[str, Any]:
    """What must not change."""
    kept = spec.model_dump(mode="json", exclude={*_FREE, "seeds", "confirm"})
    for part, free in (("search", ("trials", "studies")), ("pool", ("max_concurrent",))):
        kept[part] = {key: value for key, value in kept[part].items() if key not in free}
    return kept


def _wider(folder: Path, spec: SweepSpec, seeds: int | None, trials: int | None) -> list[str]:
    """Overrides for so many seeds and search trials in all."""
    found = []
    if seeds is not None:
        known = {"seeds": spec.seeds} | ({"confirm.seeds": spec.confirm.seeds} if spec.confirm else {})
        if all(len(before) >= seeds for before in known.values()):
            raise Refused(f"{folder}: {seeds} seeds are no more than the {len(spec.seeds)} that it has; give how many "
                          f"it is to have in all")  # fmt: skip
        found += [f"{key}={_more(before, seeds)}" for key, before in known.items() if len(before) < seeds]
    if trials is not None:
        if not any(arm.nuisance for arm in spec.arms.values()):
            raise Refused(f"{folder}: nothing is searched, so there are no search trials; give --seeds")
        found.append(f"search.trials={trials}")
    return found


def _more(seeds: Sequence[int], n: int) -> list[int]:
    """The seeds, and the smallest others, n in all."""
    others = (seed for seed in range(STUDY_SEEDS) if seed not in seeds)
    return [*seeds, *(next(others) for _ in range(n - len(seeds)))]
