"""The published numbers: whole, consistent with themselves and with the facts, and refused where they are not."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.sweep_file import load_sweep
from reports.placing import agrees, coordinate, metric_of, published_setting, reaches
from reports.published import FILE, PublishedError, PublishedTable, load_published
from reports.sections.paper_cells import differences
from reports.shapes import near_best, published_change

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "paper_tables.json"
PUBLISHED = load_published()
COUNTS = {  # cells of the paper's tables
    "T1a": 18, "T1b": 11, "T1c": 4, "T1d": 20, "T1e": 10, "T2": 54, "T2-ijepa": 54, "T2-ijepa-22k": 27,
    "T3-frozen": 28, "T3-finetuned": 28, "T3-frozen-dino": 14, "T3-finetuned-dino": 14, "T4": 36, "T5": 30,
    "T5-transfer": 6, "T6": 18, "T7": 26,
}  # fmt: skip


def value(cell: str) -> float:
    return PUBLISHED.cells[cell].value


@pytest.fixture(scope="module")
def raw() -> dict:
    """The file without most of its tables."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return document | {"tables": {name: document["tables"][name] for name in ("T4", "T7")}, "reproductions": []}


def written(tmp_path: Path, document: dict) -> Path:
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


# -- whole ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "cells"), COUNTS.items())
def test_every_table_has_all_its_cells(table, cells):
    assert len(PUBLISHED.table(table).cells) == cells


def test_every_cell_has_an_id_of_its_own_and_says_what_it_is_and_where_it_is_from():
    cells = [cell for table in PUBLISHED.tables for cell in table.cells]
    assert len({cell.id for cell in cells}) == len(cells)
    for cell in cells:
        assert set(cell.about) == {"data", "split", "architecture", "epochs", "metric"}
        assert all(cell.about.values())
        assert "row" in cell.source
        assert "column" in cell.source
    t7 = PUBLISHED.cells["t7/V8/lamb0.05"]
    assert (t7.value, t7.about["data"], t7.about["architecture"], t7.about["epochs"]) == (
        84.32, "ImageNet-100", "ResNet-50", 400,
    )  # fmt: skip
    assert t7.source == "Table 7, row 8, column 0.05; arXiv 2511.08544v3"


def test_no_percentage_lies_outside_0_to_100_and_no_correlation_outside_1():
    for table in PUBLISHED.tables:
        largest = {"%": 100, "% Spearman": 100, "Spearman": 1, "ms": np.inf}[table.unit]
        assert all(0 <= cell.value <= largest for cell in table.cells)


def test_the_averages_of_t2_are_those_of_their_eight_data_sets():
    for name in ("T2", "T2-ijepa", "T2-ijepa-22k"):
        table = PUBLISHED.table(name)
        rows = {(cell.at["shots"], cell.at["architecture"]) for cell in table.cells}
        assert len(rows) == {"T2": 6, "T2-ijepa": 6, "T2-ijepa-22k": 3}[name]
        for shots, model in rows:
            mine = {
                cell.at["data"]: cell.value for cell in table.cells
                if (cell.at["shots"], cell.at["architecture"]) == (shots, model)
            }  # fmt: skip
            average = mine.pop("avg")
            assert len(mine) == 8
            assert np.mean(list(mine.values())) == pytest.approx(average, abs=0.0051)


def test_the_tolerance_is_the_distance_of_two_cells_that_should_be_equal():
    of_t1 = [cell.value for table in PUBLISHED.tables if table.id.startswith("T1") for cell in table.cells]
    assert {73.94, 75.14} <= set(of_t1)
    tolerance = PUBLISHED.table("T1d").tolerance
    assert tolerance is not None
    assert tolerance.points == pytest.approx(75.14 - 73.94)


