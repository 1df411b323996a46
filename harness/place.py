"""The language of `place` rules: a path, a comparison, and a number or a word. `encoder.params > 80M`.

Nothing is evaluated but these. Paths are those of a TrainConfig, and two more: `arm`, and `encoder.params`, which is
how many parameters the encoder has.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.mockup import weightless
from harness.paths import ARM, known_paths
from lejepa.config import TrainConfig, nearest

PARAMS = "encoder.params"
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_RULE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(==|!=|<=|>=|<|>)\s*(\S.*?)\s*")
_NUMBER = re.compile(r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)([kMG]?)")


@dataclass(frozen=True)
class Condition:
    path: str
    sign: str
    value: float | str

    def holds(self, config: TrainConfig, arm: str) -> bool:
        """Of what a config lacks, and of a number where it has none, nothing holds."""
        found = _value(config, arm, self.path)
        if isinstance(found, bool) or found is None:
            found = {True: "true", False: "false", None: "null"}[found]
        if found is _ABSENT or isinstance(found, int | float) != isinstance(self.value, float):
            return False
        return _SIGNS[self.sign](found if isinstance(self.value, float) else str(found), self.value)


def parse(text: str) -> Condition:
    """ValueError, which says what would be right, where the text is no rule or names what no config has."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no rule: a path, one of {' '.join(_SIGNS)}, and a value; encoder.params > 80M")
    path, sign, written = found.groups()
    if path not in (known := known_paths() | {PARAMS}):
        raise ValueError(f"no training has {path!r}{nearest(path, sorted(known)) or '; write data.size, or arm'}")
    number = _NUMBER.fullmatch(written)
    if number is None and (sign not in ("==", "!=") or path == PARAMS):
        raise ValueError(f"{written!r} is no number, and `{path} {sign}` asks for one; write 128, 2.5k, 80M or 1G")
    if number is None and not re.fullmatch(r"[\w./+-]+", written):
        raise ValueError(f"{written!r} is neither a number nor one word")
    return Condition(path, sign, written if number is None else float(number[1]) * _SUFFIXES[number[2]])


_ABSENT = object()


def _value(config: TrainConfig, arm: str, path: str) -> Any:
    if path == ARM:
        return arm
    if path == PARAMS:
        return encoder_params(config)
    found: Any = config
    for part in path.split("."):
        found = getattr(found, part, _ABSENT)
    return found


def encoder_params(config: TrainConfig) -> int:
    """How many parameters the config's encoder has; each encoder is built once, without values where that works."""
    if config.method.name == "pixels":
        return 0
    return _count(TrainConfig(encoder=config.encoder, data=config.data.model_copy(update={"limit": None})))


@cache
def _count(config: TrainConfig) -> int:
    from lejepa.encoders import build_encoder

    encoder, _ = weightless(lambda: build_encoder(config, channels=3))
    return sum(parameter.numel() for parameter in encoder.parameters())
