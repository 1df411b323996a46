"""The page itself: self-contained, escaped, and whole in a browser."""

import html.parser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports import build

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import SyntheticArm, flat, hill, lambda_cells, quickstart_arms, write_sweep

HOSTILE = (
    "<script>alert(1)</script>", "a \"quote\" & 'another' $x_1$ | `tick` *star*", "שלום עולם", "🦊👩‍🚀", "=cmd()",
    "_hidden",
    "n" * 64, "line\nbreak\u202eoverride",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return build(write_sweep(tmp_path_factory.mktemp("runs") / "s", contrast=("lejepa", "vicreg")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    arms = {name: SyntheticArm(flat(60.0 + i), "vicreg") for i, name in enumerate(HOSTILE)}
    arms["<b>λ</b>"] = SyntheticArm(hill(), cells=lambda_cells())
    folder = tmp_path_factory.mktemp("runs") / "hostile"
    return build(
        write_sweep(folder, arms, contrast=(HOSTILE[0], HOSTILE[2]), question="Is <img src=x onerror=1> safe?")
    )


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


def test_the_page_asks_the_network_for_nothing(report):
    page = Page(report.html.read_text())
    loads = [a for tag, a in page.tags if tag in ("script", "link", "img", "iframe", "object", "image", "use")]
    addresses = [a.get("src") or a.get("href") or a.get("xlink:href") or "" for a in loads]
    assert all(address == "" or address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", report.html.read_text())
    assert all(not link.startswith(("http:", "https:", "//")) for link in page.attributes("href"))


def test_every_link_into_the_page_and_every_file_beside_it_exists(report):
    page = Page(report.html.read_text())
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    for link in page.attributes("href"):
        if link.startswith("#"):
            assert link[1:] in ids
        elif not link.startswith("data:"):
            assert (report.html.parent / link).is_file()


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
    for name in HOSTILE[:7]:
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


# -- in a browser -----------------------------------------------------------------------------------------------------


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """The document after its scripts ran, and what the browser logged."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--enable-logging=stderr",
            "--allow-file-access-from-files", "--virtual-time-budget=2000", "--window-size=1280,2000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_a_browser_logs_no_error_and_tables_sort(report, tmp_path):
    copy = tmp_path / "index.html"
    click = (
        '<script>const heads = document.querySelectorAll("#table-lambda-0-cells thead button");'
        "for (const head of heads) if (head.textContent.startsWith('test mean')) head.click();</script></body>"
    )
    copy.write_text(report.html.read_text().replace("</body>", click))
    document, log = browse(copy, tmp_path / "profile")
    assert "CONSOLE" not in log
    table = document.split('id="table-lambda-0-cells"')[1].split("</table>")[0]
    cells = r'<td class=" number" data-sort="([\d.]+)">(?:<button[^>]*>)?<bdi[^>]*>[\d.]+ \['
    means = [float(x) for x in re.findall(cells, table)]
    assert len(means) == 6
    assert means == sorted(means)


@pytest.mark.parametrize("which", ["report", "hostile"])
def test_at_390_pixels_nothing_overflows_and_every_figure_is_visible(which, request, tmp_path):
    source = request.getfixturevalue(which).html.read_text()
    measure = (
        "<script>parent.postMessage([document.documentElement.scrollWidth, Math.min(...[...document.querySelectorAll("
        "'figure svg')].map((svg) => svg.getBoundingClientRect().height))], '*')</script></body>"
    )
    (tmp_path / "inner.html").write_text(source.replace("</body>", measure))
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<body><script>addEventListener('message', (e) => document.body.dataset.found = e.data.join(' '))</script>"
        '<iframe src="inner.html" style="width:390px;height:2000px;border:0"></iframe></body>'
    )
    document, _ = browse(outer, tmp_path / "profile")
    width, height = re.search(r'data-found="([\d.]+) ([\d.]+)"', document).groups()
    assert float(width) <= 390
    assert float(height) > 60


def test_six_arms_and_floors_fit_the_palette(tmp_path):
    arms = {f"arm {i}": SyntheticArm(flat(50.0 + i), "vicreg") for i in range(9)} | {
        name: arm for name, arm in quickstart_arms().items() if arm.method in ("random", "pixels")
    }
    report = build(write_sweep(tmp_path / "s", arms))
    assert 'class="swatch arm-2"' in report.html.read_text()
    assert report.strength in ("leaning", "undecided", "equivalent", "decided")
