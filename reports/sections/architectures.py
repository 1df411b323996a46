"""Which encoder for which budget: cost and accuracy of encoders under one method, the fronts, and one per tier.

The one place where cells of different encoders are compared: as encoders, with the same everything else.
"""

from reports.content import Block, Prose, Section
from reports.evidence import Contrast, Study
from reports.sections import encoder_tuning
from reports.sections.encoder_budgets import budgets
from reports.sections.encoder_front import accuracy, costs, front
from reports.sections.encoder_tiers import answer_of, first, tiered, with_costs
from reports.sections.lineup import Lineup, apart_text, lineups
from reports.wording import name_text


def answer(study: Study) -> str | None:
    """One sentence for the sweep's first comparison of encoders; None where there is none."""
    return answer_of(study, priced) if (priced := first(study)) else None


def contrast(study: Study) -> Contrast | None:
    """The best encoder at any cost against the next, both by validation; None where two are not complete."""
    priced = first(study)
    if priced is None or not (budget := tiered(study, priced)):
        return None
    best = budget[-1].best
    rivals = [entry for entry in priced.lineup.complete if entry is not best]
    second = max(rivals, key=lambda entry: study.sign * entry.cell.val.mean())
    return study.compare(best.cell, second.cell, best.label, second.label)


def sections(study: Study) -> list[Section]:
    """One per method whose encoders are compared."""
    found = lineups(study)
    return [_section(study, lineup, rank, len(found) > 1) for rank, lineup in enumerate(found)]


def _section(study: Study, lineup: Lineup, rank: int, named: bool) -> Section:
    priced = with_costs(study, lineup)
    slug = f"architectures-{rank}"
    blocks: list[Block] = [Prose([answer_of(study, priced)])]
    if len(lineup.complete) > 1 and priced.measure[0]:
        blocks.append(front(study, priced, slug))
    blocks += [accuracy(study, priced, slug), costs(study, priced, slug), *budgets(study, priced, slug)]
    blocks += encoder_tuning.blocks(study, lineup, slug)
    blocks.append(Prose(list(filter(None, [apart_text(lineup), _rules(study)]))))
    return Section(slug, f"Encoders under {name_text(lineup.method)}" if named else "Encoders", blocks)


def _rules(study: Study) -> str:
    return (
        "Only encoders are compared here, under one method with the same data, probe, batch, views and epochs; of "
        f"methods nothing follows. Each encoder stands for its best cell {study.selected_on}; {study.judge_text} "
        "judges. Verdicts against the best are not corrected for their number; the rank intervals are."
    )
