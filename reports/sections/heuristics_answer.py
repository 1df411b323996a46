"""Which heuristics LeJEPA makes superfluous, in sentences: on top of it, against whole recipes, and each alone."""

from collections.abc import Sequence

from reports import statistics as st
from reports.evidence import Contrast, Study
from reports.sections.recipes import Recipe, bare, difference, heuristic, lejepa, parent, switch_text
from reports.wording import RELATIONS, count, difference_unit, listing, relation, unit, with_interval

HELPS, SUPERFLUOUS, OPEN, NOTHING = "helps", "superfluous", "not settled", "no whole set of seeds"
_STATES = {"waiting", "running"}


def answer(study: Study, group: Sequence[Recipe]) -> list[str]:
    """What adds nothing to SIGReg, what recipes without it come to, and what prevents collapse alone."""
    return [text for text in (on_top(study, group), _recipes_text(study, group), _alone_text(study, group)) if text]


# -- on top of LeJEPA -------------------------------------------------------------------------------------------------


def on_top(study: Study, group: Sequence[Recipe]) -> str:
    """Of the arms made from the one that has SIGReg alone: superfluous is what by its interval adds less than the
    ROPE, whether it hurts or not."""
    start, added = lejepa(group), additions(study, group)
    if start is None or not added:
        return ""
    kinds: dict[str, list[str]] = {kind: [] for kind in (SUPERFLUOUS, HELPS, OPEN, NOTHING)}
    for recipe, pair in added:
        kinds[effect(study, pair)].append(_addition(study, recipe, group, pair))
    if len(kinds[NOTHING]) == len(added):
        return f"What is superfluous with {start.name} is not known yet: no addition has all its seeds."
    points = f"the ROPE of ±{study.rope:g} {difference_unit(study.judge)}".strip()
    idle = listing(kinds[SUPERFLUOUS])
    parts = [
        f"Superfluous with {start.name}, as adding it gains less than {points} by the interval: {idle}" if idle
        else f"Nothing is shown to be superfluous with {start.name}: no interval of what it adds stays below {points}"
    ]  # fmt: skip
    parts += [f"{listing(kinds[HELPS])} {_verb(kinds[HELPS], 'helps', 'help')}"] if kinds[HELPS] else []
    parts += [f"{kind}: {listing(kinds[kind])}" for kind in (OPEN, NOTHING) if kinds[kind]]
    return "; ".join(parts) + "."


def additions(study: Study, group: Sequence[Recipe]) -> list[tuple[Recipe, Contrast]]:
    """The arms made from the one that has SIGReg alone, each with what adding it changes."""
    start = lejepa(group)
    return [(r, pair) for r in group if start is not None and parent(r, group) is start
            and (pair := difference(study, r, group)) is not None]  # fmt: skip


def effect(study: Study, pair: Contrast) -> str:
    """Of what was added, by the interval of the difference that it makes."""
    return NOTHING if pair.estimate is None else _effect(study, pair.estimate)


