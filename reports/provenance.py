"""The trials behind the numbers, as a reader is shown them."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.content import Trial
from reports.evidence import Study
from reports.sections.reproduce import folder_text
from reports.wording import amount, factor_text, metric_text, minus, name_text, unit, value_text


def trials(study: Study, mark: str = "") -> dict[str, Trial]:
    """Every trial by its key; `mark` stands before the keys where several sweeps share a page."""
    metrics = list(dict.fromkeys([study.judge, study.metric]))
    rows = study.sweep.trials.drop_duplicates("key")
    folder = shlex.quote(folder_text(study))
    columns = ["key", "arm", "seed", "outcome", *metrics]
    return {
        f"{mark}{key}": Trial(
            str(key), folder, name_text(arm), None if seed != seed else int(seed), str(outcome),
            {metric_text(name): _shown(value, name) for name, value in zip(metrics, values, strict=True)},
            dict(settings(study.sweep.configs.get(str(key), {}))),
        )
        for key, arm, seed, outcome, *values in rows[columns].itertuples(index=False, name=None)
    }  # fmt: skip


def _shown(value: float, metric: str) -> str:
    if value is None or value != value:
        return "—"
    return minus(amount(float(value), metric)) + (f" {unit(metric)}" if unit(metric) else "")


def settings(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """A config, flat: dotted path → value as shown. The seed is no setting."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from settings(value, f"{path}{name}.")
        elif path or name != "seed":
            yield f"{path}{name}", "—" if value is None else value_text(value)


def differing(behind: Sequence[Trial]) -> list[str]:
    """Dotted paths at which the settings of some trials differ: names first, then what has a symbol, then the rest."""
    paths = dict.fromkeys(path for trial in behind for path in trial.settings)
    apart = [path for path in paths if len({trial.settings.get(path) for trial in behind}) > 1]
    return sorted(apart, key=lambda path: (not path.endswith("name"), factor_text(path) == path))


def difference_text(trial: Trial, paths: Sequence[str], most: int = 3) -> str:
    """`λ = 0.05, learning rate = 0.001`: a trial's own values where it and the others differ."""
    own = [path for path in paths if trial.settings.get(path, "—") != "—"]
    said = [f"{factor_text(path)} = {trial.settings[path]}" for path in own[:most]]
    return ", ".join([*said, f"and {len(own) - most} more"] if len(own) > most else said)
