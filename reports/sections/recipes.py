"""Arms of `predictive` as recipes: which heuristics are on, and which arm each was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reports.evidence import Arm, Cell, Contrast, Study
from reports.wording import name_text, value_text

SWITCHES = {
    "ema_teacher": "EMA teacher", "stop_gradient": "stop-gradient", "predictor": "predictor",
    "normalisation": "normalisation", "negatives": "negatives", "variance_covariance": "variance + covariance",
    "sigreg": "SIGReg", "ema_schedule": "momentum schedule", "wd_schedule": "weight-decay schedule",
}  # fmt: skip
_OFF = {"normalisation": "none", "ema_schedule": "constant"}  # others: null or false
_IMPLIES = {"ema_teacher": {"stop_gradient"}, "ema_schedule": {"ema_teacher", "stop_gradient"}}


@dataclass(frozen=True)
class Recipe:
    """An arm of `predictive` with its switches, and the arm that it was made from."""

    arm: Arm
    cell: Cell
    settings: Mapping[str, Any]  # switch → value, of those that are on
    seconds: float | None  # of training, median of its epochs: the first may wait for others

    @property
    def name(self) -> str:
        return name_text(self.arm.name)

    @cached_property
    def alone(self) -> str | None:
        """The only switch that is on, not counting what it brings along."""
        own = [name for name in self.settings if not any(name in _IMPLIES.get(o, ()) for o in self.settings)]
        return own[0] if len(own) == 1 else None

    @property
    def collapses(self) -> bool:
        return self.cell.planned > 0 and self.cell.count("collapsed") + self.cell.count("diverged") == self.cell.planned

    @property
    def trains(self) -> bool:
        return 0 < self.cell.planned == self.cell.count("trained")

    @property
    def outcomes(self) -> list[str]:
        """One word a seed, in the order of the seeds."""
        return [str(outcome) for outcome in self.cell.rows["outcome"]]


def covers(study: Study, encoder: str) -> bool:
    """Whether the switch matrix shows an encoder's arms: they are all `predictive`, and more than one."""
    trained = [arm for arm in study.within(encoder) if not arm.is_floor]
    return len(trained) > 1 and all(arm.method == "predictive" for arm in trained)


def recipes(study: Study, encoder: str) -> list[Recipe]:
    """The predictive arms of an encoder that have evidence, as the sweep names them."""
    found = []
    for arm in study.within(encoder):
        cell = arm.selected or next((cell for cell in arm.cells if len(cell.rows)), None)
        if arm.method == "predictive" and cell is not None:
            method = study.sweep.configs[cell.keys[0]]["method"]
            settings = {name: value for name, value in (method.get("heuristics") or {}).items() if _is_on(name, value)}
            ordered = {name: settings[name] for name in SWITCHES if name in settings}
            found.append(Recipe(arm, cell, ordered, _seconds(study, cell)))
    return found


def _is_on(name: str, value: Any) -> bool:
    return value is not None and value is not False and value != _OFF.get(name)


def _seconds(study: Study, cell: Cell) -> float | None:
    epochs = study.sweep.epochs_of(cell.keys)
    column = "timing/train_seconds" if "timing/train_seconds" in epochs else "timing/seconds"
    return float(epochs[column].median()) if column in epochs and epochs[column].notna().any() else None


def parent(recipe: Recipe, group: Sequence[Recipe]) -> Recipe | None:
    """The arm that it was made from: `byol` of `byol-predictor`, `lejepa` of `lejepa+batch`, as the sweep names them;
    the bare arm where one switch is all there is. None where neither says so."""
    by_name = {other.arm.name: other for other in group if other is not recipe}
    for sign in ("+", "-"):
        head, _, tail = recipe.arm.name.rpartition(sign)
        if head and tail and head in by_name:
            return by_name[head]
    return bare(group) if recipe.alone is not None else None


def bare(group: Sequence[Recipe]) -> Recipe | None:
    return next((recipe for recipe in group if not recipe.settings), None)


def lejepa(group: Sequence[Recipe]) -> Recipe | None:
    """The arm that has SIGReg and nothing else."""
    return next((recipe for recipe in group if recipe.alone == "sigreg"), None)


@dataclass(frozen=True)
class Heuristic:
    """What an arm has that the one it was made from has not, or the other way round."""

    name: str
    added: bool  # else taken out
    base: Recipe  # of which it was made


def heuristic(recipe: Recipe, group: Sequence[Recipe]) -> Heuristic | None:
    """By the arm's name, else by the only switch that is on; None where neither tells it."""
    other = parent(recipe, group)
    if other is None:
        return None
    rest = recipe.arm.name.removeprefix(other.arm.name)
    if rest == recipe.arm.name or rest[:1] not in ("+", "-"):
        return None if recipe.alone is None else Heuristic(switch_text(recipe), True, other)
    word, more = rest[1:], recipe if rest[0] == "+" else other
    kind = f"{value_text(word)} normalisation" if word == more.settings.get("normalisation") else name_text(word)
    return Heuristic(SWITCHES.get(word, kind), rest[0] == "+", other)


def switch_text(recipe: Recipe) -> str:
    """`batch normalisation`, `SIGReg`; the arm's name where two arms have the same switch on differently."""
    switch = recipe.alone
    if switch is None:
        return recipe.name
    if switch == "normalisation":
        return f"{value_text(recipe.settings[switch])} normalisation"
    setting = recipe.settings[switch]
    if isinstance(setting, Mapping) and 0 in setting.values():
        return _brief(setting) or recipe.name
    return SWITCHES[switch]


def setting_text(switch: str, value: Any, group: Sequence[Recipe]) -> str:
    """`0.99`, `cosine`, the parts that are on where not all are; empty where all is as in every other arm of the group
    that has the switch on whole."""
    alike = [r.settings[switch] for r in group if switch in r.settings and _brief(r.settings[switch]) == _brief(value)]
    if isinstance(value, Mapping) and any(other != value for other in alike):
        return ", ".join(f"{name_text(name)} {value_text(part)}" for name, part in value.items())
    return _brief(value)


def _brief(value: Any) -> str:
    if value is True:
        return ""
    if isinstance(value, Mapping):
        on = [name_text(name) for name, part in value.items() if part != 0]
        return " + ".join(on) if len(on) < len(value) else ""
    return value_text(value)


def difference(study: Study, recipe: Recipe, group: Sequence[Recipe]) -> Contrast | None:
    """Arm − the arm it was made from."""
    other = parent(recipe, group)
    return None if other is None else study.compare(recipe.cell, other.cell, recipe.name, other.name)
