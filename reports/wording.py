"""How values, metrics and names are said: numbers with their unit, names made safe to print."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from reports import statistics as st

_PERCENT = ("linear", "knn", "shot", "accuracy")
_PROBES = {"linear": "linear-probe accuracy", "knn": "k-NN accuracy"}
_SPLITS = {"val": "validation", "test": "test", "train": "training", "diag": "diagnostic"}
_SYMBOLS = {
    "method.lamb": "λ",
    "method.slices": "slices M",
    "optimizer.lr": "learning rate",
    "batch_size": "batch size",
    "projector.dim": "projector dim",
}
_JOINERS = {"\u200d", "\ufe0f"}  # emoji are made of them


def name_text(name: object) -> str:
    """A name that may be printed anywhere: control and direction characters become �, right-to-left is isolated."""
    text = "".join(
        c if c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else "�"
        for c in str(name)
    )
    right_to_left = any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)
    return f"\u2068{text}\u2069" if right_to_left else text


def short_name(name: object, most: int = 24) -> str:
    """For axes and legends; tables carry the whole name."""
    text = name_text(name).strip("\u2068\u2069")
    text = f" {text}" if text.startswith("_") else text  # matplotlib leaves labels with a leading _ out of legends
    return text if len(text) <= most else text[: most - 1] + "…"


def difference_label(first: object, second: object, points: str) -> str:
    """`first − second (points)`, for an axis of nearly five inches; on two lines where it is long."""
    names = [short_name(name, 46) for name in (first, second)]
    joint = " − " if sum(map(len, names)) <= 42 else " −\n"
    return joint.join(names) + (f" ({points})" if points else "")


def is_percent(metric: str) -> bool:
    return any(word in metric.partition("/")[2] for word in _PERCENT)


def unit(metric: str) -> str:
    return "%" if is_percent(metric) else ""


def difference_unit(metric: str) -> str:
    return "points" if is_percent(metric) else ""


def metric_text(metric: str) -> str:
    """`test/shot1` → `1-shot test accuracy`."""
    split, _, what = metric.partition("/")
    word = _SPLITS.get(split, split)
    if what.startswith("shot") and what[4:].isdigit():
        return f"{what[4:]}-shot {word} accuracy"
    return f"{word} {_PROBES[what]}" if what in _PROBES else metric


def number(value: float) -> str:
    """A parameter's value, short and exact: 0.02, 1e-05, 128."""
    return f"{value:.6g}"


def amount(value: float, metric: str) -> str:
    """One decimal for percent; a bound just beside zero keeps a digit, since its side decides a verdict."""
    if not is_percent(metric):
        return f"{value:.3g}"
    if 0.0005 < abs(value) < 0.05:
        return f"{value:.1g}"
    return f"{value + 0.0 if abs(value) >= 0.05 else 0.0:.1f}"


def with_interval(mean: float, low: float | None, high: float | None, metric: str, sign: bool = False) -> str:
    """`71.3 [68.9, 73.7]`; the mean alone where there is no interval."""
    shown = amount(mean, metric)
    if sign and not shown.startswith("-"):
        shown = f"+{shown}"
    shown = minus(shown)
    return shown if low is None or high is None else f"{shown} {interval_text(low, high, metric)}"


def interval_text(low: float, high: float, metric: str) -> str:
    return f"[{minus(amount(low, metric))}, {minus(amount(high, metric))}]"


def minus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") else text


def factor_text(path: str) -> str:
    return _SYMBOLS.get(path, name_text(path))


def value_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return name_text(value)
    return number(value)


def cell_text(values: Mapping[str, Any]) -> str:
    """`λ = 0.02, slices M = 64`; empty where the arm has no scientific factor."""
    return ", ".join(f"{factor_text(path)} = {value_text(value)}" for path, value in values.items())


def encoder_text(encoder: Mapping[str, Any]) -> str:
    """`small_vit (width 192, patch 4)`: the name, and what was set."""
    extra = [f"{k} {value_text(v)}" for k, v in encoder.items() if k != "name" and v not in (None, 0, 0.0)]
    return name_text(encoder.get("name", "?")) + (f" ({', '.join(extra)})" if extra else "")


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(n: int, noun: str, plural: str = "") -> str:
    """`1 trial`, `3 trials`; `plural` where it is not the noun with an s."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {plural or f'{noun}s'}"


RELATIONS = (
    "ahead of", "probably ahead of", "practically equal to", "probably behind", "behind", "not told apart from",
    "not comparable with",
)  # fmt: skip


def relation(verdict: str, lead: float | None) -> str:
    """How A stands to B, one of RELATIONS, by the verdict on A − B. `lead`: the difference with the sign that makes
    more better; None where there is none."""
    if lead is None:
        return "not comparable with"
    if verdict == st.EQUIVALENT:
        return "practically equal to"
    if verdict not in (st.DECIDED, st.LEANING):
        return "not told apart from"
    side = "ahead of" if lead > 0 else "behind"
    return side if verdict == st.DECIDED else f"probably {side}"


def listing(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
