"""The sweep file as a JSON Schema, from the models that read it, so that editors complete and check it.

A schema cannot say what belongs together (slices to LeJEPA alone, a contrast to one encoder): `harness plan` does. What
it says in words of a field is the comment beside that field in its model.
"""

import ast
import inspect
import json
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any, get_args

from pydantic import BaseModel

from harness.check import NOT_IN_BASE
from harness.space import KINDS
from harness.spec import NOT_A_FACTOR, SweepSpec
from lejepa.config import TrainConfig

Schema = dict[str, Any]

_RESOLVED = frozenset({"profile"})  # what only a resolved sweep has
_SEED = {"type": "integer", "minimum": 0}
_SEEDS = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": _SEED, "minItems": 1}]}
_EXTENDS = {
    "type": "string",
    "minLength": 1,
    "description": "A sweep file (a path beside this one) or a shipped sweep, over which this one is laid, profiles "
    "included; `name` is given anew.",
}
_WHEN = {
    "type": "object",
    "minProperties": 1,
    "description": "Path → the value, or values, with which the parameter exists: another parameter, a path into the "
    "config, or arm.",
}
_SPACES = [
    {
        "type": "object",
        "properties": {kind: {"type": "array"}, "when": _WHEN},
        "required": [kind],
        "additionalProperties": False,
    }
    for kind in KINDS
]


def schema() -> Schema:
    """JSON Schema, draft 2020-12, of a sweep file."""
    models = _models(SweepSpec) | _models(TrainConfig)
    parts = {name: _told(model) for name, model in models.items()}
    training = parts.pop("TrainConfig")
    training["properties"] = {key: value for key, value in training["properties"].items() if key not in NOT_IN_BASE}
    sweep = parts.pop("SweepSpec")
    sweep["properties"] = {key: value for key, value in sweep["properties"].items() if key not in _RESOLVED}
    parts["Space"] = {"anyOf": [*_SPACES, {"type": "null"}]}
    factors = {
        "type": "object",
        "additionalProperties": _ref("Space"),
        "propertyNames": {"enum": _paths(parts, training)},
    }
    for owner in (sweep, parts["Arm"]):
        for key, part in (("base", "Training"), ("scientific", "Factors"), ("nuisance", "Factors")):
            _says(owner, key, _ref(part))
    for owner in (sweep, parts["Confirm"]):
        _says(owner, "seeds", _SEEDS)
    _says(sweep, "arms", {"type": "object", "additionalProperties": {"anyOf": [_ref("Arm"), {"type": "null"}]}})
    overlay = {**sweep, "properties": {key: _or_null(value) for key, value in sweep["properties"].items()}}
    profiles = {
        "type": "object",
        "additionalProperties": _ref("Profile"),
        "description": "Named changes to the file, chosen with --profile.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep: one question, and the design that answers it",
        **sweep,
        "properties": {**sweep["properties"], "extends": _EXTENDS, "profiles": profiles},
        "required": ["name"],
        "$defs": {**parts, "Training": training, "Factors": factors, "Profile": overlay},
    }


def text() -> str:
    """The schema as it is shipped beside the sweeps."""
    return json.dumps(schema(), indent=1, ensure_ascii=False)


def _told(model: type[BaseModel]) -> Schema:
    """One model alone: its fields with their comments, none of them required, as a profile may give any."""
    raw = model.model_json_schema()
    told = {"type": "object", "description": raw.get("description", "").split("\n")[0], "additionalProperties": False}
    comments = _comments(model)
    properties = {}
    for name, field in raw.get("properties", {}).items():
        kept = {key: value for key, value in _untitled(field).items() if key != "discriminator"}
        if "oneOf" in kept:  # a method without its name fits several
            kept["anyOf"] = kept.pop("oneOf")
        properties[name] = kept | ({"description": comments[name]} if name in comments else {})
    return {**told, "properties": properties}


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """Field → the comment on its line, or on the lines just above."""
    source = textwrap.dedent(inspect.getsource(model))
    tokens = list(tokenize.generate_tokens(StringIO(source).readline))
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    alone = {t.start[0] for t in tokens if t.type == tokenize.COMMENT and not t.line[: t.start[1]].strip()}
    found = {}
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = node.lineno
            while above - 1 in alone:
                above -= 1
            lines = [comments[line] for line in range(above, node.lineno)]
            lines += [comments[node.end_lineno]] if node.end_lineno in comments else []
            if lines:
                found[node.target.id] = " ".join(lines)
    return found


def _models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """A model and all that its fields hold, by name."""
    found = {model.__name__: model}
    for field in model.model_fields.values():
        for inner in _inside(field.annotation):
            found |= _models(inner)
    return found


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inside(argument)


def _paths(parts: Mapping[str, Schema], training: Schema) -> list[str]:
    """Dotted paths of everything that may be a parameter."""
    found: dict[str, None] = {}

    def walk(fields: Mapping[str, Schema], prefix: str) -> None:
        for name, field in fields.items():
            found[f"{prefix}{name}"] = None
            for choice in (field, *field.get("anyOf", ())):
                if "$ref" in choice:
                    walk(parts[choice["$ref"].rpartition("/")[2]]["properties"], f"{prefix}{name}.")

    walk(training["properties"], "")
    return [path for path in found if path not in NOT_A_FACTOR]


def _says(owner: Schema, key: str, what: Schema) -> None:
    """Put another type in a field's place; its description stays."""
    description = owner["properties"][key].get("description")
    owner["properties"][key] = what | ({"description": description} if description else {})


def _or_null(field: Schema) -> Schema:
    return {"anyOf": [field, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _untitled(raw: Any) -> Any:
    """Without the titles, which only repeat the keys."""
    if isinstance(raw, list):
        return [_untitled(item) for item in raw]
    if not isinstance(raw, dict):
        return raw
    return {key: _untitled(value) for key, value in raw.items() if not (key == "title" and isinstance(value, str))}