def test_t3_and_t5_repeat_cells_within_the_tolerance():
    apart = [
        abs(value(f"t3-frozen/{model}/all") - value(f"t5/{model}/galaxy10"))
        for model in ("convnextv2_nano", "resnet18", "resnet34")
    ]
    assert all(0.4 < one < 1.2 for one in apart)


def test_the_optima_of_t7_grow_with_the_number_of_views():
    cells = PUBLISHED.table("T7").cells
    best = {v: max((c for c in cells if c.at["V"] == v), key=lambda c: c.value).at["lamb"] for v in (2, 4, 8)}
    assert best == {2: 0.01, 4: 0.02, 8: 0.05}
    assert near_best({c.at["lamb"]: c.value for c in cells if c.at["V"] == 8}, 1.2) == [0.01, 0.02, 0.025, 0.05, 0.1]


@pytest.mark.parametrize("table", [t for t in PUBLISHED.tables if t.shapes], ids=lambda table: table.id)
def test_the_paper_has_the_directions_that_are_asked_of_others(table: PublishedTable):
    for shape in table.shapes:
        columns: dict = {}
        for cell in table.cells:
            rest = {axis: at for axis, at in cell.at.items() if axis != shape.axis}
            if all(rest[axis] == at for axis, at in shape.at.items()):
                columns.setdefault(tuple(rest.values()), []).append(cell.value)
        lines = [column for column in columns.values() if len(column) > 1]
        if shape.kind == "monotone":
            assert published_change(lines) * (1 if shape.direction == "up" else -1) > 0
        if shape.kind == "saturation":
            assert table.tolerance is not None
            assert np.mean([line[-1] - line[0] for line in lines]) > 0
            assert np.mean([line[-1] - line[-2] for line in lines]) < table.tolerance.points


# -- against the facts ------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_shared_facts():
    if not FACTS.is_file():
        pytest.skip("../shared/facts/paper_tables.json is not here to compare with")
    facts = json.loads(FACTS.read_text(encoding="utf-8"))["tables"]
    parts = {
        "T1a": ["T1a"], "T1b": ["T1b"], "T1c": ["T1c"], "T1d": ["T1d"], "T1e": ["T1e"], "T4": ["T4"], "T7": ["T7"],
        "T2": ["T2", "T2-ijepa", "T2-ijepa-22k"], "T5": ["T5", "T5-transfer"],
        "T3": ["T3-frozen", "T3-finetuned", "T3-frozen-dino", "T3-finetuned-dino"],
        "fig11_spearman_alpha0_to_best": ["Figure11"], "fig19_spearman_scaled_pct": ["Figure19"],
    }  # fmt: skip
    for fact, tables in parts.items():
        ours = sorted(cell.value for name in tables for cell in PUBLISHED.table(name).cells)
        assert ours == sorted(_numbers(facts[fact]["values"])), fact
    times = {(c.at["N"], c.at["slices"], c.at["points"], c.at["of_runs"]): c.value for c in PUBLISHED.table("T6").cells}
    for n, slices, points, mean, std in facts["T6_ms"]["values"]:
        assert (times[n, slices, points, "mean"], times[n, slices, points, "std"]) == (mean, std)
    scalars = facts["scalars"]["values"]
    assert value("scalars/ViT-L-14/ImageNet-1k") == scalars["inet1k_vitl_online"]
    assert value("scalars/ConvNeXtV2-H/ImageNet-1k") == scalars["inet1k_convnextv2h_online"]
    assert value("scalars/ViT-H-14/ImageNet-1k") == scalars["inet1k_vith14_abstract"]
    assert value("scalars/ViT-S-8/Imagenette") == scalars["minimal_imagenette_vits8"]
    assert [value("figure9/lowest"), value("figure9/highest")] == scalars["fig9_range"]


