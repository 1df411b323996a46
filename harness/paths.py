"""What rules and conditions of a sweep may name: a dotted path into a TrainConfig, of whatever method, or `arm`."""

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from lejepa.config import TrainConfig

ARM = "arm"


@cache
def known_paths() -> frozenset[str]:
    return frozenset({ARM, *_walk(TrainConfig)})


def _walk(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield name
            yield from (f"{name}.{inner}" for inner in _walk(field.annotation))
    for argument in get_args(annotation):
        yield from _walk(argument)
