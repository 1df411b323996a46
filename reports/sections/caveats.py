"""What the answer does not cover, generated from what the sweep held fixed and left out."""

from typing import Any

from reports.content import Items, Section
from reports.evidence import Study, encoder_names
from reports.sections.gate import UNMEASURED, WARN, Check, compared_arms, compared_cells
from reports.sections.gate_check import settings
from reports.sections.lambda_ import LAMBDA
from reports.wording import count, factor_text, listing, name_text, value_text

# Fixed settings that change conclusions most often, with the words for them.
_SETTINGS = (
    ("data.name", "data"), ("data.size", "image side in pixels"), ("data.limit", "training images kept"),
    ("epochs", "epochs"), ("batch_size", "batch size"), ("optimizer.lr", "learning rate"),
    ("optimizer.weight_decay", "weight decay"), ("views.recipe", "augmentation"),
    ("views.global_views", "global views"), ("views.local_views", "local views"),
    ("projector.layers", "projector layers"), ("projector.dim", "projection features"),
    ("method.slices", "slices"), ("precision", "precision"), ("probe.on", "features probed"),
)  # fmt: skip


def section(study: Study, checks: list[Check]) -> Section:
    return Section("caveats", "What this does not say", [Items(caveats(study, checks))])


def caveats(study: Study, checks: list[Check]) -> list[str]:
    lost = study.sweep.lost
    said = [f"Rows of the ledger are lost, and this is made from the others: {'; '.join(lost)}." if lost else ""]
    said += [_fixed(study), *_encoders(study), *_tuned(study), *_candidates(study)]
    if any(LAMBDA in cell.values for cell in study.cells):
        said.append(
            "λ is meant in the convention of the paper's code: (1 − λ)·prediction + λ·SIGReg, the statistic scaled by "
            "the batch, per view and averaged. Other implementations need a conversion."
        )
    said += [f"{check.name}: {check.finding}." for check in checks if check.result in (WARN, UNMEASURED)]
    cells = compared_cells(study)
    if cells:
        fewest = min(len(cell.finished) for cell in cells)
        said.append(
            f"Intervals cover what {count(fewest, 'seed')} can vary: initialisation, order, views. Labels drawn for "
            "the probe, the split and the data set are the same in every trial, so their spread is not in them."
        )
    return [text for text in said if text]


def _fixed(study: Study) -> str:
    """Settings with one value in all evidence of the trained arms."""
    keys = [key for arm in study.arms if not arm.is_floor for cell in arm.cells for key in cell.keys]
    configs = [study.sweep.configs[key] for key in dict.fromkeys(keys)]
    swept = {path for cell in study.cells for path in cell.values}
    parts = []
    for path, words in _SETTINGS:
        values = {value_text(v) for config in configs if (v := _at(config, path)) is not None}
        if len(values) == 1 and path not in swept:
            parts.append(f"{words} {values.pop()}")
    return f"Held fixed, so nothing is known about other values: {', '.join(parts)}." if parts else ""


def _at(config: dict[str, Any], path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _encoders(study: Study) -> list[str]:
    names = [encoder_names(study)[encoder] for encoder in study.encoders]
    if len(names) == 1:
        return [f"One encoder ({names[0]}): the order of the arms may differ in another."]
    return [f"Encoders ({listing(names)}) are kept apart: no arm of one is compared with an arm of another."]


def _tuned(study: Study) -> list[str]:
    searched = bool((study.sweep.trials["purpose"] == "search").any())
    untuned = [
        name_text(arm.name) for arm in compared_arms(study) if not arm.is_floor and settings(arm) == 1 and not searched
    ]
    if not untuned or len(compared_arms(study)) < 2:
        return []
    return [f"{listing(untuned)} ran at given settings, not tuned: tuning may change that."]


def _candidates(study: Study) -> list[str]:
    most = max((cell.candidates for cell in study.cells), default=0)
    factors = listing([factor_text(path) for path in study.sweep.factors])
    if most < 2:
        return []
    return [f"Up to {most} confirmed configurations per value of {factors}: the best {study.selected_on} was taken."]
