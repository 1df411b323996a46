"""The JSON Schema of a sweep file, against the files that are shipped and the models that read them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.reference import BEGIN, END, markdown, replaced
from harness.schema import schema, text
from harness.source import read
from harness.space import KINDS

SWEEPS = Path(__file__).parents[2] / "sweeps"
VALIDATOR = jsonschema.Draft202012Validator(schema())


def errors(document: Any) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(document)]


def test_the_shipped_schema_is_that_of_this_code() -> None:
    shipped = (SWEEPS / "sweep.schema.json").read_text(encoding="utf-8")
    assert shipped == text() + "\n", "run: harness schema > sweeps/sweep.schema.json"
    jsonschema.Draft202012Validator.check_schema(json.loads(shipped))


@pytest.mark.parametrize("path", sorted(SWEEPS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_fits_it_and_names_it(path: Path) -> None:
    document, _ = read(path.read_text(encoding="utf-8"), path.name)
    if "scientific" not in document and "base" not in document:
        pytest.skip("data, not a sweep")
    assert errors(document) == []


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"name": "x", "sceintific": {}}, "$"),
        ({"name": "x", "base": {"optimizer": {"learning_rate": 1}}}, "$.base.optimizer"),
        ({"name": "x", "base": {"seed": 1}}, "$.base"),
        ({"name": "x", "scientific": {"method.lamda": {"grid": [1]}}}, "$.scientific"),
        ({"name": "x", "scientific": {"method.lamb": {"gird": [1]}}}, "$.scientific['method.lamb']"),
        ({"name": "x", "seeds": 0}, "$.seeds"),
        ({"name": "x", "metric": {"mode": "maximum"}}, "$.metric.mode"),
        ({"question": "Which?"}, "$"),
        ({"name": "x", "profiles": {"gpu": {"profiles": {}}}}, "$.profiles.gpu"),
    ],
)
def test_it_finds_what_is_wrong_where_it_stands(document: dict[str, Any], where: str) -> None:
    assert errors(document) == [where]


def test_what_it_says_of_a_field_is_the_comment_beside_it() -> None:
    fields = schema()["$defs"]["OptimizerConfig"]["properties"]
    assert fields["lr"]["description"] == "peak learning rate"


def test_a_part_of_a_method_without_its_name_fits() -> None:
    assert errors({"name": "x", "arms": {"a": {"base": {"method": {"lamb": 0.1}}}, "b": None}, "seeds": [4, 5]}) == []


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_has_the_keys_of_this_code() -> None:
    page = (SWEEPS.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
    assert page == replaced(page), "run: harness schema --markdown docs/sweeps.md"


def test_every_key_of_the_file_and_of_a_training_has_a_row_and_none_is_without_a_type() -> None:
    rows = [line.split(" | ") for line in markdown().splitlines() if line.startswith("| `")]
    named = {row[0].strip("| `") for row in rows}
    models = [schema(), *schema()["$defs"].values()]
    keys = {key for model in models for key in model.get("properties", {})} - {"when", *KINDS}
    assert keys <= named
    assert all(row[1] not in ("", "anything") for row in rows)


def test_a_page_without_a_place_for_the_keys_is_refused() -> None:
    assert replaced(f"before {BEGIN} old {END} after").startswith(f"before {BEGIN}\n\n### The file")
    with pytest.raises(ValueError, match="no place for the keys"):
        replaced("a page")
