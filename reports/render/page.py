"""A report as one HTML page that asks the network for nothing."""

import jinja2
from markupsafe import Markup

from reports import provenance
from reports.content import Document, Table, Trial, behind
from reports.content import keys_of as keys_of_row
from reports.figures import css_tokens, inline

SHOWN = 24  # trials that a number opens; the CSV files have all
_LISTED = 100_000  # rows behind all numbers of a page, at most: a page is read in a browser


class Opened:
    """The groups of trials that a page's numbers open: each group once, however many numbers came from it."""

    def __init__(self, document: Document) -> None:
        self._known = document.trials
        self._places: dict[tuple[str, ...], int] = {}

    def place(self, keys: tuple[str, ...] | list[str]) -> str:
        """The id of the group; "" where nothing is known of the trials."""
        group = tuple(dict.fromkeys(key for key in keys if key in self._known))
        return f"from-{self._places.setdefault(group, len(self._places))}" if group else ""

    def groups(self) -> list["Group"]:
        most = max(3, min(SHOWN, _LISTED // max(1, len(self._places))))
        return [self._group(f"from-{place}", keys, most) for keys, place in self._places.items()]

    def _group(self, place: str, keys: tuple[str, ...], most: int) -> "Group":
        return Group(place, keys, [(key, self._known[key]) for key in keys[:most]])


class Group:
    """The trials behind a number."""

    def __init__(self, place: str, keys: tuple[str, ...], shown: list[tuple[str, Trial]]) -> None:
        self.place, self.count, self.shown = place, len(keys), shown
        trials = [trial for _, trial in shown]
        self.measures = list(dict.fromkeys(name for trial in trials for name in trial.measured))
        self._paths = provenance.differing(trials)
        self.differ = bool(self._paths)
        self.several = len({trial.arm for trial in trials}) > 1
        self.commands = "\n".join(trial.command for trial in trials)

    @property
    def arms(self) -> str:
        names = list(dict.fromkeys(trial.arm for _, trial in self.shown))
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more arms" if len(names) > 4 else "")

    def difference(self, trial: Trial) -> str:
        return provenance.difference_text(trial, self._paths)


def html(document: Document) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports", "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["inline"] = lambda figure: Markup(inline(figure.svg, figure.name))
    return environment.get_template("report.html").render(
        document=document, tokens=css_tokens(), kind=lambda block: type(block).__name__.lower(),
        keys_of=keys_of_row, keys_behind=behind, opened=Opened(document), rows_shown=_rows_shown(document),
    )  # fmt: skip


def _rows_shown(document: Document) -> frozenset[str]:
    """Keys of the trials that have a row of their own in the page."""
    blocks = [block for section in document.sections for block in section.blocks]
    listed = [block for block in blocks if isinstance(block, Table) and block.name == "trials"]
    return frozenset(str(row[0].raw) for table in listed for row in table.rows)
