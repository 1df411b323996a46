"""A TrainConfig from a YAML file of its parts, with `a.b=c` laid over it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lejepa.config import TrainConfig, nearest
from lejepa.documents import DocumentError, names_first, read

_OF_A_SWEEP = ("base", "scientific", "nuisance", "arms")


class ConfigError(DocumentError):
    """A config file, or what was laid over it, is wrong. The text is one line for users."""


def read_config(path: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """One training. No path: the defaults. Raises ConfigError."""
    raw = {} if path is None else read_mapping(path)
    if path is not None:
        refuse_sweep(path)
    for override in names_first(overrides):
        raw = _lay_over(raw, _parse(override))
    if isinstance(raw.get("method"), dict):
        raw["method"].setdefault("name", _default_name("method"))
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path or '--set'}: {explain(error)}") from None


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The plain values of a YAML file. ConfigError where it cannot be read or is no mapping."""
    try:
        raw = _read(Path(path).read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of a training's parts: method, encoder, data, epochs, …")
    return raw


def _read(text: str, name: str) -> Any:
    try:
        return read(text, name)[0]
    except DocumentError as error:
        raise ConfigError(str(error)) from None


def refuse_sweep(path: str | Path) -> None:
    """ConfigError where a file is a sweep, many trainings, and not one; or cannot be read."""
    found = [key for key in _OF_A_SWEEP if key in read_mapping(path)]
    if found:
        raise ConfigError(
            f"{path}: is a sweep file (it has `{found[0]}`); `harness run {path}` runs it. "
            "A training's file holds what a sweep has under `base`"
        )


def _parse(override: str) -> dict[str, Any]:
    """`a.b=c` → {"a": {"b": c}}, with c read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override}: write a.b=c")
    value = _read(text, f"--set {override}")
    for part in reversed(key.split(".")):
        value = {part: value}
    laid: dict[str, Any] = value
    return laid


def _lay_over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` merged over `under`; a part whose `name` changes starts afresh, as its keys belong to the other."""
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        if not (isinstance(value, dict) and isinstance(below, dict)):
            merged[key] = value
        elif "name" in value and value["name"] != below.get("name", _default_name(key)):
            merged[key] = dict(value)
        else:
            merged[key] = _lay_over(below, value)
    return merged


def _default_name(part: str) -> Any:
    field = TrainConfig.model_fields.get(part)
    return getattr(field.default, "name", None) if field else None


def explain(wrong: ValidationError) -> str:
    """`key: what is wrong`, with a near key for one that is not known."""
    error = wrong.errors()[0]
    loc, says = [str(part) for part in error["loc"]], error["msg"].removeprefix("Value error, ")
    if says.split()[0].istitle():  # a name, such as LiDAR, stays as it is
        says = f"{says[0].lower()}{says[1:]}"
    if error["type"] == "extra_forbidden":
        part = TrainConfig() if len(loc) == 1 else getattr(TrainConfig(), loc[0])
        says = f"unknown key{nearest(loc[-1], list(type(part).model_fields))}"
    if loc[0:1] == ["method"] and len(loc) > 2:  # which method it is stands in the place, and is no key of the file
        method = loc.pop(1)
        says = f"unknown key of {method}" if error["type"] == "extra_forbidden" else says
    return f"{'.'.join(loc) or 'the config'}: {says}"
