"""The page itself: self-contained, escaped, and whole in a browser."""

import html.parser
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reports import build
from reports.render.latex import latex
from reports.render.markdown import markdown
from reports.render.page import html as page_of

sys.path.insert(0, str(Path(__file__).parent))
from hostile import HOSTILE, READABLE
from synthetic import SyntheticArm, flat, quickstart_arms, write_sweep


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def attributes(self, name):
        return [a[name] for _, a in self.tags if a.get(name)]


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_the_page_asks_the_network_for_nothing(which, request):
    report = request.getfixturevalue(which)
    page = Page(report.html.read_text())
    loads = [a for tag, a in page.tags if tag in ("script", "link", "img", "iframe", "object", "image", "use")]
    addresses = [a.get("src") or a.get("href") or a.get("xlink:href") or "" for a in loads]
    assert all(address == "" or address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", report.html.read_text())
    assert all(not link.startswith(("http:", "https:", "//")) for link in page.attributes("href"))


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_every_link_into_the_page_and_every_file_beside_it_exists(which, request):
    report = request.getfixturevalue(which)
    page = Page(report.html.read_text())
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    for link in page.attributes("href"):
        if link.startswith("#"):
            assert link[1:] in ids
        elif not link.startswith("data:"):
            assert (report.html.parent / link).is_file()
    assert set(page.attributes("popovertarget")) <= set(ids)


def test_figures_have_alternative_texts_and_tables_have_headers_and_names(report):
    page = Page(report.html.read_text())
    pictures = [a for _, a in page.tags if a.get("role") == "img"]
    assert len(pictures) >= 6
    assert all(len(a["aria-label"]) > 20 for a in pictures)
    tables = [a for tag, a in page.tags if tag == "table"]
    assert all(a["aria-labelledby"] in page.attributes("id") for a in tables)
    assert {a.get("scope") for tag, a in page.tags if tag == "th"} == {"row", "col"}


def test_every_figure_caption_says_n(report):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", report.html.read_text(), re.DOTALL)
    assert len(captions) >= 6
    assert all("n = " in caption for caption in captions)


def test_markdown_shows_figures_that_lie_beside_it(report):
    links = re.findall(r"\]\((figures/[^)]+)\)", report.markdown.read_text())
    assert len(links) >= 5
    assert all((report.markdown.parent / link).is_file() for link in links)


def test_hostile_names_are_text_everywhere(hostile):
    page = Page(hostile.html.read_text())
    assert sum(tag == "script" for tag, _ in page.tags) == 1  # the page's own
    assert not any(tag in ("b", "img") for tag, _ in page.tags)
    shown = "".join(page.words)
    for name in READABLE:
        assert name in shown
    assert "\u202e" not in hostile.html.read_text()
    markdown = hostile.markdown.read_text()
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "\n" not in hostile.answer
    assert f"\u2068{HOSTILE[2]}\u2069" in hostile.answer  # isolated: numbers beside it keep their order


def test_hostile_names_leave_no_markup_and_no_formula_in_figures_and_csv(hostile):
    for svg in (hostile.html.parent / "figures").glob("*.svg"):
        assert "<script" not in svg.read_text()
        assert "mathdefault" not in svg.read_text()
    assert "_hidden" in (hostile.html.parent / "figures" / "methods-0.svg").read_text()
    assert ",=cmd" not in (hostile.html.parent / "tables" / "arms.csv").read_text()
    assert "'=cmd()" in (hostile.html.parent / "tables" / "arms.csv").read_text()


def test_an_arm_has_the_same_colour_in_every_figure_and_table(report):
    page = report.html.read_text()
    assert 'swatch arm-0" aria-hidden="true"></span><strong><bdi>lejepa' in page.replace("\n", "")
    for name in ("lambda-0", "methods-0"):
        svg = (report.html.parent / "figures" / f"{name}.svg").read_text()
        assert "#0067a5" in svg
    assert "#0067a5" not in page.split("</style>", 1)[1]  # figures in the page follow dark mode
    assert "var(--arm-0)" in page.split("</style>", 1)[1]


# -- the trials behind a number, the checklist, colours ---------------------------------------------------------------


def behind(text, number):
    """What opens from the first button that shows a number."""
    place = re.search(rf'popovertarget="([^"]+)"[^>]*><bdi>{re.escape(number)}</bdi>', text).group(1)
    return text.split(f'<div popover id="{place}"')[1].split("<div popover")[0]


def test_an_aggregated_number_opens_its_trials_with_seed_state_value_and_command(report):
    text = report.html.read_text()
    shown = re.search(r"<bdi>([\d.]+ \[[\d.]+, [\d.]+\])</bdi>", text.split('id="table-methods-0"')[1]).group(1)
    group = behind(text, shown)
    keys = re.findall(r"harness show (\w{12}) --dir", group)
    assert len(keys) == 3
    assert re.findall(r'<td class="number">(\d)</td><td>trained', group) == ["0", "1", "2"]
    assert "differ in nothing but the seed" in group
    frame = (report.html.parent / "tables" / "trials-all.csv").read_text()
    assert all(key in frame for key in keys)


def test_trials_of_a_difference_say_where_their_settings_differ(report):
    effect = report.html.read_text().split("<dt>Effect</dt>")[1].split("</div>")[0]
    place = re.search(r'popovertarget="([^"]+)"', effect).group(1)
    group = report.html.read_text().split(f'<div popover id="{place}"')[1].split("<div popover")[0]
    assert "method.name = lejepa, λ = " in group
    assert "method.name = vicreg" in group


def test_points_of_figures_name_arm_seed_and_value(report):
    svg = (report.html.parent / "figures" / "methods-0.svg").read_text()
    names = re.findall(r"<title>(.*?)</title>", svg, re.DOTALL)
    assert sum("vicreg · seed" in name for name in names) == 3
    trials = report.document.trials
    said = next(name for name in names if "vicreg · seed 1" in name)
    key = said.rpartition("trial ")[2]
    trial = next(trial for trial in trials.values() if trial.key.startswith(key))
    assert (trial.arm, trial.seed) == ("vicreg", 1)
    assert trial.measured["1-shot test accuracy"] in said


def test_the_checklist_holds_every_check_of_the_gate_and_what_only_a_reader_can_say(report):
    section = next(section for section in report.document.sections if section.id == "checklist")
    rows = next(block.rows for block in section.blocks if hasattr(block, "rows"))
    said = " ".join(row[2].text for row in rows)
    assert all(check.finding in said for check in report.checks if check.result != "pass")
    assert sum(row[0].text.startswith("?") for row in rows) == 4
    assert report.document.sections[-1].id == "checklist"


def luminance(colour):
    """Relative luminance of sRGB (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_a_contrast_of_at_least_four_and_a_half_in_both_themes(report, theme):
    style = report.html.read_text().split("<style>")[1].split("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})[; ]", blocks[0]))
    if theme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})[; ]", blocks[1]))
    for word in ("ink", "muted", "link", "pass", "warn", "fail"):
        for paper in ("page", "card", "soft", "band"):
            assert contrast(colours[word], colours[paper]) >= 4.5, (word, paper)
    for tone in ("pass", "warn", "fail", "ink"):  # the badge, and the tip of a figure
        assert contrast(colours["card"], colours[tone]) >= 4.5, tone
    for mark in ("red", *(f"arm-{i}" for i in range(8))):  # no text: lines and points
        assert contrast(colours[mark], colours["card"]) >= 3, mark


def test_a_page_that_is_watched_loads_itself_again_and_no_other_does(report, tmp_path):
    watched = build(write_sweep(tmp_path / "s", {"a": SyntheticArm(flat(60.0))}), refresh=7)
    assert '<meta http-equiv="refresh" content="7">' in watched.html.read_text()
    assert 'http-equiv="refresh' not in report.html.read_text()


def test_the_same_ledger_gives_the_same_files_byte_by_byte(report, ordinary, tmp_path):
    build(ordinary, tmp_path / "again")
    files = [path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".md", ".tex", ".csv", ".svg", ".png", ".pdf"}
    for path in files:
        assert (tmp_path / "again" / path).read_bytes() == (report.html.parent / path).read_bytes(), path


def test_six_arms_and_floors_fit_the_palette(tmp_path):
    arms = {f"arm {i}": SyntheticArm(flat(50.0 + i), "vicreg") for i in range(9)} | {
        name: arm for name, arm in quickstart_arms().items() if arm.method in ("random", "pixels")
    }
    report = build(write_sweep(tmp_path / "s", arms))
    assert 'class="swatch arm-2"' in report.html.read_text()
    assert report.strength in ("leaning", "undecided", "equivalent", "decided")


def test_a_card_without_a_command_has_no_empty_box(report):
    card = replace(report.document.card, command="", command_note="Nothing affordable settles it.")
    document = replace(report.document, card=card)
    box = page_of(document).partition('<div class="next">')[2].partition("</div>")[0]
    assert "Nothing affordable" in box
    assert "<pre" not in box
    assert "```" not in markdown(document).partition("## ")[0]
    assert r"\begin{quote}" not in latex(document).partition(r"\section")[0]
