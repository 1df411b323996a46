"""The reference part of docs/sweeps.md: every key with its type, default and meaning, from the sweep file's schema."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from harness.schema import Schema, schema
from harness.search_config import SEEDS

BEGIN, END = "<!-- keys: from the models, by harness schema --markdown -->", "<!-- end of keys -->"
_FILE = "The file"
_DEFAULTS = {  # where the model's own is worked out, or is written otherwise
    (_FILE, "seeds"): f"`{len(SEEDS)}`",
    (_FILE, "arms"): "one",
    (_FILE, "confirm"): "`{top: 1}` where something is searched",
    ("`search`", "trials"): "`16`",
    ("`confirm`", "seeds"): "those of the sweep",
    ("`pool`", "ranks"): "`gpus`, at least 1",
    ("`pool`", "max_concurrent"): "cores / cpus",
    ("`metric`", "mode"): "of the name",
}
_PARTS = ("Search", "Stopping", "Confirm", "Metric", "Budget", "Pool", "Place", "Cluster", "Arm")
_OPEN = {"Training": "a TrainConfig by its parts", "Factors": "parameter → space", "Profile": "keys of this file"}
_WORDS = {"integer": "whole number", "string": "text", "boolean": "true or false"}


def markdown() -> str:
    """A table for the file, then one for each of its parts, then one for each part of a training."""
    whole = schema()
    parts: dict[str, Schema] = whole["$defs"]
    blocks = [_table(_FILE, whole, set(whole["required"]))]
    blocks += [_table(f"`{_key_of(whole, name)}`", parts[name]) for name in _PARTS if name in parts]
    training = parts["Training"]
    blocks.append(_table("`base`", training))
    seen: set[str] = set()
    for key, field in training["properties"].items():
        blocks += _parts_of(f"base.{key}", field, parts, seen)
    return "\n\n".join(blocks)


def replaced(page: str) -> str:
    """A page with what stands between its markers made anew. ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no place for the keys: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{markdown()}\n\n{END}{after}"


def _parts_of(path: str, field: Schema, parts: Mapping[str, Schema], seen: set[str]) -> Iterator[str]:
    """The tables of what a field may hold, each followed by those of its own parts; each part once."""
    choices = _all_refs(field)
    for name in choices:
        if name not in seen:
            seen.add(name)
            yield _table(_heading(path, parts[name], alone=len(choices) == 1), parts[name])
            for key, inner in parts[name]["properties"].items():
                yield from _parts_of(f"{path}.{key}", inner, parts, seen)


def _heading(path: str, part: Schema, alone: bool) -> str:
    """Where the part stands; of several that may stand there, by the name that chooses it."""
    chosen_by = part["properties"].get("name", {})
    if alone:
        return f"`{path}`"
    return f"`{path}`, `{chosen_by['const']}`" if "const" in chosen_by else f"Mappings in `{path.rpartition('.')[0]}`"


def _table(heading: str, part: Schema, required: Collection[str] = ()) -> str:
    lines = [f"### {heading}", ""]
    if (about := part.get("description")) and heading != _FILE:
        lines += [about, ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in part["properties"].items():
        default = "required" if key in required else _DEFAULTS.get((heading, key)) or _default(field)
        cells = (f"`{key}`", _type(field), default, field.get("description", ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _key_of(whole: Schema, name: str) -> str:
    """The key of the file that holds a part."""
    keys = [key for key, field in whole["properties"].items() if name in _all_refs(field)]
    return keys[0] if keys else name.lower()


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    default = field["default"]
    if default is None:
        return "none"
    if default == "":
        return "empty"
    if isinstance(default, dict) and default and _all_refs(field):
        return "see below"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _type(field: Schema) -> str:
    kinds = dict.fromkeys(_types(field))
    return " or ".join(kind for kind in kinds if kind != "null") or "anything"


def _types(field: Schema) -> Iterator[str]:
    if "anyOf" in field:
        for choice in field["anyOf"]:
            yield from _types(choice)
    elif "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        yield _OPEN.get(name, "mapping, see below")
    elif "enum" in field or "const" in field:
        yield " or ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    else:
        yield _plain(field)


def _plain(field: Schema) -> str:
    kind: str = field.get("type", "")
    if kind == "array":
        inner = field.get("items") or {}
        return f"list of {_type(inner)}" if inner else "list"
    if kind == "object":
        values = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None)
        return f"name → {_type(values)}" if isinstance(values, dict) else "mapping"
    return " ".join([_WORDS.get(kind, kind), *_bounds(field)]).strip()


def _bounds(field: Schema) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[name]:,}" for name, sign in signs.items() if name in field]
    return [", ".join(found)] if found else []


def _all_refs(field: Any) -> list[str]:
    if isinstance(field, list):
        return [ref for item in field for ref in _all_refs(item)]
    if not isinstance(field, dict):
        return []
    here = [field["$ref"].rpartition("/")[2]] if "$ref" in field else []
    return here + [ref for value in field.values() for ref in _all_refs(value)]
