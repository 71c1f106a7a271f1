"""Quality events of a folder: found wherever they lie, each once, counted by instrument and window, and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pipeline import InputError
from pipeline.cli.program import penstock
from stages.quality.finding import find_events
from stages.quality.picture import draw_events
from stages.quality.table import count_events
from stages.schemas import schema_of

SECOND, HOUR = 1_000_000_000, 3_600_000_000_000
SCHEMA = schema_of("quality_event")


def event(kind: str, seconds: float, instrument: str | None = "BTCUSDT.BINANCE", **words: Any) -> dict[str, Any]:
    ns = int(seconds * SECOND)
    return {
        "ts_event": None, "ts_recv": ns, "ingest_seq": int(seconds), "instrument_id": instrument, "source_id": "one",
        "sequence": None, "flags": 0, "kind": kind, "channel": None, "seq_expected": None, "seq_got": None,
        "missing": None, "gap_start": None, "gap_end": None, "action_taken": None, "detail": None, "raw": None, **words,
    }  # fmt: skip


EVENTS = [
    event("gap", 10, missing=3, gap_start=8 * SECOND, gap_end=10 * SECOND),
    event("resync", 11),
    event("duplicate", 3700),
    event("gap", 3701, "ETHUSDT.BINANCE", missing=1, gap_start=3700 * SECOND, gap_end=3701 * SECOND),
    event("disconnect", 3702, None, channel="binance.1"),
    event("reconnect", 3707, None, channel="binance.1", gap_start=3702 * SECOND, gap_end=3707 * SECOND),
    event("parse_error", 3708, detail="expected </script> a message", raw=b"\xff"),
]


def table(events: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(events, SCHEMA)


def written(path: Path, events: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(events), path, store_decimal_as_integer=True)
    return path


def test_events_are_counted_by_instrument_those_of_connections_last() -> None:
    rows = count_events(table(EVENTS)).to_pylist()
    assert rows == [
        {"instrument": "BTCUSDT.BINANCE", "disconnect": 0, "reconnect": 0, "gap": 1, "resync": 1, "duplicate": 1,
         "parse_error": 1, "missing": 3, "missing_seconds": 2.0},
        {"instrument": "ETHUSDT.BINANCE", "disconnect": 0, "reconnect": 0, "gap": 1, "resync": 0, "duplicate": 0,
         "parse_error": 0, "missing": 1, "missing_seconds": 1.0},
        {"instrument": "-", "disconnect": 1, "reconnect": 1, "gap": 0, "resync": 0, "duplicate": 0,
         "parse_error": 0, "missing": 0, "missing_seconds": 5.0},
    ]  # fmt: skip


def test_windows_have_rows_of_their_own_where_something_was_wrong() -> None:
    found = count_events(table(EVENTS), HOUR)
    rows = [(row["instrument"], row["from"].value // HOUR, row["gap"]) for row in found.to_pylist()]
    assert rows == [("BTCUSDT.BINANCE", 0, 1), ("BTCUSDT.BINANCE", 1, 0), ("ETHUSDT.BINANCE", 1, 1), ("-", 1, 0)]


def test_events_are_found_below_a_folder_each_once(tmp_path: Path) -> None:
    written(tmp_path / "run/phase/containers/market/quality_event.parquet", EVENTS)
    written(tmp_path / "run/phase/containers/sink/a.parquet", EVENTS[2:])
    written(tmp_path / "run/phase/containers/sink/b.parquet", EVENTS[:2])
    pq.write_table(pa.table({"price": [1.0]}), tmp_path / "run/other.parquet")
    (tmp_path / "run/garbage.parquet").write_bytes(b"no parquet")
    found = find_events(tmp_path)
    assert found is not None and found.column("kind").to_pylist() == [each["kind"] for each in EVENTS]
    twice = written(tmp_path / "alike.parquet", [EVENTS[0], EVENTS[0]])
    alike = find_events(twice)
    assert alike is not None and len(alike) == 2, "a file may hold two events that are alike"


def test_what_is_not_there_and_what_is_damaged_is_told(tmp_path: Path) -> None:
    assert find_events(tmp_path) is None
    with pytest.raises(InputError, match="there is nothing at"):
        find_events(tmp_path / "absent")
    whole = written(tmp_path / "quality_event/one.parquet", EVENTS).read_bytes()
    (tmp_path / "quality_event/one.parquet").write_bytes(whole[:-7])
    with pytest.raises(InputError, match=r"quality_event/one\.parquet: expected a parquet file"):
        find_events(tmp_path)


def test_the_picture_holds_every_event_and_no_word_of_theirs_ends_its_script(tmp_path: Path) -> None:
    page = draw_events(table(EVENTS), "a <title>")
    body = page[page.rindex("</script></head>") + len("</script></head>") :]
    assert body.count("</script>") == 1 and "a &lt;title&gt;" in body and "7 events" in body
    assert body.count('"mode": "markers"') == 6, "a trace for each kind"
    assert '"name": "no data"' in body


def test_the_command_shows_a_table_a_page_and_json(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    written(folder / "quality_event.parquet", EVENTS)
    shown = CliRunner().invoke(penstock, ["quality", str(folder)])
    assert shown.exit_code == 0 and "7 quality events" in shown.output and "ETHUSDT.BINANCE" in shown.output
    assert "latest" in shown.output
    plotted = CliRunner().invoke(penstock, ["quality", str(folder), "--every", "1h", "--plot"])
    assert plotted.exit_code == 0 and (folder / "quality.html").is_file()
    told = CliRunner().invoke(penstock, ["quality", str(folder), "--json"])
    assert [row["instrument"] for row in msgspec.json.decode(told.output)] == [
        "BTCUSDT.BINANCE",
        "ETHUSDT.BINANCE",
        "-",
    ]


def test_a_folder_without_any_says_how_they_would_have_come_there(tmp_path: Path) -> None:
    wrong = CliRunner().invoke(penstock, ["quality", str(tmp_path)])
    assert wrong.exit_code == 1 and "records: quality_event" in wrong.output + str(wrong.stderr)
    mistyped = CliRunner().invoke(penstock, ["quality", str(tmp_path), "--every", "1x"])
    assert mistyped.exit_code == 2 and "expected a duration" in mistyped.output + str(mistyped.stderr)
    other = tmp_path / "recording/trade/venue=binance_spot/instrument=BTCUSDT.BINANCE/date=2024-08-08/1_2_1.parquet"
    other.parent.mkdir(parents=True)
    pq.write_table(pa.table({"price": [1.0]}), other)
    recorded = CliRunner().invoke(penstock, ["quality", str(tmp_path / "recording")])
    assert recorded.exit_code == 0 and "nothing is wrong" in recorded.output
    written(tmp_path / "clean.parquet", [])
    clean = CliRunner().invoke(penstock, ["quality", str(tmp_path)])
    assert clean.exit_code == 0 and "nothing is wrong" in clean.output


def test_where_no_event_was_kept_the_summary_tells(tmp_path: Path) -> None:
    """As of a clean capture, of which nothing is to be kept."""

    def summary(told: dict[str, Any]) -> None:
        metrics = {"market": {"messages": 1234, "quality_by_instrument": told}, "bars": {"rows": 3}}
        (tmp_path / "summary.json").write_bytes(msgspec.json.encode({"aggregate_metrics": metrics}))

    summary({})
    clean = CliRunner().invoke(penstock, ["quality", str(tmp_path)])
    assert clean.exit_code == 0 and "nothing is wrong with 1,234 messages" in clean.output
    summary({"BTCUSDT.BINANCE": {"gap": 2, "missing": 3, "missing_seconds": 1.5}})
    told = CliRunner().invoke(penstock, ["quality", str(tmp_path)])
    assert "BTCUSDT.BINANCE" in told.output and "1,234 messages" in told.output


def test_of_several_runs_of_a_name_the_latest_is_counted(tmp_path: Path) -> None:
    """Each read the same data: added up they would tell twice of the same hole."""
    for run in ("first", "second"):
        written(tmp_path / "base" / run / "run" / "quality_event.parquet", EVENTS)
    (tmp_path / "base" / "latest").symlink_to("second")
    told = CliRunner().invoke(penstock, ["quality", str(tmp_path / "base"), "--json"])
    assert [row["gap"] for row in msgspec.json.decode(told.output)] == [1, 1, 0]


def test_windows_and_a_picture_are_refused_where_only_counts_are_there(tmp_path: Path) -> None:
    """Rather than answered with a table of all the time, and no page."""
    told = {"BTCUSDT.BINANCE": {"gap": 2, "missing": 3, "missing_seconds": 1.5}}
    page = tmp_path / "page.html"
    for counts in (told, {}):
        metrics = {"market": {"messages": 1234, "quality_by_instrument": counts}}
        (tmp_path / "summary.json").write_bytes(msgspec.json.encode({"aggregate_metrics": metrics}))
        for asked in (["--every", "1h"], ["--plot", "--output", str(page)]):
            shown = CliRunner().invoke(penstock, ["quality", str(tmp_path), *asked])
            assert shown.exit_code == (1 if counts else 0), asked
            if counts:
                assert "only the counts of" in shown.output + str(shown.stderr)
                assert "records: quality_event" in shown.output + str(shown.stderr)
    assert page.is_file(), "a picture of nothing, where nothing is wrong"
