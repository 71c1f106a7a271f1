"""Another future moves no past: cheats are found and named, honest stages pass."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline import (
    Batch,
    ConfigError,
    Context,
    InputError,
    LookaheadReport,
    Push,
    Result,
    Stage,
    Topology,
    TopologyBuilder,
    Transform,
    check_lookahead,
)
from pipeline.testing import ListFeed, ListSink

ROWS = 240
START = 1_700_000_000_000_000_000


def feed(rows: int = ROWS, **words: Any) -> ListFeed:
    """A seeded walk, one value a second."""
    values = np.random.default_rng(5).normal(size=rows).cumsum() + 100.0
    times = pa.array(START + np.arange(rows) * 1_000_000_000).cast(pa.timestamp("ns", tz="UTC"))
    return ListFeed(items=[{"ts_event": times, "value": pa.array(values)}], **words)


def chain(*stages: Stage) -> Topology:
    builder = TopologyBuilder()
    builder.add("data", feed())
    before = "data"
    for number, stage in enumerate(stages):
        name = f"{type(stage).__name__.lower()}_{number}"
        builder.add(name, stage, [before])
        before = name
    return builder.build()


async def examined(*stages: Stage, **words: Any) -> LookaheadReport:
    return await check_lookahead(chain(*stages), **{"cuts": 4, **words})


class _Made(Stage, frozen=True):
    """A stage whose logic is the class's own `logic`."""

    def build(self, context: Context) -> Transform:
        return type(self).logic()  # type: ignore[attr-defined, no-any-return]


def with_signal(batch: Batch, signal: Any) -> Batch:
    return batch.with_columns(signal=pa.array(np.asarray(signal, np.float64)))


def value_of(batch: Batch) -> np.ndarray[Any, Any]:
    return np.asarray(batch.columns.column("value").to_numpy())


class Centred(_Made, frozen=True):
    """A centred average: each row knows the one after it."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            value = value_of(batch)
            padded = np.concatenate([value[:1], value, value[-1:]])
            return with_signal(batch, (padded[:-2] + padded[1:-1] + padded[2:]) / 3)


class OneAhead(_Made, frozen=True):
    """Whether the next value is higher: `shift(-1)`, within the batch."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            value = value_of(batch)
            return with_signal(batch, np.append(value[1:], value[-1]) > value)


class Normalised(_Made, frozen=True):
    """Less the mean of the batch."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            return with_signal(batch, value_of(batch) - value_of(batch).mean())


class OverTheBorder(_Made, frozen=True):
    """Honest within a batch, but its last row waits for the first one of the batch after it."""

    class logic(Transform):
        held: Batch | None = None

        def on_batch(self, batch: Batch) -> Batch | None:
            held, self.held = self.held, batch
            return None if held is None else self._sent(held, value_of(batch)[0])

        def on_end(self) -> Batch | None:
            return None if self.held is None else self._sent(self.held, 0.0)

        def _sent(self, held: Batch, following: float) -> Batch:
            signal = value_of(held).copy()
            signal[-1] = following
            return with_signal(held, signal)


class AtTheEnd(_Made, frozen=True):
    """Gathers everything, and sends and keeps it less the mean of it all."""

    class logic(Transform):
        def __init__(self) -> None:
            self.gathered: list[pa.RecordBatch] = []

        def on_batch(self, batch: Batch) -> None:
            self.gathered.append(batch.columns)

        def on_end(self) -> Any:
            whole = Batch(pa.concat_batches(self.gathered))
            made = with_signal(whole, value_of(whole) - value_of(whole).mean())
            yield Result("table", made.columns)
            yield made


class Stamped(_Made, frozen=True):
    """Sums of ten seconds, stamped at their beginning instead of their end."""

    class logic(Transform):
        def __init__(self) -> None:
            self.rows: deque[tuple[int, float]] = deque()

        def on_batch(self, batch: Batch) -> Batch | None:
            times = batch.times()
            assert times is not None
            self.rows.extend(zip(times.tolist(), value_of(batch).tolist(), strict=True))
            begun, sums = [], []
            while len(self.rows) >= 10:
                ten = [self.rows.popleft() for _ in range(10)]
                begun.append(ten[0][0])
                sums.append(sum(value for _, value in ten))
            if not begun:
                return None
            return Batch.from_pydict({"ts_event": pa.array(begun).cast(pa.timestamp("ns", tz="UTC")), "sum": sums})


class Remembering(_Made, frozen=True):
    """An honest average of the last five, a peak, and a series and a table of them."""

    class logic(Transform):
        def __init__(self) -> None:
            self.last: deque[float] = deque(maxlen=5)
            self.peak = 0.0
            self.seen: list[pa.RecordBatch] = []

        def on_batch(self, batch: Batch) -> Any:
            means = []
            for value in value_of(batch).tolist():
                self.last.append(value)
                self.peak = max(self.peak, value)
                means.append(sum(self.last) / len(self.last) - self.peak)
            made = with_signal(batch, means)
            self.seen.append(made.columns)
            yield made
            yield Result("series", made.columns, append=True)

        def on_end(self) -> Any:
            yield Result("table", pa.concat_batches(self.seen))
            yield Result("peak", {"peak": self.peak})


class HeldBack(_Made, frozen=True):
    """Honest, in portions of 32 rows: what is sent is late, not early."""

    class logic(Transform):
        def __init__(self) -> None:
            self.rows: list[pa.RecordBatch] = []

        def on_batch(self, batch: Batch) -> Any:
            self.rows.append(batch.columns)
            whole = pa.concat_batches(self.rows)
            most = whole.num_rows // 32 * 32
            self.rows = [whole.slice(most)]
            return Batch(whole.slice(0, most)) if most else None

        def on_end(self) -> Any:
            return Batch(self.rows[0]) if self.rows and self.rows[0].num_rows else None


class AnewEachBatch(_Made, frozen=True):
    """The difference to the row before, forgotten at each border of a batch."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            return with_signal(batch, np.diff(value_of(batch), prepend=np.nan))


