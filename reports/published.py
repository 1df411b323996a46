"""Published numbers as data: sweeps/paper/published.yaml → tables, their cells, and what others got for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parent.parent / "sweeps" / "paper" / "published.yaml"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # as safe; faster where libyaml is there
UNKNOWN = "unknown"
PERCENT = "%"
SHAPES = ("optimum_moves", "optimum", "monotone", "plateau", "saturation", "rank", "spread", "loss_predicts")
_ABOUT = ("data", "split", "architecture", "epochs", "metric")

Name = str | int | float  # a value of an axis


class PublishedError(Exception):
    """The file is not what it should be; the message says where, and what would be right."""


@dataclass(frozen=True)
class Tolerance:
    """How far two runs that should be equal may lie apart, in the table's unit."""

    points: float
    why: str


@dataclass(frozen=True)
class Axis:
    name: str
    symbol: str
    values: tuple[Name, ...]  # those published, in the table's order
    paths: tuple[str, ...] = ()  # settings whose sum is the axis's value
    choices: Mapping[Name, Mapping[str, Any]] = field(default_factory=dict)  # value → settings it stands for, by path
    stand_ins: Mapping[Name, Mapping[str, Any]] = field(default_factory=dict)  # … that may be compared in shape alone
    metric: Mapping[Name, str | None] | None = None  # value → word of the table's metric; None: nothing measures it


@dataclass(frozen=True)
class PublishedCell:
    """One published number. `about`: data, split, architecture, epochs and metric, each possibly `unknown`."""

    id: str  # t7/V8/lamb0.05
    table: str
    at: Mapping[str, Name]  # axis → value
    value: float
    about: Mapping[str, Any]
    source: str  # table, row, column and version


@dataclass(frozen=True)
class Switch:
    """A setting of the launch scripts that the text leaves out; `set` is empty where the trainer has none such."""

    name: str
    set: Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """What a smaller scale can test of a table."""

    kind: str  # one of SHAPES
    axis: str = ""
    along: str = ""  # optimum_moves: the axis against which the optimum moves
    direction: str = "up"  # monotone
    within: float | None = None  # plateau, spread: points; None: the table's tolerance
    at: Mapping[str, Name] = field(default_factory=dict)  # the lines that have it: other axis → value


@dataclass(frozen=True)
class PublishedTable:
    id: str
    title: str
    unit: str
    sweep: str | None  # name of the sweep that runs it
    switches_in: str | None  # name of the sweep that measures what `undocumented` does
    source: Mapping[str, str]
    metric: str  # name in the ledger, with {axis} where an axis names a part; empty: no sweep measures it
    seeds: str  # of each number
    spread: float | None  # standard deviation of each number
    tolerance: Tolerance | None
    axes: tuple[Axis, ...]
    cells: tuple[PublishedCell, ...]
    setting: Mapping[str, Any]  # path → published value; a list: any of them; `unknown`
    unknown: tuple[str, ...]
    undocumented: tuple[Switch, ...]
    note: str
    shapes: tuple[Shape, ...]
    cost_neutral: tuple[str, ...]  # axes along which a training costs the same

    def axis(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)


@dataclass(frozen=True)
class Reproduction:
    """What somebody else got for a cell; `against` is the published value."""

    of: str
    by: str
    source: str
    lowest: float
    highest: float
    spread: float | None
    against: float


@dataclass(frozen=True)
class Published:
    version: str  # of the paper
    tables: tuple[PublishedTable, ...]
    reproductions: tuple[Reproduction, ...]

    def table(self, name: str) -> PublishedTable:
        """Raises KeyError, naming the tables that there are."""
        for table in self.tables:
            if table.id == name:
                return table
        raise KeyError(f"there is no table {name!r}; there are {', '.join(table.id for table in self.tables)}")

    def of_sweep(self, name: str) -> tuple[PublishedTable, ...]:
        """By the name of a shipped sweep, or of one that goes on from it: `t7_lambda_views-10-seeds`."""
        return tuple(table for table in self.tables if _goes_on(name, table.sweep))

    def switched_in(self, name: str) -> tuple[PublishedTable, ...]:
        return tuple(table for table in self.tables if _goes_on(name, table.switches_in))

    @property
    def cells(self) -> dict[str, PublishedCell]:
        return {cell.id: cell for table in self.tables for cell in table.cells}


