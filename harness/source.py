"""YAML with the place of every value, and how one document is laid over another.

`read` gives plain values and `Places`: path of keys → where that key was written (`file:line`, or the `--set`), so
that an error found long after parsing still names its line. Scalars follow YAML 1.2: `1e-3` is a number, `on` is a
word (it is a key of the probe), and dates are words.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lejepa.config import TrainConfig

KeyPath = tuple[str | int, ...]
Places = dict[KeyPath, str]


class SpecError(Exception):
    """A sweep file, or what was laid over it, is wrong. The text is the user's message: `place: key: what; remedy`."""

    def __init__(self, message: str) -> None:  # one line, whatever a name or a value holds
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own protocol)


_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
_SCALARS = [  # order matters: the first that matches decides
    ("tag:yaml.org,2002:null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+$", list("-+0123456789")),
    ("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789")),
]
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))  # 010 is ten


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes words which only YAML 1.2 takes for numbers: both readings get the same document."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+.0123456789"))


def read(text: str, name: str) -> tuple[Any, Places]:
    """Parse one document. `name` stands before the line in places. SpecError where it is not YAML or repeats a key."""
    places: Places = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else _plain(loader, node, (), name, places)), places
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"{name}:{mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise SpecError(f"{place}: not valid YAML: {problem}; check indentation, colons and brackets") from None
    except UnicodeError as error:
        raise SpecError(f"{name}: not valid YAML: a word holds half a character ({error}); write it out") from None
    except RecursionError:
        raise SpecError(f"{name}: nested too deeply; an alias that holds itself?") from None


def _plain(loader: _Loader, node: yaml.Node, path: KeyPath, name: str, places: Places) -> Any:
    places.setdefault(path, f"{name}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, name, places)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, child, (*path, i), name, places) for i, child in enumerate(node.value)]
    try:
        return _whole(loader.construct_object(node))
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or error
        raise SpecError(f"{places[path]}: {dotted(path)}: {problem}; write a plain value") from None


def _mapping(loader: _Loader, node: yaml.MappingNode, path: KeyPath, name: str, places: Places) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise SpecError(f"{name}:{key_node.start_mark.line + 1}: {dotted(path)}: a key must be one word")
        key, here = _whole(str(key_node.value)), f"{name}:{key_node.start_mark.line + 1}"
        if key in values:
            first = places[(*path, key)]
            raise SpecError(f"{here}: {dotted((*path, key))}: given twice, first at {first}; keep one")
        places[(*path, key)] = here
        values[key] = _plain(loader, value_node, (*path, key), name, places)
    return values


def _whole(value: Any) -> Any:
    """Words with their surrogate pairs joined, as JSON escapes them and PyYAML leaves them. ValueError on a half."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16") if isinstance(value, str) else value


def write(value: Any) -> str:
    """One YAML document that `read` and plain `yaml.safe_load` both read back to the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def dotted(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path)) or "the document"


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
