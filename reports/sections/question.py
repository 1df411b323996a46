"""What a sweep asks beyond its arms: how many slices, which encoder, what scale brings, which heuristics, whether a
table of the paper is seen again. Each has its own answer, and its own cells on which the strength of that answer rests.
"""

from dataclasses import replace

from reports.evidence import Contrast, Study
from reports.sections import architectures, enough_slices, heuristics, paper_card, scaling, step_cost
from reports.sections.enough_slices import Finding
from reports.sections.recipes import recipes


def focused(study: Study) -> Study:
    """The study with what decides its question, where no contrast of arms is asked for: cells of a table of the paper
    together, arms at their largest scale, or a contrast of two cells."""
    if cells := paper_card.deciding(study):
        return replace(study, together=cells)
    if (largest := scaling.contrast(study)) is not None:
        return replace(study, focus=largest)
    if study.asked is not None:
        return study
    contrast = _slices_contrast(study) or architectures.contrast(study)
    return study if contrast is None else replace(study, focus=contrast)


def answer(study: Study) -> str | None:
    """One or a few sentences; None where the arms are the question."""
    if study.together:
        return paper_card.answer(paper_card.verdicts(study))
    if (grown := scaling.answer(study)) is not None:
        return grown
    if study.leads is not None and len(switched := recipes(study, study.leads.encoder)) > 2:
        return " ".join(heuristics.answer(study, switched)[:2]) or None  # the section has the third
    if study.asked is not None:
        return None
    if found := _findings(study):
        time = step_cost.time(study, [cell for one in found for cell in one.cells])
        said = " ".join(enough_slices.answer(study, one, time) for one in found)
        return f"{said[0].upper()}{said[1:]}"
    return architectures.answer(study)


def _findings(study: Study) -> list[Finding]:
    return [found for arm in study.arms for found in enough_slices.findings(study, arm)]


def _slices_contrast(study: Study) -> Contrast | None:
    """The number of slices that is advised, else the smallest that is not decided to be worse, against the largest."""
    for found in _findings(study):
        near = [cell for cell in found.cells[:-1] if id(cell) in found.contrasts]
        still_open = [cell for cell in near if not enough_slices.worse(study, found.contrasts[id(cell)])]
        if cells := [found.smallest, *still_open, *near[::-1]]:
            return next((found.contrasts[id(cell)] for cell in cells if cell is not None), None)
    return None