def _goes_on(name: str, shipped: str | None) -> bool:
    return shipped is not None and (name == shipped or name.startswith(f"{shipped}-"))


# -- reading ----------------------------------------------------------------------------------------------------------


@lru_cache
def load_published(path: Path = FILE) -> Published:
    """Raises PublishedError where the file cannot be read or contradicts itself, naming file, table and row."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PublishedError(f"{path}: cannot be read: {error}") from None
    if not isinstance(raw, dict):
        raise PublishedError(f"{path}: must be a mapping with the keys paper, tolerances, tables and reproductions")
    try:
        version = str(_need(raw, "paper", "file"))
        tolerances = {name: Tolerance(**found) for name, found in _need(raw, "tolerances", "file").items()}
        tables = tuple(_table(name, found, tolerances, version) for name, found in _need(raw, "tables", "file").items())
        ids = [cell.id for table in tables for cell in table.cells]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise PublishedError(f"cells: {twice[0]} is there twice; every cell has an id of its own")
        values = {cell.id: cell.value for table in tables for cell in table.cells}
        found = [_reproduction(n, item, values) for n, item in enumerate(raw.get("reproductions", []))]
    except PublishedError as error:
        raise PublishedError(f"{path.name}: {error}") from None
    return Published(version, tables, tuple(found))


def _need(raw: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in raw:
        raise PublishedError(f"{where}: misses the key {key!r}")
    return raw[key]


def _table(name: str, raw: Mapping[str, Any], tolerances: Mapping[str, Tolerance], version: str) -> PublishedTable:
    where = f"tables.{name}"
    known = {
        "title", "sweep", "switches_in", "unit", "source", "about", "metric", "seeds", "spread", "tolerance", "axes",
        "rows", "setting", "unknown", "undocumented", "note", "shapes", "cost_neutral",
    }  # fmt: skip
    if wrong := sorted(set(raw) - known):
        raise PublishedError(f"{where}: has no key {wrong[0]!r}; there are {', '.join(sorted(known))}")
    tolerance = _need(raw, "tolerance", where)
    if tolerance is not None and tolerance not in tolerances:
        raise PublishedError(f"{where}.tolerance: {tolerance!r} is not among the file's tolerances; write ~ for none")
    rows, unit = _need(raw, "rows", where), str(raw.get("unit", PERCENT))
    axes = _axes(_need(raw, "axes", where), rows, where)
    source, about = _need(raw, "source", where), _need(raw, "about", where)
    return PublishedTable(
        id=name, title=str(_need(raw, "title", where)), unit=unit, sweep=raw.get("sweep"),
        switches_in=raw.get("switches_in"), source=source,
        metric=str(raw.get("metric", "")), seeds=str(_need(raw, "seeds", where)), spread=raw.get("spread"),
        tolerance=tolerances.get(tolerance), axes=axes,
        cells=tuple(_cells(name, axes, rows, about, source, version, where)),
        setting=raw.get("setting", {}), unknown=tuple(_need(raw, "unknown", where)),
        undocumented=tuple(Switch(**switch) for switch in _need(raw, "undocumented", where)),
        note=str(raw.get("note", "")), shapes=tuple(_shape(s, axes, where) for s in raw.get("shapes", [])),
        cost_neutral=tuple(raw.get("cost_neutral", [])),
    )  # fmt: skip


def _axes(raw: Mapping[str, Mapping[str, Any]], rows: Sequence[Sequence[Any]], where: str) -> tuple[Axis, ...]:
    found = []
    for place, (name, given) in enumerate(raw.items()):
        last = place == len(raw) - 1
        if last and "values" not in given:
            raise PublishedError(f"{where}.axes.{name}: the last axis runs along the rows and needs `values`")
        for number, row in enumerate(rows):
            if len(row) != len(raw):
                raise PublishedError(
                    f"{where}.rows[{number}]: has {len(row)} parts; it needs {len(raw) - 1} values of axes and a list"
                )
        values = tuple(given["values"]) if last else tuple(dict.fromkeys(row[place] for row in rows))
        found.append(Axis(
            name, str(given.get("symbol", name)), values, tuple(given.get("paths", [])), given.get("choices", {}),
            given.get("stand_ins", {}), given.get("metric"),
        ))  # fmt: skip
        for key in ("choices", "stand_ins", "metric"):
            if stray := [value for value in given.get(key, {}) if value not in values]:
                raise PublishedError(f"{where}.axes.{name}.{key}: {stray[0]!r} is no value of this axis")
    return tuple(found)


def _cells(
    table: str, axes: Sequence[Axis], rows: Sequence[Sequence[Any]], about: Mapping[str, Any],
    source: Mapping[str, str], version: str, where: str,
) -> Iterator[PublishedCell]:  # fmt: skip
    last = axes[-1]
    for number, (*heads, values) in enumerate(rows):
        if len(values) > len(last.values):
            raise PublishedError(
                f"{where}.rows[{number}]: {len(values)} numbers for the {len(last.values)} values of {last.name}"
            )
        for along, value in zip(last.values, values, strict=False):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
                raise PublishedError(f"{where}.rows[{number}]: {value!r} at {last.name} = {along} is no number")
            at = dict(zip([axis.name for axis in axes], [*heads, along], strict=True))
            known = {key: at.get(key, about.get(key, UNKNOWN)) for key in _ABOUT}
            row, from_where = ", ".join(map(str, heads)) or source["row"], source.get("version", version)
            place = f"{source['table']}, row {row}, column {along}; {from_where}"
            yield PublishedCell(cell_id(table, at), table, at, float(value), known, place)


def cell_id(table: str, at: Mapping[str, Name]) -> str:
    """`t7/V8/lamb0.05`: numbers under their axis's name, words alone."""
    parts = [
        f"{n}{v:g}" if isinstance(v, int | float) else v.replace(" ", "-").replace("/", "-") for n, v in at.items()
    ]
    return "/".join([table.lower(), *parts])


