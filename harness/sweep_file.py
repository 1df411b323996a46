"""From a sweep file to a SweepSpec: file → profile over it → `--set` over that → SweepSpec → every cell's TrainConfig
constructed once. What is wrong anywhere on this way is a SpecError with place, key, reason and remedy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.source import Places, SpecError, dotted, lay_over, place_of, read
from harness.space import KINDS
from lejepa.config import DataConfig, TrainConfig, nearest
from lejepa.documents import names_first

if TYPE_CHECKING:
    from harness.spec import SweepSpec

_SHIPPED = Path(__file__).resolve().parent.parent / "sweeps"  # installed beside this package


def load_sweep(path: str | os.PathLike[str], profile: str | None = None, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file, lay a profile and `a.b=c` overrides over it, and check all of it.

    `path` is a file, or the name of a sweep that is shipped (`quickstart`, `sweeps/quickstart.yaml`).
    Raises SpecError.
    """
    from harness.check import check_design, explain
    from harness.spec import SweepSpec

    raw, places = _read_extended(path)
    raw, places = _with_profile(raw, places, profile)
    for override in names_first(overrides):
        raw, places = _with_override(raw, places, override)
    try:
        spec = SweepSpec.model_validate(_with_data_roots(raw))
    except ValidationError as error:
        raise SpecError(explain(error, SweepSpec, raw, places)) from None
    check_design(spec, places)
    return spec


def _with_data_roots(raw: dict[str, Any]) -> dict[str, Any]:
    """Data sets with the folder in which they lie now, so that a resume finds them from anywhere."""
    arms = raw.get("arms")
    if isinstance(arms, Mapping):
        arms = {name: _rooted(arm) if isinstance(arm, Mapping) else arm for name, arm in arms.items()}
    return _rooted(raw) | ({"arms": arms} if "arms" in raw else {})


def _rooted(part: Mapping[str, Any]) -> dict[str, Any]:
    base = part.get("base")
    data = base.get("data") if isinstance(base, Mapping) else None
    if not (isinstance(base, Mapping) and isinstance(data, Mapping) and isinstance(data.get("name"), str)):
        return dict(part)
    try:
        root = DataConfig.model_validate(data).root
    except ValidationError:
        return dict(part)  # refused in a moment, with its place
    return {**part, "base": {**base, "data": {**data, **({"root": str(root)} if root else {})}}}


