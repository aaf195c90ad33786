"""A board's page in a real browser: on a desk, on a phone, in the dark, in print, and pressed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from arena.report.board_page import render_board
from tests.arena.report import made_boards as made
from tests.arena.report.browser import CHROMIUM, PDFTOTEXT, WHY, chromium, look

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WHY)
DARK, PRINT = "@media (prefers-color-scheme: dark)", "@media print"

CONTRAST = """<script>
const painted = (() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const known = {};
  return colour => known[colour] ??= (() => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  })();
})();
const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
const behind = e => {
  for (; e; e = e.parentElement) {
    const colour = painted(getComputedStyle(e).backgroundColor);
    if (colour[3] > 250) return colour;
  }
  return [255, 255, 255, 255];
};
addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), weak = [];
  let looked = 0;
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.textContent.trim() || !e.checkVisibility() || e.closest("script")) continue;
    const style = getComputedStyle(e), svg = e.closest("svg"), back = behind(e);
    const ink = painted(svg ? style.fill : style.color), clear = +style.opacity;
    const seen = [0, 1, 2].map(i => ink[i] * clear + back[i] * (1 - clear));
    const [a, b] = [light(seen), light(back)].sort((x, y) => y - x), contrast = (a + .05) / (b + .05);
    looked += 1;
    if (contrast < 4.5) weak.push(`${contrast.toFixed(2)} ${e.outerHTML.slice(0, 90)}`);
  }
  parent.postMessage(JSON.stringify({width: innerWidth, looked, weak}), "*");
}, 500));
</script>"""

PRESS = """<script>
let violations = 0;
addEventListener("securitypolicyviolation", () => { violations += 1; });
addEventListener("load", () => setTimeout(() => {
  const table = document.querySelector("table.matrix");
  const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].firstChild.textContent);
  const heads = [...table.tHead.rows[0].cells], orders = [names()];
  const press = column => { heads[column].querySelector("button").click(); orders.push(names()); };
  press(2); press(2); press(1); press(0);
  const sorted = heads.map(head => head.getAttribute("aria-sort"));
  const cell = table.querySelector("td.cell button");
  const card = document.getElementById(cell.getAttribute("popovertarget"));
  const before = card.checkVisibility();
  cell.click();
  const box = card.getBoundingClientRect(), opened = card.matches(":popover-open") && card.checkVisibility();
  const out = [...card.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > box.right + 1);
  const inside = box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight;
  card.querySelector("button[popovertargetaction]").click();
  table.closest(".scroll").scrollLeft = 60;
  parent.postMessage(JSON.stringify({
    width: innerWidth, orders, sorted, before, opened, inside, wide: out.map(e => e.outerHTML.slice(0, 80)),
    closed: !card.checkVisibility(), violations,
    fetched: performance.getEntriesByType("resource").map(entry => entry.name),
    scrolled: table.closest(".scroll").scrollLeft,
    name: table.tBodies[0].rows[0].cells[0].getBoundingClientRect().left
      - table.closest(".scroll").getBoundingClientRect().left,
  }), "*");
}, 500));
</script>"""


@pytest.fixture(scope="module")
def page() -> str:
    return render_board(made.board(made.matrix(6, 6), made.matrix(6, 6, 100)))


@pytest.fixture(scope="module")
def large() -> str:
    return render_board(made.board(made.matrix(20, 15)))


def test_nothing_is_clipped_on_a_phone_and_wide_tables_scroll_and_show_that_they_do(
    page: str, tmp_path: Path
) -> None:
    opened = page.replace("<details", "<details open")
    phone, desk = (look(opened, tmp_path / f"{width}.html", width) for width in (390, 1280))
    for told in (phone, desk):
        assert told["page"] == told["width"], "the page itself does not scroll sideways"
        assert told["clipped"] == []
        assert told["lost"] == 0 and told["hinted"] == told["wide"]
    assert phone["wide"] > 4


@pytest.mark.parametrize("kind", ["page", "large"])
def test_in_print_nothing_is_cut_off(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    printed = request.getfixturevalue(kind).replace(PRINT, "@media all")
    told = look(printed, tmp_path / "print.html", 720)  # a page of Letter or A4 less its margins
    assert told["clipped"] == [] and told["page"] == 720
    assert told["wide"] == told["hinted"] == 0


@pytest.mark.parametrize("media", ["light", DARK, PRINT])
def test_everything_is_legible_in_the_light_in_the_dark_and_in_print(
    page: str, media: str, tmp_path: Path
) -> None:
    told = look(page.replace(media, "@media all"), tmp_path / "seen.html", 1000, CONTRAST)
    assert told["looked"] > 500
    assert told["weak"] == []


def test_a_press_sorts_the_table_and_opens_a_cell_and_nothing_is_fetched(page: str, tmp_path: Path) -> None:
    told = look(page, tmp_path / "pressed.html", 390, PRESS)
    first, up, down, other, by_name = told["orders"]
    matrix = made.matrix(6, 6)

    def left(name: str, defender: int) -> float:
        cell = matrix.cells[name, matrix.defenders[defender]]
        return cell.left[cell.verdict].value

    assert first == list(matrix.attackers)
    assert [left(name, 1) for name in up] == sorted(left(name, 1) for name in first)
    assert down == up[::-1]
    kept = [name for name in other if name != matrix.attackers[-1]]
    assert [left(name, 0) for name in kept] == sorted(left(name, 0) for name in kept)
    assert other[-1] == matrix.attackers[-1], "what failed is last"
    assert by_name == sorted(first)
    assert told["sorted"] == ["ascending", *[None] * 6]
    assert not told["before"] and told["opened"] and told["inside"] and told["closed"] and told["wide"] == []
    assert told["violations"] == 0 and told["fetched"] == []
    assert told["scrolled"] == 60 and told["name"] == 0, "the attackers' names stay where they are"


def test_without_script_the_table_is_there_and_a_cell_opens_all_the_same(page: str, tmp_path: Path) -> None:
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    script = """<script>addEventListener("load", () => setTimeout(() => {
      const cell = document.querySelector("table.matrix td.cell button");
      cell.click();
      const card = document.getElementById(cell.getAttribute("popovertarget"));
      parent.postMessage(JSON.stringify({width: innerWidth, opened: card.checkVisibility(),
        buttons: document.querySelectorAll("th button").length, text: cell.innerText}), "*");
    }, 300));</script>"""
    told = look(bare, tmp_path / "bare.html", 900, script)
    assert told["opened"] and told["buttons"] == 0 and "15.0" in told["text"]


@pytest.mark.skipif(PDFTOTEXT is None, reason="needs poppler's pdftotext (Debian's package poppler-utils)")
def test_on_paper_findings_are_numbered_and_no_page_ends_with_a_heading(page: str, tmp_path: Path) -> None:
    file, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    file.write_text(page, encoding="utf-8")
    chromium("--no-pdf-header-footer", f"--print-to-pdf={pdf}", file.as_uri())
    text = subprocess.run(
        [str(PDFTOTEXT), "-layout", str(pdf), "-"], capture_output=True, text=True, check=True
    ).stdout
    pages = [part.strip().splitlines() for part in text.split("\f") if part.strip()]
    headings = {heading.strip() for heading in re.findall(r"<h[234][^>]*>([^<]+)</h", page)}
    assert len(pages) > 3 and len(headings) > 10
    for lines in pages:
        assert lines[-1].strip() not in headings - set(made.matrix(6, 6).attackers) - set(
            made.matrix(6, 6).defenders
        )
    whole = " ".join(text.split())
    assert re.search(r"1 weak-attack \(grave: no rank\)", whole)
    assert "In 41 of 60 games that kept their vote" in whole
    assert "The same at 100 queries" in whole and "Accuracy left at 100 queries" in whole
    assert re.search(r"64\.0", whole) and "close" not in re.findall(r"\bclose\b", whole)
