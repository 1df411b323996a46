"""All that is needed to run it again: code, data, machine, seeds, commands, trial keys."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from reports.content import Block, Code, Prose, Section, Table, Value, plain
from reports.evidence import Study
from reports.wording import count, listing, name_text, value_text

_MOST_KEYS = 400  # rows of trials shown; the CSV has all


def section(study: Study) -> Section:
    blocks: list[Block] = [_provenance(study), _commands(study), *_trials(study)]
    return Section("reproduce", "Run it again", blocks)


def _provenance(study: Study) -> Table:
    environment = study.sweep.environment
    trials = study.sweep.trials.drop_duplicates("key")
    rows: list[tuple[str, str]] = [
        ("commit", _commit(environment.get("git"))),
        ("trainer's code", _hashes(trials["code"].tolist())),
        ("data", _hashes(trials["data"].tolist())),
        ("seeds", listing([str(seed) for seed in sorted(trials["seed"].dropna().astype(int).unique())][:40])),
        ("processor", f"{environment.get('cpu', 'unknown')}, {environment.get('cores', '?')} cores, "
                      f"{environment.get('memory_gib', '?')} GiB"),
        ("GPUs", listing([name_text(gpu) for gpu in environment.get("gpus") or []]) or "none"),
        ("executor", f"{environment.get('executor', '?')}, {_pairs(environment.get('pool') or {})}"),
        ("python", f"{environment.get('python', '?')} on {environment.get('platform', '?')}"),
        ("packages", _pairs(environment.get("packages") or {})),
        *_observed(study),
        ("MLflow", _mlflow(study)),
        ("created", str(environment.get("created", "unknown"))),
    ]  # fmt: skip
    return Table("provenance", "Where the numbers come from.", ["what", "value"],
                 [[Value(what, what, strong=True), plain(name_text(text))] for what, text in rows])  # fmt: skip


def _mlflow(study: Study) -> str:
    """Where the same trials stand in MLflow: by name and tag, as only the server knows its own ids."""
    uri = study.sweep.environment.get("tracking_uri")
    where = name_text(uri) if uri else "mlflow.db beside the sweep's folder (harness ui shows it)"
    return f'experiment {study.sweep.name} in {where}; a run per trial, found by tags.trial_key = "KEY"'


def _commit(git: dict[str, Any] | None) -> str:
    if not git:
        return "not run from a git checkout"
    dirty = f", with uncommitted changes (sha256 of the diff {git.get('diff')})" if git.get("dirty") else ", clean"
    return f"{git.get('sha')}{dirty}"


def _hashes(values: list[str]) -> str:
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return str(counts[0][0])
    return listing([f"{value} ({count(n, 'trial')})" for value, n in counts[:6]])


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value_text(value)}" for name, value in values.items() if value is not None)


def _observed(study: Study) -> list[tuple[str, str]]:
    """What the trials themselves reported: device, threads, torch."""
    seen: dict[str, Counter[str]] = {}
    for event in study.sweep.events:
        if event.kind in ("finished", "pruned") and isinstance(event.payload.get("info"), dict):
            for name in ("device", "threads", "torch", "probe_protocol"):
                if name in event.payload["info"]:
                    seen.setdefault(name, Counter())[value_text(event.payload["info"][name])] += 1
    return [
        (
            f"{name.replace('_', ' ')} in the trials",
            listing([f"{value} ({count(n, 'trial')})" for value, n in values.most_common(4)]),
        )
        for name, values in seen.items()
    ]


def _commands(study: Study) -> Code:
    folder = folder_text(study)
    given = study.sweep.environment.get("command") or ["harness", "run", f"{folder}/sweep.yaml"]
    started = [event for event in study.sweep.events if event.key is None and event.kind == "sweep_started"]
    if started and started[-1].payload.get("command"):
        given = started[-1].payload["command"]
    lines = [given if isinstance(given, str) else shlex.join(str(part) for part in given), f"harness report {folder}"]
    return Code("The command that ran, and the one that makes this report.", "\n".join(lines))


def folder_text(study: Study) -> str:
    """The folder as it was given, so that commands work from where the report was asked for; a whole path below that
    place is cut to what lies below."""
    folder, here = study.sweep.folder, Path.cwd()
    return (folder.relative_to(here) if folder.is_relative_to(here) else folder).as_posix()


def _trials(study: Study) -> list[Block]:
    trials = study.sweep.trials
    names = ["key", "arm", *study.sweep.factors, "purpose", "seed", "state", "outcome", "done", "attempts", "seconds",
             *dict.fromkeys([study.metric, study.judge])]  # fmt: skip
    frame = trials.drop_duplicates(["key", "arm", "cell", "purpose"])[list(dict.fromkeys(names))]
    shown = frame.head(_MOST_KEYS)
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    caption = f"Trials by key: {count(len(shown), 'row')} of {len(frame):,}."
    blocks: list[Block] = [Table("trials", caption, [name_text(name) for name in frame.columns], rows)]
    if len(frame) > len(shown):
        blocks.append(Prose(["The whole list is in tables/trials-all.csv."]))
    return blocks


def _cell(value: Any) -> Value:
    if value is None or value != value:
        return Value(None, "—", tone="muted")
    if isinstance(value, float):
        return plain(value, f"{value:.4g}")
    return plain(value.item() if hasattr(value, "item") else value, value_text(value))
