"""Spaces: every point lies inside, ends are reachable, and the stream of points is a matter of the name alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.space import Space, crossed, qmc_points, random_points

SPACES = {
    "grid": Space.model_validate({"grid": [0, 0.5, "a"]}),
    "choice": Space.model_validate({"choice": [True, False, None]}),
    "uniform": Space.model_validate({"uniform": [-1, 3]}),
    "log_uniform": Space.model_validate({"log_uniform": [1e-4, 1e-1]}),
    "int": Space.model_validate({"int": [2, 5]}),
    "log_int": Space.model_validate({"log_int": [1, 1000]}),
}
UNIT = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("kind", SPACES)
@given(u=UNIT)
def test_every_point_lies_in_its_space(kind: str, u: float) -> None:
    space = SPACES[kind]
    value = space.at(u)
    if space.finite:
        assert value in space.values
    else:
        low, high = space.values
        assert low <= value <= high
        assert isinstance(value, int) == kind.endswith("int")


@pytest.mark.parametrize("kind", SPACES)
@given(u=UNIT)
def test_a_space_holds_its_points(kind: str, u: float) -> None:
    assert SPACES[kind].holds(SPACES[kind].at(u))


def test_a_space_holds_nothing_else() -> None:
    strangers = {
        "grid": [1, False, None], "choice": [0, 1, "None"], "uniform": [-1.1, 3.1, True, None, "1", [1]],
        "log_uniform": [0, 0.2], "int": [1, 6, 2.5], "log_int": [0, 1001],
    }  # fmt: skip
    for kind, values in strangers.items():
        assert not any(SPACES[kind].holds(value) for value in values), kind


@pytest.mark.parametrize("kind", ["int", "log_int"])
def test_both_ends_of_a_range_of_whole_numbers_are_reached(kind: str) -> None:
    space = SPACES[kind]
    assert (space.at(0.0), space.at(1 - 1e-12)) == space.values


def test_whole_numbers_are_drawn_evenly() -> None:
    drawn = [SPACES["int"].at((i + 0.5) / 400) for i in range(400)]
    assert {n: drawn.count(n) for n in range(2, 6)} == dict.fromkeys(range(2, 6), 100)


def test_the_middle_of_a_log_range_is_its_geometric_mean() -> None:
    assert SPACES["log_uniform"].at(0.5) == pytest.approx(math.sqrt(1e-4 * 1e-1))


@pytest.mark.parametrize("points", [random_points, qmc_points])
def test_points_follow_from_the_name_and_a_longer_list_begins_with_the_shorter(points) -> None:  # type: ignore[no-untyped-def]
    spaces = {"a": SPACES["uniform"], "b": SPACES["choice"]}
    assert points(spaces, 5, ["arm", {}, 0]) == points(spaces, 11, ["arm", {}, 0])[:5]
    assert points(spaces, 5, ["arm", {}, 0]) != points(spaces, 5, ["arm", {}, 1])
    assert [list(point) for point in points(spaces, 1, "x")] == [["a", "b"]]


def test_sixteen_sobol_points_fill_every_sixteenth_of_a_range() -> None:
    points = qmc_points({"a": Space.model_validate({"uniform": [0, 16]})}, 16, "name")
    assert sorted(int(point["a"]) for point in points) == list(range(16))


def test_crossing_varies_the_last_space_fastest() -> None:
    spaces = {"a": Space.model_validate({"grid": [1, 2]}), "b": Space.model_validate({"grid": ["x", "y"]})}
    assert crossed(spaces) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    assert crossed({}) == [{}]


@pytest.mark.parametrize(
    "raw",
    [
        {"grid": []},
        {"grid": [1, 1]},
        {"grid": [float("nan")]},
        {"grid": [{"a": 1}]},
        {"choice": [[1, 2]]},
        {"grid": 3},
        {"uniform": [1]},
        {"uniform": [2, 1]},
        {"uniform": [0, float("inf")]},
        {"uniform": [False, True]},
        {"int": [0, 1.5]},
        {"log_int": [0, 5]},
        {"log_uniform": [-1, 5]},
        {"normal": [0, 1]},
        {"grid": [1], "choice": [2]},
        {},
        [1, 2],
        3,
    ],
    ids=str,
)
def test_what_is_no_space_is_refused(raw: object) -> None:
    with pytest.raises(ValidationError):
        Space.model_validate(raw)


@pytest.mark.parametrize("kind", SPACES)
def test_a_space_is_dumped_as_it_was_written(kind: str) -> None:
    assert Space.model_validate(SPACES[kind].model_dump(mode="json")) == SPACES[kind]
    assert list(SPACES[kind].model_dump()) == [kind]


@pytest.mark.parametrize("kind", SPACES)
def test_optuna_gets_the_same_space(kind: str) -> None:
    optuna = pytest.importorskip("optuna.distributions")
    space, given_ = SPACES[kind], SPACES[kind].distribution()
    if space.finite:
        assert given_ == optuna.CategoricalDistribution(space.values)
    else:
        assert (given_.low, given_.high, given_.log) == (*space.values, kind.startswith("log_"))
        assert isinstance(given_, optuna.IntDistribution) == kind.endswith("int")
