"""YAML with the place of every value, and how one document is laid over another.

`read` gives plain values and `Places`: path of keys → where that key was written (`file:line`, or the `--set`), so
that an error found long after parsing still names its line.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lejepa import documents
from lejepa.config import TrainConfig
from lejepa.documents import FLOAT, DocumentError, Places
from lejepa.documents import KeyPath as KeyPath
from lejepa.documents import dotted as dotted


class SpecError(DocumentError):
    """A sweep file, or what was laid over it, is wrong. The text is the user's message: `place: key: what; remedy`."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes words which only YAML 1.2 takes for numbers: both readings get the same document."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(FLOAT), list("-+.0123456789"))


def read(text: str, name: str) -> tuple[Any, Places]:
    """Parse one document. `name` stands before the line in places. SpecError where it is not YAML or repeats a key."""
    try:
        return documents.read(text, name)
    except DocumentError as error:
        raise SpecError(str(error)) from None


def write(value: Any) -> str:
    """One YAML document that `read` and plain `yaml.safe_load` both read back to the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


# -- laying one document over another -------------------------------------------------------------------------------

_DEFAULT_NAMES = {
    part: field.default.name for part, field in TrainConfig.model_fields.items() if hasattr(field.default, "name")
}
_REPLACED = ("scientific", "nuisance")


def lay_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` deep-merged over `under`. Lists and spaces are replaced; a part whose `name` changes starts afresh.

    null takes back a parameter or an arm that is there.
    """
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        if not (isinstance(value, Mapping) and isinstance(below, Mapping)):
            merged[key] = value
        elif key in _REPLACED:
            merged[key] = _taken_back({**below, **value}, below, value)  # factor by factor: a space has one kind
        elif key == "arms":
            merged[key] = _taken_back(lay_over(below, value), below, value)
        elif "name" in value and value["name"] != below.get("name", _DEFAULT_NAMES.get(key, value["name"])):
            merged[key] = dict(value)
        else:
            merged[key] = lay_over(below, value)
    return merged


def _taken_back(merged: Mapping[str, Any], under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in merged.items() if not (key in under and key in over and over[key] is None)}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """{"method.lamb": 0.1} → {"method": {"lamb": 0.1}}."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, leaf = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    return tree


def place_of(places: Places, path: Sequence[str | int]) -> str:
    """Where the path was written, or the nearest of its parents."""
    for end in range(len(path), -1, -1):
        if tuple(path[:end]) in places:
            return places[tuple(path[:end])]
    return next(iter(places.values()), "the sweep")