def _shape(raw: Mapping[str, Any], axes: Sequence[Axis], where: str) -> Shape:
    given = {("along" if key == "with" else key): value for key, value in raw.items()}
    if given.get("kind") not in SHAPES:
        raise PublishedError(f"{where}.shapes: {given.get('kind')!r} is no shape; there are {', '.join(SHAPES)}")
    names = [axis.name for axis in axes]
    for name in [given[key] for key in ("axis", "along") if key in given] + list(given.get("at", {})):
        if name not in names:
            raise PublishedError(f"{where}.shapes: {name!r} is no axis of the table; its axes are {', '.join(names)}")
    return Shape(**given)


def _reproduction(number: int, raw: Mapping[str, Any], values: Mapping[str, float]) -> Reproduction:
    where = f"reproductions[{number}]"
    of = str(_need(raw, "of", where))
    if of not in values and "against" not in raw:
        raise PublishedError(f"{where}: there is no cell {of!r}; name a cell's id, or give `against`")
    lowest, highest = raw.get("lowest", raw.get("value")), raw.get("highest", raw.get("value"))
    if lowest is None or highest is None or lowest > highest:
        raise PublishedError(f"{where}: needs a `value`, or `lowest` and `highest` in this order")
    against = float(raw.get("against", values.get(of)))
    by, source = str(_need(raw, "by", where)), str(_need(raw, "source", where))
    return Reproduction(of, by, source, float(lowest), float(highest), raw.get("spread"), against)
