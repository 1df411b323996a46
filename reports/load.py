"""From a sweep's folder to tidy frames. Nothing is computed here that the ledger does not say."""

import json
import os
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.ledger import AssignmentRow, EventRow, Ledger, LedgerError, TrialRow, canonical
from harness.losses import lost_within
from harness.resolved import read_spec
from reports import notebook

EVIDENCE = frozenset({"evidence", "floor", "confirm"})  # search trials chose something, so they prove nothing


_TRIAL_COLUMNS = frozenset({
    "key", "arm", "cell", "study", "ordinal", "purpose", "seed", "planned", "state", "attempts", "data", "code",
    "protocol", "reused", "method", "encoder", "variant", "done", "seconds", "outcome",
})  # fmt: skip


class LoadError(Exception):
    """The folder is no sweep's folder; the message says what is missing."""


@dataclass(frozen=True, repr=False)
class Sweep:
    """A sweep as recorded.

    `trials`: one row per place of the design (a trial that fills two places has two rows):
        key, arm, cell (canonical JSON), one column per scientific factor (dotted path), study, ordinal, purpose,
        seed, planned (epochs), done (epochs), state, outcome, attempts, seconds (device-seconds), data, code,
        protocol (version of the probe), reused (the earlier sweep that it is from, or None), variant (the config
        without its seed, as JSON), the last value of every metric, and every test metric.
    `epochs`: one row per (key, epoch): time (unix seconds), every metric, every timing as `timing/…`.
    """

    folder: Path
    spec: dict[str, Any]
    environment: dict[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame
    events: list[EventRow]
    configs: dict[str, dict[str, Any]]  # key → resolved config
    lost: tuple[str, ...] = ()  # what the ledger should have of its trials and has not, in words

    def __repr__(self) -> str:
        arms = ", ".join(str(arm) for arm in self.trials["arm"].unique())
        return f"<Sweep {self.name}: {self.trials['key'].nunique():,} trials, {len(self.epochs):,} epochs; {arms}>"

    def _repr_html_(self) -> str:
        return notebook.sweep(repr(self), str(self.spec.get("question") or ""), self.trials)

    @property
    def factors(self) -> list[str]:
        """Scientific factors (dotted paths), in the order in which the design names them."""
        named = [path for cell in self.trials["cell"].unique() for path in json.loads(cell)]
        return list(dict.fromkeys(named))

    @property
    def name(self) -> str:
        return str(self.spec.get("name", self.folder.name))

    def epochs_of(self, keys: Iterable[str]) -> pd.DataFrame:
        """The epochs of some trials, without a pass over all of them."""
        ranges = [np.arange(*self._spans[key]) for key in keys if key in self._spans]
        return self.epochs.iloc[np.concatenate(ranges) if ranges else []]

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int]]:
        """Key → first row and end of its block in `epochs`, where every trial's rows are neighbours."""
        codes = self.epochs["key"].cat.codes.to_numpy()
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        ends = np.append(starts[1:], len(codes))
        names = self.epochs["key"].cat.categories
        return {str(names[codes[start]]): (int(start), int(end)) for start, end in zip(starts, ends, strict=True)}


def load(folder: str | os.PathLike[str]) -> Sweep:
    """Read `folder`. Raises LoadError where sweep.yaml is missing, harness.ledger.LedgerError on a broken ledger or
    another file that cannot be read.
    """
    folder = Path(folder)
    if not (folder / "sweep.yaml").is_file():
        raise LoadError(f"{folder}: there is no sweep.yaml here; name the folder of a sweep, such as runs/quickstart")
    environment_file = folder / "environment.json"
    environment = _environment(environment_file) if environment_file.is_file() else {}
    with Ledger.read(folder / "ledger.db") as ledger, ledger.snapshot():
        spec = read_spec(folder)
        rows, assignments, events, states = ledger.trials(), ledger.assignments(), ledger.events(), ledger.states()
        epochs, lost = _epochs_frame(ledger, [row.key for row in rows]), tuple(lost_within(ledger))
    trials = _places_frame(assignments).merge(_trials_frame(rows, events, states, epochs), on="key", how="left")
    configs = {row.key: row.config for row in rows}
    return Sweep(folder, spec, environment, trials, epochs, events, configs, lost)


def _environment(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"{file}: cannot be read ({error}); put back a copy of it") from error
    if not isinstance(found, dict):
        raise LedgerError(f"{file}: holds no mapping of keys; put back a copy of it")
    return found