def _effect(study: Study, estimate: st.Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return OPEN
    low, high = sorted((study.sign * estimate.low, study.sign * estimate.high))
    return HELPS if low > study.rope else SUPERFLUOUS if high < study.rope else OPEN


def certainty(study: Study, group: Sequence[Recipe]) -> tuple[str, str] | None:
    """How much of what is added to LeJEPA is settled, as strength and note; None where nothing is added."""
    found = [effect(study, pair) for _, pair in additions(study, group)]
    start = lejepa(group)
    if start is None or not found:
        return None
    settled = sum(what in (HELPS, SUPERFLUOUS) for what in found)
    if settled == len(found):
        return st.DECIDED, f"the interval of every addition to {start.name} says whether it gains more than the ROPE"
    rest = len(found) - settled
    if not settled:
        return st.UNDECIDED, f"no addition to {start.name} is settled by its interval"
    return st.LEANING, (
        f"the intervals settle {settled} of {count(len(found), 'addition')} to {start.name}, and not "
        f"{'the other' if rest == 1 else f'the other {rest}'}"
    )


def unsettled(study: Study, group: Sequence[Recipe]) -> list[tuple[str, Contrast, int | None]]:
    """What is added to LeJEPA without being settled: its name, the difference, and the pairs of seeds that would
    settle it; None where no sensible number would."""
    found = []
    for recipe, pair in additions(study, group):
        if effect(study, pair) == OPEN:
            told, start = heuristic(recipe, group), lejepa(group)
            text = f"{recipe.name if told is None else told.name} with {start.name if start else '?'}"
            pairs = st.seeds_needed(pair.differences, lambda estimate: _effect(study, estimate) != OPEN)
            found.append((text, pair, pairs))
    return found


def _addition(study: Study, recipe: Recipe, group: Sequence[Recipe], pair: Contrast) -> str:
    found = heuristic(recipe, group)
    word = recipe.name if found is None else found.name
    if pair.estimate is None:
        return f"{word} ({recipe.cell.losses or 'no evidence'})"
    estimate = pair.estimate
    return f"{word} ({with_interval(estimate.mean, estimate.low, estimate.high, study.judge, sign=True)})"


# -- against recipes --------------------------------------------------------------------------------------------------


def _recipes_text(study: Study, group: Sequence[Recipe]) -> str:
    """LeJEPA without any heuristic against every arm with several that goes back to no other."""
    start = lejepa(group)
    rivals = [r for r in group if len(r.settings) > 1 and r.alone is None and parent(r, group) is None]
    if start is None or start.cell.estimate is None or not rivals:
        return ""
    own = start.cell.estimate
    reached = (
        f"{study.judge_text} {with_interval(own.mean, own.low, own.high, study.judge)} {unit(study.judge)}".strip()
    )
    lost = f"{start.cell.count('collapsed')} of {start.cell.planned} seeds collapse"
    said: dict[str, list[str]] = {}
    for rival in rivals:
        pair = study.compare(start.cell, rival.cell, start.name, rival.name)
        said.setdefault(_standing(study, pair), []).append(_rival_text(study, rival, pair))
    rest = listing([f"{word} {listing(said[word])}" for word in RELATIONS if word in said])
    return f"Without any of them {start.name} reaches {reached} ({lost}) and is {rest}."


def _standing(study: Study, pair: Contrast) -> str:
    return relation(pair.verdict, None if pair.estimate is None else study.sign * pair.estimate.mean)


def _rival_text(study: Study, rival: Recipe, pair: Contrast) -> str:
    if pair.estimate is None:
        return f"{rival.name} ({rival.cell.losses or 'no evidence'})"
    shown = with_interval(pair.estimate.mean, pair.estimate.low, pair.estimate.high, study.judge, sign=True)
    lost = rival.cell.count("collapsed")
    return f"{rival.name} ({shown}{f'; {lost} of {rival.cell.planned} collapse' if lost else ''})"


# -- alone ------------------------------------------------------------------------------------------------------------


def _alone_text(study: Study, group: Sequence[Recipe]) -> str:
    start = bare(group)
    single = [recipe for recipe in group if recipe.alone and not _unfinished(recipe)]
    if start is None or not any(recipe.alone for recipe in group):
        return ""
    if _unfinished(start):
        return f"Whether the bare prediction collapses is not known yet ({start.cell.losses})."
    if not start.collapses:
        states = listing([f"{n} {what}" for what, n in counts(start).items()])
        how = "collapses in some seeds only" if start.cell.count("collapsed") else "does not collapse here"
        return f"The bare prediction {how} ({states}), so no heuristic can be said to prevent it."
    enough = [recipe for recipe in single if recipe.trains]
    never = [recipe for recipe in single if recipe.collapses]
    mixed = [recipe for recipe in single if recipe not in enough and recipe not in never]
    parts = []
    if enough:
        weak = _not_above_random(study, enough)
        which = "none of them is" if len(weak) == len(enough) else f"{_names(weak)} {_verb(weak, 'is', 'are')} not"
        but = f" ({which} shown to beat the random encoder)" if weak else ""
        parts.append(f"{_names(enough)} alone {_verb(enough, 'keeps', 'keep')} every seed from collapsing{but}")
    if mixed:
        said = [f"{_names([r])} ({r.cell.count('trained')} of {r.cell.planned} seeds)" for r in mixed]
        parts.append(f"{listing(said)} {_verb(mixed, 'does', 'do')} so for some seeds")
    if never:
        parts.append(f"{_names(never)} {_verb(never, 'does', 'do')} not")
    if rest := [recipe for recipe in group if recipe.alone and _unfinished(recipe)]:
        parts.append(f"not finished: {_names(rest)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def counts(recipe: Recipe) -> dict[str, int]:
    """Outcome → seeds, the usual ones first."""
    found = recipe.cell.rows["outcome"].value_counts().to_dict()
    order = ["trained", "collapsed", "diverged", *sorted(found)]
    return {what: int(found[what]) for what in dict.fromkeys(order) if what in found}


def _unfinished(recipe: Recipe) -> bool:
    return bool(_STATES & set(recipe.cell.rows["state"]))


def _names(group: Sequence[Recipe]) -> str:
    return listing([switch_text(recipe) for recipe in group])


def _verb(group: Sequence[object], one: str, many: str) -> str:
    return one if len(group) == 1 else many


def _not_above_random(study: Study, group: Sequence[Recipe]) -> list[Recipe]:
    found = []
    for recipe in group:
        floor = next((f.selected for f in study.floors(recipe.arm.encoder) if f.method == "random"), None)
        gain = None if floor is None else study.compare(recipe.cell, floor, "", "").estimate
        if gain is not None and gain.low is not None and gain.high is not None:
            found += [recipe] if (gain.low if study.sign > 0 else -gain.high) <= 0 else []
    return found
