"""What a sweep asks beyond its arms: how many slices, which encoder, what scale brings, which heuristics, whether a
table of the paper is seen again. Each has its own answer, and its own cells on which the strength of that answer rests.
"""

from dataclasses import replace

from reports import statistics as st
from reports.evidence import Contrast, Study
from reports.sections import architectures, enough_slices, heuristics, heuristics_answer, paper_card, scaling, step_cost
from reports.sections.enough_slices import Finding
from reports.sections.next_sweep import Open
from reports.sections.recipes import Recipe, recipes


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
    if switched := _switched(study):
        return " ".join(heuristics.answer(study, switched)[:2]) or None  # the section has the third
    if study.asked is not None:
        return None
    if found := _findings(study):
        time = step_cost.time(study, [cell for one in found for cell in one.cells])
        said = [enough_slices.answer(study, one, time) for one in found]
        return " ".join(f"{text[0].upper()}{text[1:]}" for text in said)
    return architectures.answer(study)


def certainty(study: Study) -> tuple[str, str] | None:
    """Strength and note of an answer that does not rest on one contrast: what is added to LeJEPA; None where it does.
    Tables of the paper have their own."""
    return heuristics_answer.certainty(study, switched) if (switched := _switched(study)) else None


def beside(study: Study) -> bool:
    """Whether the contrast that the strength rests on is no part of the answer: of what scale brings it is not."""
    return study.focus is not None and scaling.contrast(study) is not None


def unsettled(study: Study) -> list[Open]:
    """What the answer leaves open, with the pairs of seeds that would settle it."""
    if certainty(study) is not None:
        return [Open(*one) for one in heuristics_answer.unsettled(study, _switched(study))]
    contrasts = _of_slices(study) if study.asked is None and not beside(study) else []
    if not contrasts and study.primary is not None:
        contrasts = [study.primary]
    return [
        Open(contrast.text, contrast, st.pairs_needed(contrast.differences.to_numpy(), study.rope))
        for contrast in contrasts if contrast.verdict in (st.UNDECIDED, st.LEANING)
    ]  # fmt: skip


def _switched(study: Study) -> list[Recipe]:
    """The recipes of a sweep that is about switches; else none."""
    found = [] if study.leads is None else recipes(study, study.leads.encoder)
    return found if len(found) > 2 and not beside(study) else []


def _findings(study: Study) -> list[Finding]:
    return [found for arm in study.arms for found in enough_slices.findings(study, arm)]


_DOUBT = (st.DECIDED, st.EQUIVALENT, st.LEANING, st.UNDECIDED)  # rising


def _slices_contrast(study: Study) -> Contrast | None:
    """The least certain of those that the lines are answered by."""
    return max(_of_slices(study), key=lambda contrast: _DOUBT.index(contrast.verdict), default=None)


def _of_slices(study: Study) -> list[Contrast]:
    """For each line the number of slices that is advised, else the smallest that is not decided to be worse, against
    the largest."""
    said = []
    found = _findings(study)
    for one in found:
        near = [cell for cell in one.cells[:-1] if id(cell) in one.contrasts]
        still_open = [cell for cell in near if not enough_slices.worse(study, one.contrasts[id(cell)])]
        wanted = next((cell for cell in [one.smallest, *still_open, *near[::-1]] if cell is not None), None)
        if wanted is not None:
            contrast = one.contrasts[id(wanted)]
            named = f"{contrast.b_text} ({one.text})" if one.text and len(found) > 1 else contrast.b_text
            said.append(replace(contrast, b_text=named))
    return said