def test_single_cells_stand_where_the_shared_facts_have_them():
    if not FACTS.is_file():
        pytest.skip("../shared/facts/paper_tables.json is not here to compare with")
    facts = {name: table["values"] for name, table in json.loads(FACTS.read_text())["tables"].items()}
    for v in (2, 4, 8):
        for lamb, score in zip(facts["T7"]["lambda"], facts["T7"][f"V{v}"], strict=True):
            assert score is None or value(f"t7/V{v}/lamb{lamb:g}") == score
    for column, name in enumerate(facts["T1d"]["cols"]):
        slices, dim = name.removeprefix("s").split("_e")
        for rows in facts["T1d"]["rows_proj"].items():
            assert value(f"t1d/slices{slices}/embedding{dim}/projector{rows[0]}") == rows[1][column]
    for row, scores in ((row, scores) for row, scores in facts["T4"].items() if row != "cols"):
        predictor, swa = row[4], row[-1]
        for name, score in zip(facts["T4"]["cols"], scores, strict=True):
            backbone, layers = name.split("_")
            full = {"r50": "ResNet-50", "vits8": "ViT-S-8", "vitt8": "ViT-T-8"}[backbone]
            assert value(f"t4/{full}/predictor{predictor}/swa{swa}/layers{layers[0]}") == score
    for mode, table in (("frozen", "t3-frozen"), ("finetune", "t3-finetuned")):
        for model, scores in facts["T3"][mode].items():
            own = f"{table}-dino" if model.startswith("dino") else table
            for shots, score in zip(facts["T3"]["cols"], scores, strict=True):
                assert value(f"{own}/{model}/{'all' if shots == 'all' else f'shots{shots}'}") == score


def _numbers(values: dict) -> list[float]:
    """The scores of a table of the facts: no axis, no hole."""
    found: list[float] = []
    axes = {"cols", "cols_Vg", "reg_tokens", "lambda"}
    for key, part in values.items():
        if key in axes:
            continue
        parts = _numbers(part) if isinstance(part, dict) else part if isinstance(part, list) else [part]
        found += [one for one in parts if one is not None]
    return found


# -- others -----------------------------------------------------------------------------------------------------------


def test_what_others_got_names_a_cell_or_says_what_it_is_against():
    against = {one.by + " " + one.of: (one.lowest, one.highest, one.against) for one in PUBLISHED.reproductions}
    assert against["users t5/resnet18/cifar100"] == (60, 65, 69.94)
    assert against["users t5/resnet18/flowers102"] == (58, 60, 74.57)
    assert against["KerJEPA scalars/ViT-S-8/Imagenette"] == (91.13, 91.13, 90.7)


# -- a config at a cell -----------------------------------------------------------------------------------------------


def test_a_config_is_at_the_cell_whose_views_add_up_and_whose_lambda_it_has():
    table = PUBLISHED.table("T7")
    config = {"method": {"name": "lejepa", "lamb": 0.05}, "views": {"global_views": 2, "local_views": 6}}
    at = [cell.id for cell in table.cells if reaches(cell, table, config)]
    assert at == ["t7/V8/lamb0.05"]


def test_a_stand_in_is_at_the_cell_and_is_not_its_setting():
    table = PUBLISHED.table("T4")
    encoder, projector = {"name": "small_resnet"}, {"layers": 2}
    config = {"method": {"predictor": False}, "encoder": encoder, "projector": projector, "average": 0.99}
    (cell,) = [cell for cell in table.cells if reaches(cell, table, config)]
    assert cell.id == "t4/ResNet-50/predictor0/swa1/layers2"
    assert published_setting(cell, table)["encoder.name"] == "resnet50"
    assert coordinate(table.axis("architecture"), {"encoder": {"name": "another"}}) is None


def test_nothing_agrees_with_what_is_not_known():
    assert not agrees(400, "unknown")
    assert agrees("inet100", ["imagenet100", "inet100"])
    assert agrees(0.99, "any")
    assert not agrees(None, "any")