class Sized(_Made, frozen=True):
    """Writes down how long the batch was."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            return with_signal(batch, np.full(batch.num_rows, batch.num_rows))


_CALLS = iter(range(10**9))


class Unsteady(_Made, frozen=True):
    """A number that no run has had before."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            return with_signal(batch, np.full(batch.num_rows, next(_CALLS)))


class Untimed(_Made, frozen=True):
    """Sends rows without a time."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            return Batch(batch.columns.select(["value"]))


CHEATS: list[Stage] = [Centred(), OneAhead(), Normalised(), OverTheBorder(), AtTheEnd(), Stamped()]
HONEST: list[Stage] = [Remembering(), HeldBack()]


@pytest.mark.parametrize("stage", CHEATS, ids=lambda stage: type(stage).__name__)
async def test_a_stage_that_looks_ahead_is_found(stage: Stage) -> None:
    report = await examined(stage)
    (found,) = report.findings
    assert found.verdict == "looks ahead" and not report.ok
    assert found.moved is not None and found.moved.column in ("signal", "sum") and found.moved.ts is not None
    assert found.moved.before != found.moved.after
    assert "shift(-1)" in str(report) and "the rows after 2023-11-14 22:" in str(report)


@pytest.mark.parametrize("stage", HONEST, ids=lambda stage: type(stage).__name__)
async def test_an_honest_stage_that_remembers_or_holds_back_passes(stage: Stage) -> None:
    report = await examined(stage, HeldBack(), Remembering())
    assert report.ok, str(report)
    assert all(container.verdict == "ok" for container in report.containers)


async def test_a_row_that_sees_one_row_ahead_is_found_at_the_very_cut() -> None:
    report = await examined(OneAhead())
    moved = report["oneahead_0"].moved
    assert moved is not None and moved.ts in report.cuts


async def test_a_cheat_at_the_border_of_batches_is_found_only_by_a_cut_at_one() -> None:
    report = await examined(OverTheBorder())
    moved = report["overtheborder_0"].moved
    assert moved is not None and moved.ts == report.cuts[1]


@pytest.mark.parametrize("stage", [AnewEachBatch(), Sized()], ids=lambda stage: type(stage).__name__)
async def test_what_depends_on_batches_but_not_on_the_future_is_told_apart(stage: Stage) -> None:
    report = await examined(stage)
    (found,) = report.findings
    assert found.verdict == "depends on batches"
    assert "begins anew with each batch" in str(report) and "looks ahead" not in str(report)


async def test_what_no_run_repeats_is_not_called_look_ahead() -> None:
    report = await examined(Unsteady())
    assert [found.verdict for found in report.findings] == ["not repeatable"]
    assert "randomness without a seed" in str(report)


async def test_the_most_upstream_culprit_is_named_and_the_others_follow() -> None:
    report = await examined(Remembering(), Centred(), HeldBack())
    assert [found.name for found in report.findings] == ["centred_1"]
    assert report["remembering_0"].verdict == "ok"
    assert (report["heldback_2"].verdict, report["heldback_2"].causes) == ("follows", ("centred_1",))
    assert "moved too, as it reads from centred_1" in str(report)


async def test_a_cheat_behind_one_that_only_depends_on_batches_is_a_finding_of_its_own() -> None:
    report = await examined(AnewEachBatch(), OneAhead())
    assert [found.verdict for found in report.findings] == ["depends on batches", "looks ahead"]


async def test_rows_without_a_time_cannot_be_compared_and_that_is_told() -> None:
    report = await examined(Untimed())
    assert not report.ok and not report.findings
    assert "not compared" in str(report) and "nothing could be compared" in str(report)


async def test_each_member_of_a_group_is_looked_at() -> None:
    builder = TopologyBuilder()
    builder.add("data", feed())
    members: dict[str, Stage] = {f"m_{index}": Shifted(rows=index) for index in range(3)}
    builder.add("m", Shifted(), ["data"], members=members, pattern="m_*")
    report = await check_lookahead(builder.build(), cuts=3)
    found = report["m"]
    assert (found.verdict, found.members, found.of_members) == ("looks ahead", 2, 3)
    assert found.moved is not None and found.moved.member in ("m_1", "m_2") and found.moved.key == "signal"


class Shifted(Stage, frozen=True):
    """Keeps what its value will be in some rows."""

    rows: int = 0

    @property
    def groups(self) -> bool:
        return True

    def build_group(self, members: Any, context: Context) -> Transform:
        return ShiftedGroup(members)


class ShiftedGroup(Transform):
    def __init__(self, members: Any) -> None:
        self.members = members

    def on_batch(self, batch: Batch) -> Any:
        value = value_of(batch)
        for name, recipe in self.members.items():
            signal = np.append(value[recipe.rows :], np.full(min(recipe.rows, len(value)), np.nan))
            yield Result("signal", with_signal(batch, signal).columns, append=True, member=name)


async def test_two_feeds_are_cut_at_the_same_moments() -> None:
    def graph(last: Stage) -> Topology:
        builder = TopologyBuilder()
        builder.add("one", feed())
        builder.add("two", feed(rows=90))
        builder.add("both", last, ["one", "two"])
        return builder.build()

    honest = await check_lookahead(graph(Remembering()), cuts=3)
    assert honest.ok, str(honest)
    assert honest.rows == ROWS + 90
    cheating = await check_lookahead(graph(Normalised()), cuts=3)
    assert [found.name for found in cheating.findings] == ["both"]


async def test_sinks_are_never_written_to() -> None:
    into: list[Batch] = []
    builder = TopologyBuilder()
    builder.add("data", feed())
    builder.add("honest", Remembering(), ["data"])
    builder.add("sink", ListSink(into=into), ["honest"])
    report = await check_lookahead(builder.build(), cuts=2)
    assert report.ok and not into
    assert [container.name for container in report.containers] == ["data", "honest"]


async def test_only_the_first_rows_are_tried() -> None:
    report = await examined(Remembering(), rows=100, cuts=3)
    assert report.ok and report.rows == 100 and len(report.cuts) == 3 and report.runs == 3 + 1 + 3 * 3


async def test_what_fails_on_another_future_is_noted_and_not_compared() -> None:
    report = await examined(Narrow())
    assert report.ok
    assert any("it failed, so that nothing was compared" in note for note in report.notes)


class Narrow(_Made, frozen=True):
    """Fails where values leave the range they have in the recording."""

    class logic(Transform):
        def on_batch(self, batch: Batch) -> Batch:
            if value_of(batch).max() > 135:
                raise ValueError("too high")
            return batch


async def test_a_live_feed_and_data_without_times_are_refused() -> None:
    builder = TopologyBuilder()
    builder.add("data", Push())
    builder.add("honest", Remembering(), ["data"])
    with pytest.raises(ConfigError, match="a live feed has no future yet"):
        await check_lookahead(builder.build())
    for items, expected in (
        ([{"value": [1.0, 2.0]}], "carry no time"),
        ([{"ts_event": [1, 1], "value": [1.0, 2.0]}], "rows at different times"),
        ([], "gave no row"),
    ):
        builder = TopologyBuilder()
        builder.add("data", ListFeed(items=items))
        builder.add("honest", Remembering(), ["data"])
        with pytest.raises(InputError, match=expected):
            await check_lookahead(builder.build())


async def test_a_configuration_without_data_is_a_bad_configuration() -> None:
    with pytest.raises(ConfigError, match=r"containers.data: no recording was given.*--data PATH"):
        await check_lookahead({"containers": {"data": {"type": "replay"}}})


def test_values_change_and_times_names_and_order_stay() -> None:
    from pipeline.lookahead.futures import Rows, changed

    rows = 50
    moments = np.arange(rows) * 10
    columns = pa.RecordBatch.from_pydict(
        {
            "ts_event": pa.array(moments).cast(pa.timestamp("ns", tz="UTC")),
            "price": pa.array([str(n + 1) for n in range(rows)]).cast(pa.decimal64(18, 2)),
            "wide": pa.array([str(n + 1) for n in range(rows)]).cast(pa.decimal128(38, 12)),
            "size": pa.array([None if n % 7 == 3 else float(n + 1) for n in range(rows)]),
            "side": pa.array([n % 2 + 1 for n in range(rows)], pa.int8()),
            "sequence": pa.array(range(rows), pa.uint64()),
            "interval_ns": pa.array([n % 3 for n in range(rows)]),
            "name": pa.array([f"n{n % 4}" for n in range(rows)]).dictionary_encode(),
        }
    )
    given = Rows(columns, moments)
    cut = changed(given, 195, "cut off", 0)
    assert cut.equals(columns.slice(0, 20))
    for future, factor in (("shuffled and raised", 1.5), ("shuffled and lowered", 0.5)):
        made = changed(given, 195, future, 0)  # type: ignore[arg-type]
        assert made.schema == columns.schema and made.slice(0, 20).equals(columns.slice(0, 20))
        for name in ("ts_event", "sequence", "interval_ns", "name"):
            assert made.column(name).equals(columns.column(name))
        price, size, wide = (made.column(name).slice(20).to_pylist() for name in ("price", "size", "wide"))
        assert sorted(float(value) for value in price) == [factor * (n + 1) for n in range(20, rows)]
        assert price != sorted(price) and [float(a) for a in price] == [float(b) for b in wide]
        for value, beside in zip(price, size, strict=True):
            assert beside is None or float(value) == beside, "values of one row move together"
        assert size.count(None) == columns.column("size").slice(20).null_count
        assert made.column("side").slice(20).to_pylist() != columns.column("side").slice(20).to_pylist()
    assert changed(given, 195, "shuffled and raised", 0).equals(changed(given, 195, "shuffled and raised", 0))
    assert not changed(given, 195, "shuffled and raised", 1).equals(changed(given, 195, "shuffled and raised", 0))


def test_what_a_schema_says_is_known_earlier_stays_at_the_cut() -> None:
    from pipeline.lookahead.futures import KNOWN_AT, Rows, changed, early

    moments = np.arange(1, 21) * 10
    stamp = pa.timestamp("ns", tz="UTC")
    values = pa.array(np.arange(20.0))
    schema = pa.schema(
        [
            ("ts_event", stamp),
            pa.field("open", pa.float64(), metadata={KNOWN_AT: b"bar_start"}),
            ("close", pa.float64()),
            ("bar_start", stamp),
        ]
    )
    arrays = [pa.array(moments).cast(stamp), values, values, pa.array(moments - 10).cast(stamp)]
    given = Rows(pa.RecordBatch.from_arrays(arrays, schema=schema), moments)
    made = changed(given, 100, "shuffled and raised", 0)
    assert made.column("open")[10].as_py() == 10.0 and made.column("close")[10].as_py() == 15.0
    assert made.column("open")[11].as_py() != 11.0
    assert early(given.columns, moments).columns == ("open",)
    assert (early(given.columns, moments).times == moments - 10).all()
    bare = given.columns.cast(pa.schema([field.remove_metadata() for field in schema]))
    assert early(bare, moments).columns == tuple(schema.names), "without a word on it, it may be all of the row"
    assert pc.all(pc.equal(made.column("bar_start"), given.columns.column("bar_start"))).as_py()
