"""Shapes of a whole table: the order of its cells, the spread of its models, what the training loss foretells."""

from collections.abc import Sequence

import numpy as np

from reports import rank_order, shapes
from reports import statistics as st
from reports.evidence import Study
from reports.published import PublishedTable, Shape
from reports.sections import lambda_labelfree
from reports.sections.paper_cells import Comparison, candidates, config_of, two
from reports.sections.paper_finding import SEEDS, VALUES, Finding, Quantity, forecast
from reports.shapes import FAILS, HOLDS, OPEN
from reports.wording import count, listing, name_text


def rank(found: Sequence[Comparison]) -> list[Finding]:
    whole = [one for one in found if one.complete]
    seeds = sorted(set.intersection(*(set(one.values.index) for one in whole))) if whole else []
    if not seeds:
        return []
    scores = np.stack([one.values.loc[seeds].to_numpy(dtype=float) for one in whole])
    result = rank_order.rank_order([one.cell.value for one in whole], scores)
    keys = tuple(key for one in whole if one.ours is not None for key in one.ours.keys)
    claim, cells = "our cells in the paper's order", count(len(whole), "cell")
    if result is None:
        said = f"Whether our cells come in the paper's order is undecided: {cells} are too few to tell or do not vary."
        return [Finding(claim, "", "ρ = 1", cells, None, OPEN, said, keys, lack=VALUES)]
    verdict = rank_order.verdict(result)
    chance = f"{_p_text(result.p)} by permutation of {cells}"
    told = f"ρ = {two(result.rho)}, {chance}, n = {count(len(seeds), 'seed')}"
    said = {
        HOLDS: f"Our cell means come in the order of the paper's (Spearman's {told}).",
        FAILS: f"Our cell means do not come in the order of the paper's (Spearman's {told}).",
        OPEN: f"Whether our cell means come in the order of the paper's is undecided (Spearman's {told}).",
    }[verdict]
    few = " So few cells can come in this order by chance." if len(whole) < 8 and result.p > st.ALPHA else ""
    lack = "" if verdict != OPEN else VALUES if few else SEEDS
    return [Finding(claim, "", "ρ = 1", told, result.rho.mean, verdict, said + few, keys, lack=lack)]


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def spread(study: Study, table: PublishedTable, shape: Shape) -> list[Finding]:
    """The worst against the best of all models, both as validation has them, paired by seed."""
    cells = [cell for cell in candidates(study, table) if cell.complete]
    if len(cells) < 2:
        return []
    ranked = sorted(cells, key=lambda cell: study.sign * float(cell.val.mean()))
    shared = ranked[-1].judged.index.intersection(ranked[0].judged.index)
    if not len(shared):
        return []
    by_seed = (ranked[-1].judged.loc[shared] - ranked[0].judged.loc[shared]).to_numpy()
    lost = st.mean_interval(by_seed)
    within = shape.within or study.rope
    verdict = shapes.plateau_verdict([lost], within)
    names = listing([name_text(config_of(study, cell).get("encoder", {}).get("name", "?")) for cell in
                     (ranked[-1], ranked[0])])  # fmt: skip
    told = f"{two(lost)} points between best and worst of {len(cells)}, n = {count(lost.n, 'seed')}"
    said = {
        HOLDS: f"All {len(cells)} models lie within {within:g} points of each other: {told} ({names}).",
        FAILS: f"The models lie further apart than {within:g} points: {told} ({names}).",
        OPEN: f"Whether all models lie within {within:g} points of each other is undecided: {told} ({names}).",
    }[verdict]
    keys = (*ranked[-1].keys, *ranked[0].keys)
    quantity = Quantity("best − worst model (points)", tuple(by_seed), ((0.0, "none"), (within, "paper")))
    return [Finding("all models reach about the same", "", f"{within:g} points", told, lost.mean, verdict, said, keys,
                    quantity, SEEDS if verdict == OPEN else "",
                    forecast(by_seed, lambda one: shapes.plateau_verdict([one], within)))]  # fmt: skip


def loss_predicts(study: Study, table: PublishedTable) -> list[Finding]:
    """By an α that a training's own cell had no part in choosing; in the paper it had."""
    best = [cell.value for cell in table.cells if cell.at.get("alpha") == "best"]
    published = f"{min(best):.2f} to {max(best):.2f} at the best α"
    found = []
    for arm in study.arms:
        pool = lambda_labelfree.pool_of(study, arm)
        chosen = [] if pool is None else lambda_labelfree.criteria(study, pool)
        held = next((one for one in chosen if one.name.endswith("held out")), None)
        if pool is None or held is None or held.rho is None or held.rho.low is None or held.rho.high is None:
            continue
        rho = st.Estimate(-held.rho.mean, -held.rho.high, -held.rho.low, held.rho.n, held.rho.how)
        low, high = -held.rho.high, -held.rho.low
        verdict = HOLDS if low >= shapes.RELATED else FAILS if high < shapes.RELATED else OPEN
        told = f"{two(rho)}, {count(rho.n, 'training')}"
        word = {HOLDS: "foretells", FAILS: "does not foretell", OPEN: "is not shown to foretell"}[verdict]
        said = f"The training loss over λ^α {word} accuracy in {name_text(arm.name)}: ρ = {told}, α from other cells."
        found.append(Finding("low loss / λ^α goes with high accuracy", name_text(arm.name), published, told, rho.mean,
                             verdict, said, pool.keys, lack=SEEDS if verdict == OPEN else ""))  # fmt: skip
    return found