def test_few_shot_cells_are_read_by_the_probe_of_their_labels_and_data():
    table = PUBLISHED.table("T2")
    assert metric_of(PUBLISHED.cells["t2/shots10/ViT-L/pets"], table) == "test/pets/shot10"
    assert metric_of(PUBLISHED.cells["t2/shots10/ViT-L/avg"], table) is None


def configs_of(table, profile=None):
    """Of the trainings of the shipped sweep by the table's method, one per cell."""
    spec = load_sweep(f"paper/{table.sweep}", profile)
    configs = [spec.config(cell, 0).model_dump(mode="json") for cell in spec.cells()]
    return [config for config in configs if config["method"]["name"] == "lejepa"]


@pytest.mark.parametrize("name", ["T1a", "T1b", "T1c", "T1d", "T1e", "T3-frozen", "T4", "T7"])
def test_the_small_sweep_of_a_table_is_at_half_of_its_cells_or_more(name):
    table = PUBLISHED.table(name)
    configs = configs_of(table)
    reached = [cell for cell in table.cells if any(reaches(cell, table, config) for config in configs)]
    assert len(reached) >= len(table.cells) / 2


def test_the_paper_profile_of_t7_is_at_all_of_its_cells_and_differs_in_nothing_published():
    table = PUBLISHED.table("T7")
    configs = configs_of(table, "paper")
    for cell in table.cells:
        (config,) = [config for config in configs if reaches(cell, table, config)]
        assert differences(table, cell, config) == ()


def test_a_sweep_that_goes_on_with_more_seeds_is_of_the_same_table():
    assert [table.id for table in PUBLISHED.of_sweep("t7_lambda_views-10-seeds")] == ["T7"]
    assert PUBLISHED.of_sweep("t7_lambda") == ()


def test_every_sweep_that_is_named_is_shipped():
    named = {name for table in PUBLISHED.tables for name in (table.sweep, table.switches_in) if name}
    assert {name for name in named if not (FILE.parent / f"{name}.yaml").is_file()} == set()


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["T7"]["rows"][0][1].extend([1] * 9), "tables.T7.rows[0]: 14 numbers for the 12 values of lamb"),
        (lambda t: t["T7"]["rows"][1].pop(), "tables.T7.rows[1]: has 1 parts"),
        (lambda t: t["T7"]["rows"][0][1].__setitem__(0, "81,41"), "'81,41' at lamb = 0.001 is no number"),
        (lambda t: t["T7"].update(tolerence=1), "tables.T7: has no key 'tolerence'"),
        (lambda t: t["T7"].update(tolerance="wide"), "tables.T7.tolerance: 'wide'"),
        (lambda t: t["T7"].pop("seeds"), "tables.T7: misses the key 'seeds'"),
        (lambda t: t["T7"]["rows"].append(t["T7"]["rows"][0]), "t7/V2/lamb0.001 is there twice"),
        (lambda t: t["T7"]["shapes"].append({"kind": "round"}), "'round' is no shape"),
        (lambda t: t["T7"]["shapes"].append({"kind": "plateau", "axis": "W"}), "'W' is no axis of the table"),
        (lambda t: t["T4"]["axes"]["architecture"]["choices"].update(VGG={}), "'VGG' is no value of this axis"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_with_the_place(tmp_path, raw, change, said):
    document = deepcopy(raw)
    change(document["tables"])
    with pytest.raises(PublishedError) as refused:
        load_published(written(tmp_path, document))
    assert said in str(refused.value)


def test_a_reproduction_of_no_cell_is_refused(tmp_path, raw):
    document = raw | {"reproductions": [{"of": "t9/x", "by": "x", "source": "x", "value": 1}]}
    with pytest.raises(PublishedError, match=r"reproductions\[0\]: there is no cell 't9/x'"):
        load_published(written(tmp_path, document))


def test_a_file_that_is_not_there_is_said_to_be_unreadable(tmp_path):
    with pytest.raises(PublishedError, match="cannot be read"):
        load_published(tmp_path / "nowhere.yaml")
