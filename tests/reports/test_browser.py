"""The page in a browser: whole, quiet, and doing what its scripts promise."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

WIDTHS = (1280, 390)


@pytest.fixture
def pages(report, hostile, comparison):
    return {"report": report.html, "hostile": hostile.html, "comparison": comparison.html}


def browse(page: Path, script: str, width: int, profile: Path) -> tuple[dict, str]:
    """What a script finds in the page at a width (in a frame: a window has a least one), and what was logged."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    tell = f"<script>parent.postMessage(JSON.stringify((() => {{ {script} }})()), '*')</script></body>"
    inner, outer = page.with_name("inner.html"), page.with_name("outer.html")
    inner.write_text(page.read_text().replace("</body>", tell))
    outer.write_text(
        "<body><script>addEventListener('message', (e) => document.body.dataset.found = e.data)</script>"
        f'<iframe src="inner.html" style="width:{width}px;height:1600px;border:0"></iframe></body>'
    )
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run", "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
            "--enable-logging=stderr", "--allow-file-access-from-files", "--virtual-time-budget=2000",
            "--window-size=1320,1700", "--dump-dom", outer.as_uri(),
        ],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found.group(1).replace("&quot;", '"').replace("&lt;", "<").replace("&amp;", "&")), done.stderr


LAYOUT = """
const boxes = [...document.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect());
return {
  width: document.documentElement.scrollWidth,
  heights: boxes.map((box) => box.height), widths: boxes.map((box) => box.width),
  requests: performance.getEntriesByType("resource").map((entry) => entry.name),
  scripts: document.querySelectorAll("script").length, images: document.images.length,
};
"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["report", "hostile", "comparison"])
def test_every_figure_is_visible_nothing_overflows_and_nothing_is_asked_of_the_network(pages, which, width, tmp_path):
    found, log = browse(pages[which], LAYOUT, width, tmp_path)
    assert "CONSOLE" not in log
    assert found["width"] <= width
    assert len(found["heights"]) >= 3
    assert min(found["heights"]) > 60
    assert min(found["widths"]) > 250
    assert found["requests"] == []
    assert found["scripts"] == 2  # the page's own, and this test's
    assert found["images"] == 0  # no name became one


def test_tables_sort_by_numbers_at_a_click(pages, tmp_path):
    script = """
    const table = document.querySelector("#table-lambda-0-cells");
    const head = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith("test mean"));
    const column = () => [...table.tBodies[0].rows].map((row) => row.cells[head].dataset.sort);
    const click = () => { table.tHead.rows[0].cells[head].querySelector("button").click(); return column(); };
    return {up: click(), down: click()};
    """
    found, _ = browse(pages["report"], script, 1280, tmp_path)
    up = [float(value) for value in found["up"]]
    assert len(up) == 6
    assert up == sorted(up)
    assert found["down"] == found["up"][::-1]


@pytest.mark.parametrize("which", ["report", "hostile", "comparison"])
def test_a_pointer_near_a_point_is_told_what_it_is(pages, which, tmp_path):
    script = """
    const point = [...document.querySelectorAll("main figure svg .point")].at(-1);
    point.scrollIntoView({block: "center", behavior: "instant"});
    const box = point.getBoundingClientRect(), tip = document.getElementById("tip");
    const move = (x) => point.closest("figure").dispatchEvent(new PointerEvent("pointermove", {
      clientX: x, clientY: box.y + box.height / 2, bubbles: true}));
    move(box.x + box.width / 2 + 4);
    const near = {text: tip.textContent, hidden: tip.hidden, children: tip.children.length};
    const shown = tip.getBoundingClientRect();
    move(box.x + 3000);
    return {...near, inside: shown.left >= 0 && shown.right <= innerWidth, after: tip.hidden};
    """
    found, _ = browse(pages[which], script, 390, tmp_path)
    assert "mean" in found["text"] or "seed" in found["text"]
    assert not found["hidden"]
    assert found["children"] == 0  # text, whatever the name
    assert found["inside"]
    assert found["after"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_number_opens_its_trials_and_they_fit_the_screen(pages, width, tmp_path):
    script = """
    const button = document.querySelector("#shared td button.from");
    button.click();
    const open = document.getElementById(button.getAttribute("popovertarget"));
    const box = open.getBoundingClientRect();
    const found = {open: open.matches(":popover-open"), left: box.left, right: box.right, bottom: box.bottom,
      height: innerHeight, rows: open.querySelectorAll("tbody tr").length, text: open.textContent};
    open.querySelector(".close").click();
    return {...found, closed: !open.matches(":popover-open")};
    """
    found, _ = browse(pages["comparison"], script, width, tmp_path)
    assert found["open"]
    assert found["closed"]
    assert found["left"] >= 0
    assert found["right"] <= width
    assert found["bottom"] <= found["height"]
    assert found["rows"] >= 3
    assert "harness show" in found["text"]
