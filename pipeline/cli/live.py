"""Progress on a terminal: two lines that are drawn anew eight times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from pipeline.service import Run

from .figures import bytes_said, rows_said, seconds_said
from .watching import LIVE_SECONDS, Figures, Gauge


async def watch_live(run: Run) -> None:
    """Draw until cancelled. Drawing happens in a thread: a terminal that is held up holds up no data."""
    gauge = Gauge()
    spinner = Spinner("dots")
    live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
    live.start()
    try:
        while True:
            picture = drawn(gauge.read(run.status()), spinner)
            await _to_its_end(asyncio.to_thread(live.update, picture, refresh=True))
            await asyncio.sleep(LIVE_SECONDS)
    finally:
        live.stop()


async def _to_its_end(drawing: Coroutine[Any, Any, None]) -> None:
    """Await a thread; when cancelled, only after it has ended, so that nothing is drawn over what comes next."""
    task = asyncio.ensure_future(drawing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def drawn(figures: Figures, spinner: Spinner) -> Group:
    """The two lines: how far it is, and what it takes. They fit a terminal of 80 columns."""
    spinner.update(text=f"[bold]{figures.phase_said}[/] {figures.state} {seconds_said(figures.seconds)}")
    above, below = Table.grid(padding=(0, 3)), Table.grid(padding=(0, 1))
    for line in (above, below):
        for _ in range(5):
            line.add_column(no_wrap=True)
    above.add_row(spinner, f"[bold]{rows_said(figures.rows)}[/] rows", f"{rows_said(figures.rows_per_second)} rows/s")
    below.add_row(
        "  memory",
        ProgressBar(total=max(figures.budget_bytes, 1), completed=figures.memory_bytes, width=10),
        f"{bytes_said(figures.memory_bytes)} of {bytes_said(figures.budget_bytes)} ",
        f"disk {bytes_said(figures.disk_bytes)} ",
        f"at {figures.event_time}" if figures.event_time else "",
    )
    return Group(above, below)
