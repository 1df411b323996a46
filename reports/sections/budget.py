"""The equal-budget contract: what each trained arm was given to tune and to train with, and whether that was equal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from reports.content import Prose, Section, Table, Value, plain
from reports.evidence import Arm, Study, encoder_names
from reports.load import EVIDENCE
from reports.sections.design import colour_class
from reports.sections.gate import BUDGET_TOLERANCE
from reports.sections.gate_check import settings
from reports.wording import count, duration, factor_text, listing, name_text

EQUAL, UNEQUAL, UNTUNED = "equal", "not equal", "not tuned"


@dataclass(frozen=True)
class Share:
    """What one arm was given; epochs, images and seconds are charged as they ran, search and failures included."""

    arm: Arm
    studies: int
    searched: int  # search trials, all studies
    search_epochs: int  # planned, so that early stopping is not held against an arm
    settings: int  # compared on validation; sizes, data and epochs are no choice
    epochs: int
    images: float | None  # None: the ledger does not say
    seconds: float
    seeds: int  # of the evidence
    length: int  # epochs of an evidence trial
    tuned: tuple[str, ...]
    ended: bool  # nothing waits or runs
    keys: tuple[str, ...]


def sections(study: Study) -> list[Section]:
    """Shown where two trained arms share an encoder."""
    groups = [trained for encoder in study.encoders if len(trained := trained_arms(study, encoder)) > 1]
    if not groups:
        return []
    images = _images(study)
    given = [[share(study, arm, images) for arm in arms] for arms in groups]
    said = [contract(study, shares) for shares in given]
    if len(groups) > 1:
        names = encoder_names(study)
        said = [f"{names[arms[0].encoder]}: {text}" for arms, text in zip(groups, said, strict=True)]
    return [Section("budget", "What each arm was given", [Prose(said), _table(study, given)])]


def trained_arms(study: Study, encoder: str) -> list[Arm]:
    return [arm for arm in study.within(encoder) if not arm.is_floor]


def share(study: Study, arm: Arm, images: pd.Series | None = None) -> Share:
    rows = pd.concat([cell.everything for cell in arm.cells]).drop_duplicates("key")
    search, evidence = rows[rows["purpose"] == "search"], rows[rows["purpose"].isin(EVIDENCE)]
    seen = (_images(study) if images is None else images).reindex(rows["key"])
    return Share(
        arm, int(search["study"].nunique()), len(search), int(search["planned"].sum()), settings(arm),
        int(rows["done"].sum()), float(seen.sum()) if seen.notna().any() else None, float(rows["seconds"].sum()),
        int(evidence["seed"].nunique()), int(evidence["planned"].max()) if len(evidence) else 0,
        _tuned(study, arm) if len(search) else (), not rows["state"].isin(["waiting", "running"]).any(),
        tuple(rows["key"]),
    )  # fmt: skip


def _tuned(study: Study, arm: Arm) -> tuple[str, ...]:
    """Dotted paths of the arm's nuisance space: its own, else the sweep's."""
    spec = study.sweep.spec
    own = ((spec.get("arms") or {}).get(arm.name) or {}).get("nuisance")
    return tuple(own or spec.get("nuisance") or {})


def _images(study: Study) -> pd.Series:
    """Key → training images seen: of every epoch, what its rate and its time say, which is exact."""
    epochs, names = study.sweep.epochs, ("timing/images_per_second", "timing/train_seconds")
    if not {*names} <= {*epochs.columns}:
        return pd.Series(dtype=float)
    seen = (epochs[names[0]] * epochs[names[1]]).groupby(epochs["key"], observed=True).sum(min_count=1)
    return seen.set_axis(seen.index.astype(str))


# -- the judgement ----------------------------------------------------------------------------------------------------


def judgement(shares: Sequence[Share]) -> str:
    """equal | not equal | not tuned: of what was spent on choosing, by planned search epochs, studies and settings."""
    if all(s.searched == 0 and s.settings == 1 for s in shares):
        return UNTUNED
    epochs = [s.search_epochs for s in shares]
    alike = max(epochs) - min(epochs) <= BUDGET_TOLERANCE * max(epochs)
    return EQUAL if alike and len({(s.studies, s.settings) for s in shares}) == 1 else UNEQUAL


def contract(study: Study, shares: Sequence[Share]) -> str:
    """One paragraph: equal or not, in what, and what was not made equal."""
    said = judgement(shares)
    if said == UNTUNED:
        text = (
            "No arm was tuned: each ran one configuration as written, so a rank here is one of recipes, not of methods."
        )
    elif said == EQUAL:
        text = f"Equal: every arm was tuned by {_search_text(shares[0])}."
    else:
        text = f"Not equal, so a difference may be tuning: {_spread(shares)}."
    if said != UNTUNED and len({s.tuned for s in shares}) > 1:
        sizes = sorted({len(s.tuned) for s in shares if s.searched})
        text += " Each arm has its own space" + (
            f", of {sizes[0]} to {sizes[-1]} parameters." if len(sizes) > 1 else "."
        )
    return f"{text} {_training_text(shares)} {_time_text(shares)}".strip()


def _search_text(s: Share) -> str:
    parts = []
    if s.searched:
        each = s.searched // s.studies
        parts.append(f"{count(s.studies, 'study', 'studies')} of {count(each, 'search trial')} "
                     f"({count(s.search_epochs, 'epoch')})")  # fmt: skip
    if s.settings > 1:
        parts.append(f"the choice among {count(s.settings, 'setting')}")
    return listing(parts)


def _spread(shares: Sequence[Share]) -> str:
    """Arms by what they were given, largest first."""
    by_text: dict[str, list[str]] = {}
    for s in sorted(shares, key=lambda s: -(s.search_epochs + s.settings)):
        by_text.setdefault(_search_text(s) or "nothing", []).append(name_text(s.arm.name))
    return "; ".join(f"{listing(names)}: {text}" for text, names in by_text.items())


def _training_text(shares: Sequence[Share]) -> str:
    lengths = sorted({s.length for s in shares if s.length})
    seeds = sorted({s.seeds for s in shares if s.seeds})
    if not lengths:
        return ""
    long = count(lengths[0], "epoch") if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} epochs, not the same,"
    many = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return f"The numbers that are compared come from {many} of {long} each."


def _time_text(shares: Sequence[Share]) -> str:
    spent = [s for s in shares if s.seconds > 0]
    if len(spent) < 2 or not all(s.ended for s in shares):  # of half a sweep, times say which arm ran first
        return ""
    low, high = min(spent, key=lambda s: s.seconds), max(spent, key=lambda s: s.seconds)
    if duration(low.seconds) == duration(high.seconds):
        return f"Device time was not made equal, and came to {duration(low.seconds)} for each."
    return (
        f"Device time was not made equal: from {duration(low.seconds)} ({name_text(low.arm.name)}) to "
        f"{duration(high.seconds)} ({name_text(high.arm.name)})."
    )


# -- the table --------------------------------------------------------------------------------------------------------


def _table(study: Study, given: Sequence[Sequence[Share]]) -> Table:
    tuned = any(judgement(shares) != UNTUNED for shares in given)
    search = ["studies", "search trials", "parameters tuned", "settings to choose from"] if tuned else []
    names = encoder_names(study) if len(given) > 1 else {}
    columns = ["arm", *(["encoder"] if names else []), "budget", *search, "seeds compared", "epochs charged",
               "images charged (millions)", "device time"]  # fmt: skip
    caption = (
        "The contract. Charged is every epoch that ran, of pruned, failed and diverged trials too; device time is "
    )
    caption += "in seconds in the CSV"
    if tuned:
        caption += (
            "; the budget is equal where studies and settings are, and planned search epochs within "
            f"{BUDGET_TOLERANCE:.0%}"
        )
    rows = [_row(study, s, judgement(shares), tuned, names) for shares in given for s in shares]
    return Table("budget", f"{caption}.", columns, rows, provenance=True)


def _row(study: Study, s: Share, said: str, tuned: bool, names: Mapping[str, str]) -> list[Value]:
    tone = {EQUAL: "pass", UNEQUAL: "fail", UNTUNED: "muted"}[said]
    search = [
        plain(s.studies),
        plain(s.searched),
        plain(" ".join(s.tuned), listing([factor_text(path) for path in s.tuned]) or "none"),
        plain(s.settings),
    ]
    images = Value(None, "—", tone="muted") if s.images is None else plain(s.images, f"{s.images / 1e6:.3g}")
    return [
        Value(s.arm.name, name_text(s.arm.name), s.keys, colour=colour_class(study, s.arm.name), strong=True),
        *([plain(names[s.arm.encoder])] if names else []),
        Value(said, said, tone=tone),
        *(search if tuned else []),
        plain(s.seeds),
        plain(s.epochs, f"{s.epochs:,}"),
        images,
        plain(s.seconds, duration(s.seconds)),
    ]
