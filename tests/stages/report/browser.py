"""A real browser without a screen: opens pages at given widths and tells what became of them."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.patience import SECONDS

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--allow-file-access-from-files", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=60000"),
)
"""Nothing is asked of the network: no name resolves. Pages may be read by the page they are framed in."""

FRAMES = """<!doctype html>
<html><head><meta charset="utf-8"><title>pages</title></head><body style="margin:0">
%s
<pre id="told"></pre>
<script>
const frames = Array.from(document.querySelectorAll("iframe"));
function tell(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const wide = (each) => Math.round(each.getBoundingClientRect().width);
  const header = page.querySelector("#section-ranking th:nth-child(4) button");
  const lines = () => Array.from(page.querySelectorAll("#section-ranking tbody tr"));
  const column = (place) => lines().map((row) => row.cells[place].textContent);
  const rows = column(1);
  header.click();
  const descending = column(3);
  header.click();
  const ascending = column(3);
  return {
    drawn: Number(root.dataset.drawn), error: root.dataset.error || null,
    overflow: root.scrollWidth - root.clientWidth, width: root.clientWidth,
    plots: Array.from(page.querySelectorAll(".plot"), (plot) => ({
      name: plot.id, width: wide(plot), svg: plot.querySelectorAll("svg.main-svg").length,
      marks: plot.querySelectorAll("path.js-line, path.point, .barlayer path, .heatmaplayer image").length,
      widest: Math.max(0, ...Array.from(plot.querySelectorAll("svg.main-svg"), wide)),
    })),
    tables: page.querySelectorAll("table").length,
    rows, descending, ascending,
    requests: frame.contentWindow.performance.getEntriesByType("resource").map((each) => each.name),
    injected: page.querySelectorAll("b.injected, script[src], link, img, iframe").length,
    title: page.title, background: getComputedStyle(page.body.parentElement).backgroundColor,
  };
}
const ready = (frame) => {
  const root = frame.contentDocument && frame.contentDocument.documentElement;
  return root && (root.dataset.drawn !== undefined || root.dataset.error !== undefined);
};
const waiting = setInterval(() => {
  if (!frames.every(ready)) return;
  clearInterval(waiting);
  document.getElementById("told").textContent = JSON.stringify(frames.map(tell));
}, 50);
</script></body></html>
"""


def program() -> str:
    """The browser's command; fails the test where there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise AssertionError("the report is tested in a real browser: install Debian's package `chromium` (`make browser`)")


def open_pages(pages: Sequence[tuple[Path, int]], folder: Path) -> list[dict[str, Any]]:
    """Open each page at a width in pixels, all at once; what each became, in order."""
    frames = "\n".join(
        f'<iframe src="{html.escape(path.absolute().as_uri())}" style="border:0;width:{width}px;height:90vh"></iframe>'
        for path, width in pages
    )
    frame = folder / "frames.html"
    frame.write_text(FRAMES % frames)
    dom = run("--window-size=1400,1000", "--dump-dom", frame.absolute().as_uri())
    told = re.search(r'<pre id="told">(.*?)</pre>', dom, flags=re.DOTALL)
    assert told and told[1], f"no page was ready in time: {dom[-2000:]}"
    found: list[dict[str, Any]] = json.loads(html.unescape(told[1]))
    return found


def run(*words: str) -> str:
    """Standard output of the browser; it and all it started have ended when this returns."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program(), *FLAGS, f"--user-data-dir={profile}", *words],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, f"the browser ended with {process.returncode}"
    return out
