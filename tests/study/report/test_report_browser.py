"""The report in a real browser: no complaint in its console, tables that sort, nothing wider than a phone."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest
from test_report import EVIL, make_records, page

from synaptic_pruning.study.engine.study_info import About

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]
FRAME = """<!doctype html>
<iframe src="page.html" style="width: {}px; height: 900px; border: 0"></iframe><pre id="probe"></pre>
<script>onmessage = message => document.getElementById("probe").textContent = message.data;</script>"""
PROBE = """
const tables = [...document.querySelectorAll("table.sortable")].map(table => {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const read = place => [...table.tBodies[0].rows].map(row => row.cells[place].textContent);
  return heads.map((head, place) => {
    const button = head.querySelector("button");
    button.focus();
    const focused = document.activeElement === button;
    const seen = {text: head.classList.contains("text"), focused, before: read(place)};
    button.click();
    seen.up = read(place);
    seen.sorts = heads.map(head => head.getAttribute("aria-sort"));
    button.click();
    seen.down = read(place);
    seen.sort = head.getAttribute("aria-sort");
    return seen;
  });
});
const seen = {tables, width: innerWidth, reach: document.documentElement.scrollWidth};
parent.postMessage(JSON.stringify(seen), "*");
"""


def browse(text, folder, width):
    """Load a page with the probe allowed beside its own script; return what the probe saw and the console's lines.

    The page sits in a frame, because a window is never narrower than 500 pixels.
    """
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    probed = text.replace("script-src ", f"script-src 'sha256-{digest}' ")
    probed = probed.replace("</body>", f"<script>{PROBE}</script></body>")
    (folder / "page.html").write_text(probed)
    (folder / "frame.html").write_text(FRAME.format(width))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, (folder / "frame.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found.group(1))), console


def value(text):
    """The first number of a cell as a reader sees it; None where there is none."""
    found = re.search(r"[−-]?\d[\d,]*\.?\d*(e-?\d+)?", text)
    return None if found is None else float(found.group().replace("−", "-").replace(",", ""))


@pytest.fixture(scope="module")
def report():
    about = About("synaptic-pruning study run x", "A study", {}, {}, ("co2",), "title = 'A study'")
    names = ["co2", EVIL, "tides", "a" * 60]
    return page(make_records(names), names, about=about)


def test_nothing_complains_and_every_table_sorts(report, tmp_path):
    seen, console = browse(report, tmp_path, 1200)
    assert console == []
    assert len(seen["tables"]) >= 8
    moved = 0
    for columns in seen["tables"]:
        for place, column in enumerate(columns):
            assert column["focused"]
            assert column["sorts"] == [None] * place + ["ascending"] + [None] * (len(columns) - place - 1)
            assert column["sort"] == "descending"
            assert sorted(column["up"]) == sorted(column["down"]) == sorted(column["before"])
            moved += column["up"] != column["down"]
            if column["text"]:
                continue
            for cells, sign in ((column["up"], 1), (column["down"], -1)):
                values = [value(cell) for cell in cells]
                known = [sign * one for one in values if one is not None]
                assert known == sorted(known), cells
                assert None not in values[: len(known)], "what is missing comes last"
    assert moved > 30


def test_nothing_is_wider_than_a_phone(report, tmp_path):
    seen, console = browse(report, tmp_path, 390)
    assert console == []
    assert seen["width"] == 390
    assert seen["reach"] <= 390


def test_a_script_that_slipped_in_would_not_run(report, tmp_path):
    evil = report.replace("</main>", "<script>document.title = 'gone'</script></main>")
    (tmp_path / "other").mkdir()
    _, console = browse(evil, tmp_path / "other", 1200)
    assert any("Content Security Policy" in line for line in console)