def load_training(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """One TrainConfig from a file of its parts and `a.b=c` overrides, for a training without a sweep. SpecError."""
    from harness.check import explain
    from harness.spec import train_config

    raw, places = ({}, {}) if path is None else _read_mapping(path)
    for override in names_first(overrides):
        raw, places = _with_override(raw, places, override)
    try:
        return train_config(raw)
    except ValidationError as error:
        raise SpecError(explain(error, TrainConfig, raw, places)) from None


def _read_mapping(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Places]:
    name = os.fspath(path)
    raw, places = read(_text(name), name)
    if not isinstance(raw, dict):
        raise SpecError(f"{name}:1: the document: must be a mapping of keys; see docs/sweeps.md")
    return raw, places


def _read_extended(path: str | os.PathLike[str], seen: tuple[str, ...] = ()) -> tuple[dict[str, Any], Places]:
    """A sweep file laid over the one that its `extends` names: a file beside it, or a shipped sweep."""
    raw, places = _read_mapping(path)
    if "extends" not in raw:
        return raw, places
    where, other = f"{place_of(places, ('extends',))}: extends", raw.pop("extends")
    if not isinstance(other, str) or not other:
        raise SpecError(f"{where}: names one sweep file or shipped sweep, not {other!r}; write `extends: lambda`")
    if "name" not in raw:
        raise SpecError(f"{where}: a sweep that extends another needs a `name` of its own")
    beside = Path(path).parent / other
    name, before = str(beside) if beside.is_file() else other, (*seen, os.fspath(path))
    if any(_same_file(name, earlier) for earlier in before):
        raise SpecError(f"{where}: goes round in a circle: {' → '.join((*before, name))}")
    try:
        under, below = _read_extended(name, before)
    except SpecError as error:
        if Path(name).is_file():
            raise
        raise SpecError(f"{where}: {error}") from None
    return lay_over(under, raw), {**below, **places}


def _same_file(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _shipped() -> dict[str, Path]:
    """Name → file: `quickstart`, `paper/t7_lambda_views`."""
    files = sorted(_SHIPPED.glob("*.yaml")) + sorted(_SHIPPED.glob("paper/*.yaml"))
    return {file.relative_to(_SHIPPED).with_suffix("").as_posix(): file for file in files if file.stem != "published"}


def _text(name: str) -> str:
    file, shipped = Path(name), _shipped()
    wanted = name.removeprefix("sweeps/").removesuffix(".yaml")
    try:
        if file.is_dir():
            raise SpecError(f"{name}: is a folder; name the sweep file in it")
        if not file.is_file() and wanted not in shipped:
            hint = nearest(wanted, list(shipped)) or f"; shipped are {', '.join(shipped)}"
            raise SpecError(f"{name}: there is no such file{hint}")
        return (file if file.is_file() else shipped[wanted]).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
        raise SpecError(f"{name}: cannot be read: {error}") from None


def _with_profile(raw: dict[str, Any], places: Places, profile: str | None) -> tuple[dict[str, Any], Places]:
    if "profiles" not in raw:
        if profile is not None:
            raise SpecError(f"{place_of(places, ())}: profiles: there is no profile {profile!r}, the file has none")
        return raw, places
    profiles, where = raw["profiles"], place_of(places, ("profiles",))
    if not isinstance(profiles, dict) or not all(isinstance(value, dict) for value in profiles.values()):
        raise SpecError(f"{where}: profiles: each profile is a mapping of sweep keys; write `gpu: {{base: {{…}}}}`")
    if "profile" in raw:
        raise SpecError(f"{place_of(places, ('profile',))}: profile: choose one with --profile, not in the file")
    rest = {key: value for key, value in raw.items() if key != "profiles"}
    if profile is None:
        return rest, places
    if profile not in profiles:
        hint = nearest(profile, list(profiles)) or f"; there are {', '.join(profiles)}"
        raise SpecError(f"{where}: profiles: there is no profile {profile!r}{hint}")
    moved = {path[2:]: place for path, place in places.items() if path[:2] == ("profiles", profile) and len(path) > 2}
    return {**lay_over(rest, profiles[profile]), "profile": profile}, {**places, **moved}


def _with_override(raw: dict[str, Any], places: Places, override: str) -> tuple[dict[str, Any], Places]:
    place = f"--set {override}"
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise SpecError(f"{place}: an override is a dotted key, `=` and a value; write --set base.epochs=5")
    if key.split(".")[0] in ("profile", "profiles"):
        raise SpecError(f"{place}: {key}: a profile is chosen with --profile")
    path = _override_path(key, raw)
    value, inner = read(text, place)
    tree: Any = value
    for part in reversed(path):
        tree = {part: tree}
    # a list laid over a longer one leaves no places of the old one behind
    kept = {at: where for at, where in places.items() if at[: len(path)] != path}
    return lay_over(raw, tree), {**kept, **{(*path, *at): place for at in inner}, path: place}


def _override_path(key: str, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """`scientific.method.lamb.grid` → (scientific, method.lamb, grid): the dots of parameters and arms do not split."""
    parts = tuple(key.split("."))
    if parts[0] == "arms" and len(parts) > 1:
        rest = key.removeprefix("arms.")
        arms = raw.get("arms")
        known = [
            arm for arm in (arms if isinstance(arms, Mapping) else ()) if rest == arm or rest.startswith(f"{arm}.")
        ]
        arm = max(known, key=len, default=parts[1])
        inner = rest.removeprefix(arm).removeprefix(".")
        return ("arms", arm, *(_override_path(inner, {}) if inner else ()))
    if parts[0] not in ("scientific", "nuisance") or len(parts) == 1:
        return parts
    if parts[-1] in KINDS and len(parts) > 2:
        return (parts[0], dotted(parts[1:-1]), parts[-1])
    return (parts[0], dotted(parts[1:]))
