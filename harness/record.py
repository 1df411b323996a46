"""Trials in the ledger: written down, and read back."""

from collections.abc import Sequence

from harness.ledger import Ledger
from harness.trials import TrialSpec, code_hash
from lejepa.config import TrainConfig


def record(ledger: Ledger, trials: Sequence[TrialSpec]) -> None:
    """Write down trials and the places that they fill, all or none."""
    code = code_hash()
    with ledger.transaction():
        for trial in trials:
            config = trial.config.model_dump(mode="json")
            ledger.add_trial(trial.key, config, trial.config.seed, trial.length, trial.data, code)
            ledger.assign(trial.arm, trial.cell, trial.study, trial.ordinal, trial.purpose, trial.key)


def recorded(ledger: Ledger) -> list[TrialSpec]:
    """The trial in every place of the design that is filled, in the order in which the places were filled.

    A trial that fills several places is in the list once for each.
    """
    rows = {row.key: row for row in ledger.trials()}
    configs = {key: TrainConfig.model_validate(row.config) for key, row in rows.items()}
    return [
        TrialSpec(place.arm, place.cell, place.study, place.ordinal, place.purpose, configs[place.key], row.data)
        for place in ledger.assignments()
        if (row := rows[place.key])
    ]


def once(trials: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Each key once, as the first place that asked for it."""
    return list({trial.key: trial for trial in reversed(trials)}.values())[::-1]
