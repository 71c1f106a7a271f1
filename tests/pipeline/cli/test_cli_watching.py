from __future__ import annotations

from io import StringIO

import msgspec
from rich.console import Console
from rich.spinner import Spinner

from pipeline.cli.live import drawn
from pipeline.cli.watching import Gauge, moment
from pipeline.containers.container import ContainerStats
from pipeline.data import DataStats
from pipeline.status import PoolStatus, RunStatus

SECOND = 1_000_000_000


def feed(name: str, rows: int, watermark: int | None, ended: bool = False) -> ContainerStats:
    return ContainerStats(
        name=name, kind="feed", received_rows=rows, processed_rows=rows, late_rows=0, sent_rows=rows, sent_batches=1,
        busy_seconds=0, calls_on_loop=0, calls_in_thread=0, yields=0, watermark=watermark, ended=ended,
    )  # fmt: skip


def status(*feeds: ContainerStats) -> RunStatus:
    stores = {
        "features": DataStats(mode="hybrid", charged_bytes=1 << 20, limit_bytes=4 << 20, disk_bytes=2 << 20),
        "portfolio": DataStats(mode="file", disk_bytes=1 << 20),
    }
    return RunStatus(phase="run", state="running", containers=feeds, stores=stores)


def test_figures_sum_feeds_and_stores_and_tell_the_time_of_the_slowest_feed() -> None:
    figures = Gauge().read(status(feed("a", 10, 7 * SECOND), feed("b", 5, 60 * SECOND), feed("c", 1, 0, ended=True)))
    assert figures.rows == 16
    assert (figures.memory_bytes, figures.budget_bytes, figures.disk_bytes) == (1 << 20, 4 << 20, 3 << 20)
    assert figures.event_time == "1970-01-01 00:00:07"
    assert "16 rows" in figures.said() and "memory 1.0 MB of 4.0 MB" in figures.said()


def test_a_run_that_is_not_ready_is_being_prepared() -> None:
    figures = Gauge().read(RunStatus(phase=None, state="running"))
    assert (figures.state, figures.rows, figures.event_time) == ("preparing", 0, None)


def test_rows_per_second_begin_anew_with_each_phase() -> None:
    gauge = Gauge()
    gauge.read(status(feed("a", 0, None)))
    assert gauge.read(status(feed("a", 1_000_000, None))).rows_per_second > 0
    other = RunStatus(phase="validate", state="running", containers=[feed("a", 0, None)])
    assert gauge.read(other).rows_per_second == 0


def test_a_time_that_is_no_date_is_left_out() -> None:
    assert moment(2**63 - 1) is not None
    assert moment(-(2**80)) is None


def test_the_live_lines_show_rows_memory_and_time() -> None:
    console = Console(file=StringIO(), width=80)
    with console.capture() as captured:
        console.print(drawn(Gauge().read(status(feed("a", 12_345, SECOND))), Spinner("dots")))
    text = captured.get()
    assert "12,345 rows" in text and "1.0 MB of 4.0 MB" in text and "disk 3.0 MB" in text and "1970-01-01" in text
    assert len(text.splitlines()) == 2


def test_of_several_phases_it_is_said_which_of_how_many_runs() -> None:
    several = RunStatus(phase="test_001", state="running", phase_number=4, phases=9, containers=[feed("a", 0, None)])
    figures = Gauge().read(several)
    assert figures.said().startswith("test_001 (4 of 9) running, ")
    console = Console(file=StringIO(), width=80)
    with console.capture() as captured:
        console.print(drawn(figures, Spinner("dots")))
    assert "test_001 (4 of 9) running" in captured.get()
    assert Gauge().read(status()).said().startswith("run running, ")


def test_a5_memory_is_shown_against_the_pool_where_that_is_less_and_the_state_tells_when_it_is_short() -> None:
    short = PoolStatus(limit_bytes=3 << 20, charged_bytes=3 << 20, pressure="throttled")
    figures = Gauge().read(msgspec.structs.replace(status(feed("a", 0, None)), pool=short))
    assert figures.budget_bytes == 3 << 20
    assert figures.said().startswith("run running, throttled, ")
    calm = PoolStatus(limit_bytes=1 << 40, charged_bytes=0, pressure="")
    figures = Gauge().read(msgspec.structs.replace(status(feed("a", 0, None)), pool=calm))
    assert (figures.budget_bytes, figures.state) == (4 << 20, "running")
