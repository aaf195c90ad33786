"""A real browser, as tests use it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PDFTOTEXT = shutil.which("pdftotext")
WHY = "needs a browser: Debian's package chromium, which is not installed here"
LOOK = """<script>
addEventListener("load", () => setTimeout(() => {
  const seen = e => e.checkVisibility() && e.getBoundingClientRect().width > 0;
  const scrolls = [...document.querySelectorAll(".scroll")].filter(seen);
  const clipped = [...document.querySelectorAll("body *")].filter(e => seen(e)
    && e.getBoundingClientRect().right > innerWidth + 1 && !e.parentElement.closest(".scroll, svg"));
  parent.postMessage(JSON.stringify({
    width: innerWidth,
    page: document.documentElement.scrollWidth,
    clipped: clipped.map(e => e.outerHTML.slice(0, 80)),
    wide: scrolls.filter(e => e.scrollWidth > e.clientWidth + 1).length,
    lost: scrolls.filter(e => e.scrollWidth > e.clientWidth + 1
      && !["auto", "scroll"].includes(getComputedStyle(e).overflowX)).length,
    hinted: scrolls.filter(e => +getComputedStyle(e, "::after").opacity > 0.5).length,
    folded: [...document.querySelectorAll("details > .scroll")].map(e => e.offsetHeight),
  }), "*");
}, 1000));
</script>"""
FRAME = """<!DOCTYPE html><script>
addEventListener("message", e => {{ document.documentElement.dataset.found = e.data; }});
</script><iframe src="{source}" style="width: {width}px; height: 900px; border: 0"></iframe>"""


def look(text: str, to: Path, width: int, script: str = LOOK) -> dict[str, Any]:
    """What the browser makes of a page that is so many pixels wide, in a frame: windows are never narrow.
    `script` runs in the page, and posts JSON to its parent, with the width."""
    to.write_text(text.replace("</head>", f"{script}</head>"), encoding="utf-8")
    outer = to.with_suffix(".frame.html")
    outer.write_text(FRAME.format(source=to.name, width=width), encoding="utf-8")
    dom = chromium("--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", outer.as_uri())
    found = re.search(r'data-found="([^"]*)"', dom)
    assert found, "the script ran"
    told: dict[str, Any] = json.loads(html.unescape(found[1]))
    assert told["width"] == width
    return told


def chromium(*arguments: str) -> str:
    assert CHROMIUM is not None
    run = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *arguments]
    return subprocess.run(run, capture_output=True, text=True, timeout=120, check=True).stdout
