"""YAML 1.2's plain values from a text, with the place of every one. A key that is given twice is refused.

Scalars follow YAML 1.2: `1e-3` is a number, `on` is a word (it is a key of the probe), and dates are words.
"""

import re
from collections.abc import Sequence
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
Places = dict[KeyPath, str]  # path of keys → where that key was written (`file:line`)


class DocumentError(Exception):
    """A document that cannot be read. The text is the user's message: `place: key: what; remedy`."""

    def __init__(self, message: str) -> None:  # one line, whatever a name or a value holds
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own protocol)


_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
_SCALARS = [  # order matters: the first that matches decides
    ("tag:yaml.org,2002:null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+$", list("-+0123456789")),
    ("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789")),
]
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))  # 010 is ten


def read(text: str, name: str) -> tuple[Any, Places]:
    """Parse one document. `name` stands before the line in places. DocumentError: no YAML, or a key twice."""
    places: Places = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else _plain(loader, node, (), name, places)), places
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"{name}:{mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise DocumentError(f"{place}: not valid YAML: {problem}; check indentation, colons and brackets") from None
    except UnicodeError as error:
        raise DocumentError(f"{name}: not valid YAML: a word holds half a character ({error}); write it out") from None
    except RecursionError:
        raise DocumentError(f"{name}: nested too deeply; an alias that holds itself?") from None


def _plain(loader: _Loader, node: yaml.Node, path: KeyPath, name: str, places: Places) -> Any:
    places.setdefault(path, f"{name}:{node.start_mark.line + 1}")
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
        raise DocumentError(f"{places[path]}: {dotted(path)}: is tagged {node.tag}; write a plain value")
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, name, places)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, child, (*path, i), name, places) for i, child in enumerate(node.value)]
    try:
        return _whole(loader.construct_object(node))
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or error
        raise DocumentError(f"{places[path]}: {dotted(path)}: {problem}; write a plain value") from None


def _mapping(loader: _Loader, node: yaml.MappingNode, path: KeyPath, name: str, places: Places) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise DocumentError(f"{name}:{key_node.start_mark.line + 1}: {dotted(path)}: a key must be one word")
        key, here = _whole(str(key_node.value)), f"{name}:{key_node.start_mark.line + 1}"
        if key in values:
            first = places[(*path, key)]
            raise DocumentError(f"{here}: {dotted((*path, key))}: given twice, first at {first}; keep one")
        places[(*path, key)] = here
        values[key] = _plain(loader, value_node, (*path, key), name, places)
    return values


def _whole(value: Any) -> Any:
    """Words with their surrogate pairs joined, as JSON escapes them and PyYAML leaves them. ValueError on a half."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16") if isinstance(value, str) else value


def dotted(path: Sequence[str | int]) -> str:
    return ".".join(map(str, path)) or "the document"


def names_first(overrides: Sequence[str]) -> list[str]:
    """`a.b=c` overrides, those of a part's `name` before the others: a part starts afresh where its name changes."""
    return sorted(overrides, key=lambda override: override.partition("=")[0].rpartition(".")[2] != "name")
