"""Captures as disks and networks leave them: what is wrong is told with its place, and nothing else is lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline import InputError
from stages.messages import MessageKind
from stages.messages.captures import CaptureCounts, open_captures
from stages.messages.captures.counts import KEPT_BYTES, MOST_NOTES
from stages.messages.captures.lines import MAX_LINE_BYTES, blocks
from stages.messages.captures.source import CUT_SHORT, NO_MESSAGE, TOO_LONG

FIRST = 1_723_161_255_030_314_667


def line(at: int) -> bytes:
    return b'%d {"stream":"btcusdt@trade","data":{"t":%d,"p":"61800.30"}}' % (FIRST + 1000 * at, at)


def capture(lines: int, end: bytes = b"\n") -> bytes:
    return b"".join(line(at) + end for at in range(lines))


def read(path: Path) -> tuple[list[tuple[int, bytes]], CaptureCounts]:
    counts = CaptureCounts()
    runs = list(open_captures(path).runs(counts))
    return [(int(ts), raw) for run in runs for ts, raw in zip(run.ts_recv, run.payloads(), strict=True)], counts


def expected(lines: int) -> list[tuple[int, bytes]]:
    return [(FIRST + 1000 * at, line(at)[20:]) for at in range(lines)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\r\n\r\n"])
def test_line_ends_of_any_kind_and_blank_lines_are_no_part_of_messages(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(end + capture(100, end))

    found, counts = read(tmp_path / "a.txt")

    assert found == expected(100)
    assert not counts.wrong


def test_times_of_old_collectors_are_microseconds(tmp_path: Path) -> None:
    old = b"".join(b"%d %s\n" % (FIRST // 1000 + at, line(at)[20:]) for at in range(3))
    (tmp_path / "a").write_bytes(old + line(3) + b"\n" + old[:15] + b"x\n")

    found, counts = read(tmp_path / "a")

    assert [(ts // 1000, raw) for ts, raw in found[:4]] == [(ts // 1000, raw) for ts, raw in expected(4)]
    assert [ts % 1000 for ts, _ in found[:4]] == [0, 0, 0, 667]
    assert [(note.line, note.reason) for note in counts.notes] == [(5, NO_MESSAGE)]


def test_a_last_line_without_an_end_is_a_message_where_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(capture(9) + line(9))

    found, counts = read(tmp_path / "a")

    assert found == expected(10)
    assert not counts.wrong


@pytest.mark.parametrize("kept", range(1, len(line(9))))
def test_a_last_line_that_is_cut_short_is_told_and_left_out(tmp_path: Path, kept: int) -> None:
    (tmp_path / "a").write_bytes(capture(9) + line(9)[:kept])

    found, counts = read(tmp_path / "a")

    assert found == expected(9)
    assert [(note.line, note.reason, note.raw) for note in counts.notes] == [(10, CUT_SHORT, line(9)[:kept])]


@pytest.mark.parametrize("rest", [b'{"a":"\xff"}', b"[" * 100_000])
def test_a_last_line_that_no_reader_of_json_gets_through_is_told_and_left_out(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "a").write_bytes(capture(9) + line(9)[:20] + rest)

    found, counts = read(tmp_path / "a")

    assert found == expected(9)
    assert counts.wrong == {CUT_SHORT: 1}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_gzip_file_that_is_cut_short_gives_every_whole_line_before_and_says_so(tmp_path: Path, share: float) -> None:
    packed = gzip.compress(capture(20_000), mtime=0)
    file = tmp_path / "a.gz"
    file.write_bytes(packed[: int(len(packed) * share)])

    found, counts = read(file)

    assert len(found) > 20_000 * (share - 0.1)
    assert found == expected(len(found))
    told = [note.said() for note in counts.notes]
    assert any("cut short after" in said and str(file) in said for said in told), told


@pytest.mark.parametrize("place", [0.3, 0.7, 0.95])
def test_a_gzip_file_that_is_damaged_gives_every_whole_line_before_the_damage(tmp_path: Path, place: float) -> None:
    packed = bytearray(gzip.compress(capture(20_000), mtime=0))
    at = int(len(packed) * place)
    packed[at : at + 64] = b"\xff" * 64
    file = tmp_path / "a.gz"
    file.write_bytes(packed)

    found, counts = read(file)

    good = [row for row, right in zip(found, expected(20_000), strict=False) if row == right]
    assert len(good) > 20_000 * (place - 0.1)
    assert any("damaged after" in note.detail for note in counts.notes)


def test_a_wrong_checksum_at_the_end_of_a_gzip_file_costs_no_message(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(capture(20_000), mtime=0))
    packed[-6] ^= 1
    (tmp_path / "a.gz").write_bytes(packed)

    found, counts = read(tmp_path / "a.gz")

    assert found == expected(20_000)
    assert len(counts.notes) == 1 and "damaged after" in counts.notes[0].detail


def test_gzip_files_joined_end_to_end_are_one(tmp_path: Path) -> None:
    whole = capture(1000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(whole[:5000]) + gzip.compress(whole[5000:]) + b"\0" * 512)

    found, counts = read(tmp_path / "a.gz")

    assert found == expected(1000)
    assert not counts.wrong


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\xfe binary", b"{}", b"172316125 {}", b"99999999999999999999 {}", b"-1 {}"]
)
@pytest.mark.parametrize("at", [0, 1, 57, 99, 100])
def test_a_line_of_garbage_is_told_and_passed_on_in_its_place(tmp_path: Path, garbage: bytes, at: int) -> None:
    lines = [line(i) for i in range(100)]
    (tmp_path / "a").write_bytes(b"\n".join([*lines[:at], garbage, *lines[at:]]) + b"\n")

    found, counts = read(tmp_path / "a")

    right = expected(100)
    assert found[:at] + found[at + 1 :] == right
    assert found[at] == (right[max(at - 1, 0)][0], garbage)
    assert [(note.line, note.reason, note.raw) for note in counts.notes] == [(at + 1, NO_MESSAGE, garbage)]


def test_of_very_much_garbage_all_is_counted_and_the_first_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(capture(100) + b"garbage\n" * 1000 + line(100) + b"\n")

    found, counts = read(tmp_path / "a")

    assert counts.wrong == {NO_MESSAGE: 1000}
    assert len(counts.notes) == MOST_NOTES
    assert [row for row in found if row[1] != b"garbage"] == expected(101)


def test_a_line_without_end_is_left_out_and_what_follows_is_read() -> None:
    told: list[tuple[int, bytes]] = []
    pieces = [b"one\ntw", b"o" * 40, b"o" * 40, b"o" * 40, b"oo\nthree\n", b"four\n"]

    found = list(blocks(pieces, lambda number, begins: told.append((number, begins)), max_line_bytes=64))

    assert [(block.line(at), int(block.numbers[at])) for block in found for at in range(len(block))] == [
        (b"one", 1),
        (b"three", 3),
        (b"four", 4),
    ]
    assert [number for number, _ in told] == [2]


def test_a_line_that_is_too_long_is_told_with_its_place(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(capture(3) + line(3))
        file.seek(MAX_LINE_BYTES + (1 << 21))
        file.write(b"\n" + line(4) + b"\n")

    found, counts = read(tmp_path / "a")

    assert found == [*expected(3), *expected(5)[4:]]
    assert [(note.line, note.reason, note.raw) for note in counts.notes] == [
        (4, TOO_LONG, line(3).ljust(KEPT_BYTES, b"\0"))
    ]


def test_a_time_that_steps_back_is_raised_to_the_one_before_and_counted(tmp_path: Path) -> None:
    order = [0, 1, 5, 2, 3, 6]
    (tmp_path / "a").write_bytes(b"\n".join(line(at) for at in order) + b"\n")

    found, counts = read(tmp_path / "a")

    assert [ts for ts, _ in found] == [FIRST + 1000 * at for at in (0, 1, 5, 5, 5, 6)]
    assert [raw for _, raw in found] == [line(at)[20:] for at in order]
    assert counts.steps_back == 2
    assert "line 4: the first time that steps back" in counts.notes[0].said()


def test_times_of_cryptofeed_are_read_as_the_decimal_text_they_are(tmp_path: Path) -> None:
    texts = {
        "1618678132.831468": 1_618_678_132_831_468_000,
        "1618678132.9": 1_618_678_132_900_000_000,
        "1618678133": 1_618_678_133_000_000_000,
        "1618678133.0": 1_618_678_133_000_000_000,
        "1618678133.123456789": 1_618_678_133_123_456_789,
        "1618678133.1234567891": 1_618_678_133_123_456_789,
    }
    file = tmp_path / "X.ws.1.0"
    file.write_text("wss://x/ws <-> 1618678132\n" + "".join(f'{text}: {{"a":1}}\n' for text in texts))

    (run,) = open_captures(file).runs()

    assert run.ts_recv.tolist() == [1_618_678_132_000_000_000, *texts.values()]
    assert {run.url[code] for code in run.url_code} == {"wss://x/ws"}


def test_polls_written_without_a_url_are_answers(tmp_path: Path) -> None:
    (tmp_path / "X.http.0.0").write_text('1618678132.5: {"a":1}\n')

    (run,) = open_captures(tmp_path).runs()

    assert run.kind.tolist() == [MessageKind.RESPONSE]


def test_turns_of_a_recorder_are_one_source_in_order_of_their_numbers(tmp_path: Path) -> None:
    for turn in range(12):
        opened = "wss://x/ws <-> 1618678132\n" if not turn else ""
        (tmp_path / f"X.ws.3.{turn}").write_text(f'{opened}16186781{40 + turn}.5: {{"a":{turn}}}\n')

    capture = open_captures(tmp_path)
    found = [raw for run in capture.runs() for raw in run]

    assert [source.name for source in capture.sources] == ["X.ws.3"]
    assert [message.payload for message in found] == [b"", *(b'{"a":%d}' % turn for turn in range(12))]
    assert {message.url for message in found} == {"wss://x/ws"}


def test_at_equal_times_the_source_named_first_comes_first_whatever_the_blocks(tmp_path: Path) -> None:
    for name in "abc":
        stamps = [FIRST, FIRST, FIRST + 1, FIRST + 1, FIRST + 2]
        (tmp_path / name).write_text("".join(f'{ts} {{"{name}":{at}}}\n' for at, ts in enumerate(stamps)))

    orders = []
    for block_bytes in (1, 40, 100, 1 << 20):
        runs = open_captures([tmp_path / "c", tmp_path / "a", tmp_path / "b"]).runs(block_bytes=block_bytes)
        orders.append([raw for run in runs for raw in run.payloads()])

    assert all(order == orders[0] for order in orders)
    assert [raw[2:3] + raw[5:6] for raw in orders[0]] == b"a0 a1 b0 b1 c0 c1 a2 a3 b2 b3 c2 c3 a4 b4 c4".split()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b"open,high,low\n1,2,3\n", "it begins with b'open,high,low'"),
        (bytes(range(256)) * 40, "it begins with"),
        (b"PK\x03\x04rest", "it is packed by zip (`unzip`)"),
        (b"\x28\xb5\x2f\xfdrest", "it is packed by zstandard (`zstd -d`)"),
        (gzip.compress(capture(1000), mtime=0)[:12], "cut short after 0 bytes of text"),
        (b'configuration: {"a":1}\n', "no message with a time is in it"),
    ],
)
def test_a_file_that_is_no_capture_is_refused_with_what_was_expected(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(InputError) as error:
        open_captures(tmp_path / "a")

    assert told in str(error.value)
    assert "hftbacktest" in str(error.value) and str(tmp_path / "a") in str(error.value)


def test_an_empty_file_among_others_is_told_and_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "X_20240808").write_bytes(capture(5))
    (tmp_path / "X_20240809").write_bytes(b"")
    counts = CaptureCounts()

    capture_found = open_captures(sorted(tmp_path.iterdir()))

    assert sum(len(run) for run in capture_found.runs(counts)) == 5
    assert [note.said() for note in counts.notes] == [
        f"{tmp_path / 'X_20240809'}: a file without a message (it is empty)"
    ]


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file, folder or glob"):
        open_captures(tmp_path / "absent*")