def _places_frame(assignments: list[AssignmentRow]) -> pd.DataFrame:
    """One row per place of the design; a factor that is named like another column (`encoder`) gets none of its own."""
    rows = [
        {"key": a.key, "arm": a.arm, "cell": canonical(a.cell), "study": a.study, "ordinal": a.ordinal,
         "purpose": a.purpose} | {path: value for path, value in a.cell.items() if path not in _TRIAL_COLUMNS}
        for a in assignments
    ]  # fmt: skip
    columns = None if rows else ["key", "arm", "cell", "study", "ordinal", "purpose"]
    return pd.DataFrame(rows, columns=columns).astype({"key": object})


def _epochs_frame(ledger: Ledger, keys: list[str]) -> pd.DataFrame:
    """Column by column and trial by trial: a million rows never exist as dicts at the same time."""
    code, number, at = array("q"), array("q"), array("d")
    where: dict[str, array[int]] = defaultdict(lambda: array("q"))
    values: dict[str, array[float]] = defaultdict(lambda: array("d"))
    for index, key in enumerate(keys):
        for row in ledger.epochs(key):
            place = len(code)
            code.append(index)
            number.append(row.epoch)
            at.append(row.time)
            for name, value in row.metrics.items():
                where[name].append(place)
                values[name].append(value)
            for name, value in row.timing.items():
                where[f"timing/{name}"].append(place)
                values[f"timing/{name}"].append(value)
    columns: dict[str, Any] = {
        "key": pd.Categorical.from_codes(np.asarray(code, dtype=np.int64), categories=pd.Index(keys, dtype=object)),
        "epoch": np.asarray(number, dtype=np.int64),
        "time": np.asarray(at),
    }
    for name in sorted(values):
        column = np.full(len(code), np.nan)
        column[np.asarray(where[name])] = np.asarray(values[name])
        columns[name] = column
    return pd.DataFrame(columns)


def _trials_frame(
    rows: list[TrialRow], events: Iterable[EventRow], states: Mapping[str, str], epochs: pd.DataFrame
) -> pd.DataFrame:
    attempts: dict[str, int] = defaultdict(int)
    tests: dict[str, dict[str, float]] = {}
    protocols: dict[str, str | None] = {}
    reused: dict[str, str | None] = {}
    for event in events:
        if event.key is not None and event.kind == "started":
            attempts[event.key] += 1
        elif event.key is not None and event.kind == "finished":
            tests[event.key] = event.payload.get("test") or {}
            protocols[event.key] = (event.payload.get("info") or {}).get("probe_protocol")
            reused[event.key] = event.payload.get("reused")
    frame = pd.DataFrame({
        "key": [row.key for row in rows],
        "seed": [row.seed for row in rows],
        "planned": [row.epochs for row in rows],
        "state": [states[row.key] for row in rows],
        "attempts": [attempts[row.key] for row in rows],
        "data": [row.data for row in rows],
        "code": [row.code for row in rows],
        "protocol": pd.Series([protocols.get(row.key) for row in rows], dtype=object),
        "reused": pd.Series([reused.get(row.key) for row in rows], dtype=object),
        "method": [row.config.get("method", {}).get("name", "") for row in rows],
        "encoder": [canonical(row.config.get("encoder", {})) for row in rows],
        "variant": [canonical({k: v for k, v in row.config.items() if k != "seed"}) for row in rows],
    })  # fmt: skip
    frame = frame.astype({"key": object}).set_index("key")
    by_key = epochs.groupby("key", observed=True)
    last = by_key.last().drop(columns=["epoch", "time"], errors="ignore")  # the last value that was measured
    last = last[[name for name in last.columns if not name.startswith("timing/")]]
    done = by_key["epoch"].count() if len(epochs) else pd.Series(dtype=int)
    seconds = by_key["timing/seconds"].sum() if "timing/seconds" in epochs else pd.Series(dtype=float)
    frame["done"] = done.reindex(frame.index).fillna(0).astype(int).to_numpy()
    frame["seconds"] = seconds.reindex(frame.index).to_numpy(dtype=float)
    test = pd.DataFrame.from_dict(tests, orient="index").reindex(frame.index)
    last.index = pd.Index(last.index.astype(str), name="key")
    frame = pd.concat([frame, last.reindex(frame.index), test], axis=1)
    collapsed = frame["diag/collapsed"].eq(1.0) if "diag/collapsed" in frame else pd.Series(False, index=frame.index)
    trained = ~frame["method"].isin(["random", "pixels"])
    frame["outcome"] = frame["state"].where(frame["state"] != "finished", "trained")
    frame.loc[(frame["state"] == "finished") & collapsed & trained, "outcome"] = "collapsed"
    return frame.rename_axis("key").reset_index()
