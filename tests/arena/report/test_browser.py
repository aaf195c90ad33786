"""The page in a real browser: on a desk, on a phone, and in print."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.arena.report.browser import CHROMIUM, PDFTOTEXT, WHY, chromium, look

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WHY)


def test_nothing_is_clipped_on_a_phone_and_wide_tables_scroll_and_show_that_they_do(crowded, tmp_path):
    phone, desk = (look(crowded, tmp_path / f"{width}.html", width) for width in (390, 1280))
    for told in (phone, desk):
        assert told["page"] == told["width"], "the page itself does not scroll sideways"
        assert told["clipped"] == []
        assert told["lost"] == 0
        assert told["hinted"] == told["wide"], "a shade at the edge where there is more, and only there"
    assert phone["wide"] >= 4 > desk["wide"]


def test_in_print_no_table_is_cut_off_and_none_is_folded(crowded, tmp_path):
    printed = crowded.replace("@media print", "@media all")
    told = look(printed, tmp_path / "print.html", 720)  # the width of a page of Letter or A4 less its margins
    assert told["clipped"] == [] and told["page"] == 720
    assert told["wide"] == told["hinted"] == 0
    assert told["folded"] and min(told["folded"]) > 100


@pytest.mark.skipif(PDFTOTEXT is None, reason="needs poppler's pdftotext (Debian's package poppler-utils)")
def test_no_printed_page_ends_with_a_header(crowded, tmp_path):
    file, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    file.write_text(crowded, encoding="utf-8")
    chromium("--no-pdf-header-footer", f"--print-to-pdf={pdf}", file.as_uri())
    text = subprocess.run(
        [str(PDFTOTEXT), "-layout", str(pdf), "-"], capture_output=True, text=True, check=True
    )
    pages = [part.strip().splitlines() for part in text.stdout.split("\f") if part.strip()]
    assert len(pages) > 2
    headings = set(re.findall(r"<h[23][^>]*>([^<]+)</h", crowded))
    assert len(headings) > 8
    for lines in pages:
        last = lines[-1].strip()
        assert last not in headings
        assert not re.match(r"attacker\s+defender|defender\s+accuracy|In percent of|In every row", last), last
    assert "By all verdicts" in text.stdout and re.search(r"\bbase\s+100\.0", text.stdout)
