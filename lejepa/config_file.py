"""A TrainConfig from a YAML file of its parts, with `a.b=c` laid over it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lejepa.config import TrainConfig, nearest

_OF_A_SWEEP = ("base", "scientific", "nuisance", "arms")


class ConfigError(Exception):
    """A config file, or what was laid over it, is wrong. The text is one line for users."""


class _Loader(yaml.SafeLoader):
    """SafeLoader for which `on` and `off` are words, as in YAML 1.2: `on` is a key of the probe."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_config(path: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """One training. No path: the defaults. Raises ConfigError."""
    raw = {} if path is None else read_mapping(path)
    if path is not None:
        refuse_sweep(path)
    for override in overrides:
        _lay_over(raw, override)
    if isinstance(raw.get("method"), dict):
        raw["method"].setdefault("name", TrainConfig.model_fields["method"].default.name)
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path or '--set'}: {_explain(error.errors()[0])}") from None


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The plain values of a YAML file. ConfigError where it cannot be read or is no mapping."""
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of a training's parts: method, encoder, data, epochs, …")
    return raw


def refuse_sweep(path: str | Path) -> None:
    """ConfigError where a file is a sweep, many trainings, and not one; or cannot be read."""
    found = [key for key in _OF_A_SWEEP if key in read_mapping(path)]
    if found:
        raise ConfigError(
            f"{path}: is a sweep file (it has `{found[0]}`); `harness run {path}` runs it. "
            "A training's file holds what a sweep has under `base`"
        )


def _lay_over(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *parts, last = key.split(".")
    if not equals or not all((*parts, last)):
        raise ConfigError(f"--set {override}: write a.b=c")
    for part in parts:
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {override}: {part} is a value, {raw!r}, and has no keys")
    try:
        raw[last] = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: {value!r} is not YAML") from None


def _explain(error: ErrorDetails) -> str:
    """`key: what is wrong`, with a near key for one that is not known."""
    loc = [str(part) for part in error["loc"]]
    if loc[:1] == ["method"] and len(loc) > 2:
        del loc[1]  # the tag of the union of methods: no key of the file
    where, says = ".".join(loc) or "the config", error["msg"].removeprefix("Value error, ")
    if error["type"] != "extra_forbidden":
        return f"{where}: {says[0].lower()}{says[1:]}"
    part = TrainConfig() if len(loc) == 1 else getattr(TrainConfig(), loc[0])
    return f"{where}: unknown key{nearest(loc[-1], list(type(part).model_fields))}"
