"""What authors write against: a stage is a frozen recipe, and what it builds does the work."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from .clock import Clock, SystemClock
from .data.base import DataManager
from .frames import Batch, MemberRows, Result, Row, Watermark
from .pacing import Pacing

Output: TypeAlias = Batch | Result | MemberRows
Outputs: TypeAlias = (
    Output | Iterable[Output] | AsyncIterable[Output] | Awaitable[Output | Iterable[Output] | None] | None
)
"""What a logic's call may give back: nothing, one output, several, lazily or asynchronously."""


Given: TypeAlias = Batch | tuple[Batch, ...] | Row | Watermark
"""What a feed may give."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Anything YAML can name by `type:`: frozen, comparable and dull. Field defaults live here and nowhere else."""


class Stage(Recipe, frozen=True):
    """A container's recipe.

    A class of yours is used by `type: my_module:MyStage` or `./file.py:MyStage`; its fields are its YAML keys.
    """

    tuning: ClassVar[frozenset[str]] = frozenset()
    """Fields that change where data lies or how fast work is done, never what comes out.

    They are left out of the configuration hash.
    """

    live: ClassVar[bool] = False
    """Whether this feed follows the present: its edges are short, and lossy policies act."""

    is_feed: ClassVar[bool | None] = None
    """Whether it builds a `Feed`, so that missing or needless `inputs` are told before anything runs; None: unknown."""

    def build(self, context: Context) -> Logic:
        """Make the running thing: a `Feed`, `Transform` or `Sink` that owns the state."""
        raise NotImplementedError(f"{type(self).__name__} does not define build()")

    def takes_record(self) -> str | None:
        """The kind of record it takes from an input that sends several, where `records:` does not say; None: all."""
        return None

    def columns_read(self, schema: pa.Schema) -> frozenset[str] | None:
        """Which of these columns of an input it looks at; None (the default): all, or nobody can say.

        Where all who take a feed's rows say so, and nobody else can ask for them, it may leave the others out. What
        comes out must not depend on whether it does. Must not import numba.
        """
        return None

    def record_schemas(self, inputs: Mapping[str, pa.Schema | None]) -> Mapping[str, pa.Schema]:
        """Columns by kind of record, of a stage that sends several kinds; empty (the default): `output_schema` tells.

        Each schema says its kind in its metadata, under `record`. Called as `output_schema` is.
        """
        return {}

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        """Columns of what this stage sends, given those of its inputs by container name; None is unknown.

        Raises `SchemaMismatch` where an input lacks what the stage needs. Called before anything runs; must
        not read more than a header and must not import numba.
        """
        return None

    def input_files(self) -> Sequence[Path]:
        """Files this stage reads, in order; their content is the run's data hash. Raises `InputError`."""
        return ()

    def vary(self, parameters: Mapping[str, Any]) -> Self:
        """This recipe with the parameters of one member of a parameter space.

        Dotted names, such as `fills.fee_bps`, reach into the structs inside. Raises `ValueError`.
        """
        return _varied(self, parameters, "")

    def parameter_fields(self) -> Sequence[str]:
        """Names a parameter space may use."""
        return self.__struct_fields__

    def needs(self) -> frozenset[Hashable]:
        """What this stage wants its inputs to compute for it, such as `Feature`s."""
        return frozenset()

    def providing(self, needs: frozenset[Hashable]) -> Self:
        """This recipe, extended to provide what its consumers need."""
        return self

    def span(self, rows: int | None = None) -> tuple[int, int] | None:
        """First and last event time (ns UTC) of a feed's rows, or of its first `rows`; None where it is unknown.

        Asked only where phases are declared as shares of the data, or walk forward over all of it; it may read the
        whole input. Raises `InputError`.
        """
        return None

    def cadence_ns(self, inputs: Mapping[str, int | None]) -> int | None:
        """From one row this stage sends to the next of the same series, ns, given that of its inputs; None: unknown.

        By default a stage keeps the cadence of its inputs. Asked only where a warm-up is counted in bars.
        """
        found = set(inputs.values())
        return found.pop() if len(found) == 1 else None

    def warmup_rows(self) -> int:
        """Rows, at its own cadence, that must come before a window for this stage to be as if it had seen all."""
        return 0

    ranking_key: ClassVar[str | None] = None
    """The result in which this stage puts containers in order by an objective, so that phases can select from it."""

    def ranks_by(self, by: str | None = None) -> str:
        """The objective a phase would select by: `by`, or this stage's own. Raises `ValueError` for what it is not."""
        raise NotImplementedError(f"{type(self).__name__} does not define ranks_by()")

    def choose(self, ranking: pa.Table, top: int, by: str | None = None) -> Sequence[str]:
        """The best `top` names of a published ranking, best first, fewer where fewer qualify.

        Never one that failed, that lacks the objective, or that is no candidate but a baseline.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define choose()")

    def joining(
        self, name: str, pairs: Sequence[tuple[str, str]], by: str | None = None
    ) -> Sequence[tuple[str, Stage]]:
        """Names and stages of a chain, a feed first, that joins what walking forward left, as a last phase.

        `name` is this stage's container, `pairs` each phase that was selected from and the one after it, in order of
        time, `by` the objective it was selected by; the chain finds their results in `Context.earlier`. Nothing (the
        default): there is no such phase.
        """
        return ()

    def footprint(self, members: int, rows: int | None) -> Footprint:
        """What it will take, estimated, as one container or as a group of so many members, from so many rows of input.

        `rows` is None where nobody knows before it runs; of a feed it is how many the run allows. Only `plan` calls it;
        it must not read more than a header and must not import numba.
        """
        return Footprint(rows=rows)

    @property
    def grouped_by(self) -> Recipe | None:
        """The recipe inside whose class says which members share a container; None: all of this stage do.

        Members of several classes make several groups, each called after the wildcard and the name of its class.
        """
        return None

    @property
    def groups(self) -> bool:
        """Whether many members of this stage run as one container, built by `build_group`."""
        return False

    def build_group(self, members: Mapping[str, Self], context: Context) -> Logic:
        """One logic for all members (name -> varied recipe), in order; results carry `member=name`."""
        raise NotImplementedError(f"{type(self).__name__} does not define build_group()")


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage will take, estimated before it runs; see `Stage.footprint`. None is unknown."""

    rows: int | None = None
    """Rows it sends at most."""
    batch_rows: int | None = None
    """Rows of its largest batch, where it makes batches of its own: a feed."""
    memory_bytes: int | None = None
    """What its logic works on at most, apart from what its data manager and edges hold."""
    least_bytes: int = 0
    """Of that, what it takes whatever the data."""
    results: Mapping[str, int | None] = {}
    """Key -> bytes of what all members together leave under it, uncompressed."""
    notes: Sequence[str] = ()
    """How it was reckoned, a sentence each."""
    facts: Mapping[str, str] = {}
    """What else a person wants to know beforehand, such as the features that are computed."""


class Logic(ABC):  # noqa: B024 - every method has a default; the three kinds below are abstract
    """What a stage builds. It knows no queues and no tasks.

    `runs_in`: "loop" for calls under about half a millisecond; "thread" for computing or blocking calls;
    "auto" measures and moves between the two (only for logic that touches no event loop).
    """

    runs_in: Literal["loop", "thread", "auto"] = "loop"

    def warm(self) -> None:
        """Compile kernels; called in a thread before any feed opens."""

    def metrics(self) -> Mapping[str, Any]:
        """Figures for the phase summary's `aggregate_metrics`, true of the result; called after `on_end`."""
        return {}

    def report(self) -> pa.Table | None:
        """The table a person wants to see when the run has ended."""
        return None

    def progress(self) -> str:
        """A few words for the live progress line."""
        return ""

    @property
    def can_snapshot(self) -> bool:
        """Whether a checkpoint asks for `snapshot`: by default where a class defines it and `restore`.

        Asked once, after `warm` and before anything else; what holds others' state, such as strategies of a user's,
        says here whether they all can.
        """
        kind = type(self)
        return kind.snapshot is not Logic.snapshot and kind.restore is not Logic.restore

    def snapshot(self) -> Any:
        """All that later outputs, `metrics()` and `report()` depend on, for a checkpoint; `restore` takes it back.

        A tree of dicts with text keys, lists, plain values, numpy arrays and Arrow tables that nobody changes any more:
        work goes on while it is written. Called between two calls of the logic, where it runs, and once more after
        `on_end`. What is kept in the data manager is not part of it. A transform that does not define it (see
        `can_snapshot`), and is not `stateless`, is brought back by giving it its inputs again; a feed by reading it
        again.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define snapshot()")

    def restore(self, state: Any) -> None:
        """Take back what `snapshot` of an equal stage gave; called once, after `warm`, before anything else.

        Raises `StateMismatch` where it does not fit: the state of another version, or of a stage with other fields.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define restore()")

    def close(self) -> None:
        """Release what is held, however the run ends; called once, in a thread."""


class Feed(Logic):
    """Makes batches. A plain generator runs in a thread, an async one on the loop."""

    pacing: Pacing | None = None
    """How fast it would be replayed; it can then be paused between any two rows, and stepped. None: it is no replay."""
    lateness_ns: int = 0
    """How far event time may step back, in nanoseconds; 0 for sorted recordings. Watermarks trail by this much."""

    def stop(self) -> bool:
        """The run is being drained. A feed that will end by itself, after what it still holds, says True.

        Another is simply not asked for more.
        """
        return False

    def seek(self, ts_ns: int) -> Iterable[Given] | None:
        """All that was received at this moment or later (ns UTC), read anew, in place of what `batches` still holds.

        In front of it what puts consumers right who know what came before, such as each book as it stood then. None:
        this feed cannot be sought in. Of replays only; called on the loop, and iterated in a thread as `batches` is.
        """
        return None

    def had_given(self, batch: Batch) -> None:
        """A run goes on from a checkpoint before which a feed that is `live` had given this, and all is told once
        more, in order and before `batches` is called: where the feed can, it goes on right behind it."""

    @abstractmethod
    def batches(self) -> Iterable[Given] | AsyncIterable[Given]:
        """Batches until the feed ends, or single `Row`s, which the container gathers into batches.

        A batch should hold at most 65,536 rows. Batches of several kinds of record that cover the same time are given
        as one tuple. A feed may send its own `Watermark`s (such as `idle`); the container sends one after each batch,
        or after all batches of a tuple.
        """


class Transform(Logic):
    """Turns batches into batches and results. Each method may be plain or async, a generator or not."""

    stateless: bool = False
    late_rows: int = 0
    """Rows that came after their window had closed; the logic counts them, the ledger shows them."""

    @abstractmethod
    def on_batch(self, batch: Batch) -> Outputs:
        """Work on one batch; `batch.source` names the input it came from."""

    def on_watermark(self, watermark: Watermark) -> Outputs:
        """Event time has reached `watermark.ts` on all inputs."""
        return None

    def on_end(self) -> Outputs:
        """All inputs have ended."""
        return None


class RowTransform(Transform):
    """Works on one row at a time: `on_row` returns a row, None to drop it, or a list of rows. Plain or async."""

    @abstractmethod
    def on_row(self, row: Any) -> Any:
        """What becomes of one row."""

    def on_batch(self, batch: Batch) -> Outputs:
        if iscoroutinefunction(self.on_row):
            return self._on_batch_async(batch)
        return _gathered(list(map(self.on_row, batch.rows)))

    async def _on_batch_async(self, batch: Batch) -> Batch | None:
        return _gathered([await self.on_row(row) for row in batch.rows])


class Sink(Transform):
    """Takes batches out of the process. It counts what became of every row it received."""

    committed_rows: int = 0
    rejected_rows: int = 0
    duplicate_rows: int = 0


R = TypeVar("R", bound=msgspec.Struct)


def _varied(struct: R, parameters: Mapping[str, Any], prefix: str) -> R:
    """`struct` with other fields, those of structs inside under dotted names."""
    types = {field.name: field.type for field in msgspec.structs.fields(struct)}
    within: dict[str, dict[str, Any]] = {}
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        head, _, rest = name.partition(".")
        inner = getattr(struct, head, None)
        if head not in types or (rest and not isinstance(inner, msgspec.Struct)):
            raise ValueError(f"{type(struct).__name__} has no parameter '{prefix}{name}'; it has {', '.join(types)}")
        if rest:
            within.setdefault(head, {})[rest] = value
            continue
        try:
            values[head] = msgspec.convert(value, types[head])
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
    for head, inside in within.items():
        values[head] = _varied(values.get(head, getattr(struct, head)), inside, f"{prefix}{head}.")
    return msgspec.structs.replace(struct, **values)


def _gathered(results: list[Any]) -> Batch | None:
    rows: list[Any] = []
    for result in results:
        if isinstance(result, list):
            rows.extend(result)
        elif result is not None:
            rows.append(result)
    wrong = next((kind for kind in set(map(type, rows)) if not issubclass(kind, msgspec.Struct)), None)
    if wrong is not None:
        raise TypeError(f"expected on_row to return a row, a list of rows or None, found {wrong.__name__}")
    return Batch.from_rows(rows) if rows else None


@dataclass(frozen=True)
class Context:
    """What a logic may ask its container for. Feeds and transforms are built with it, tests build it by hand."""

    name: str = "test"
    store: DataManager | None = None
    clock: Clock = field(default_factory=SystemClock)
    folder: Path | None = None
    """The phase's folder, where sinks write; None in tests that write nothing."""
    seed: int = 0
    active_from_ns: int | None = None
    """Where the phase's window begins, ns UTC; rows before it only warm up. None: there is no warm-up."""
    earlier: Mapping[str, Any] = field(default_factory=dict)
    """Phases this one selects from or needs: `earlier["train"]["execution"]["ranking"]` is a table.

    Reading one blocks: do it in `build()`, which is called in a thread.
    """

    columns: frozenset[str] | None = None
    """Of a feed: columns that somebody takes, and the others may be left out; None: all."""

    @property
    def log(self) -> logging.Logger:
        return logging.getLogger(f"penstock.{self.name}")

    def random(self) -> np.random.Generator:
        """A generator seeded by the run's seed and this container's name, never by the clock."""
        return np.random.default_rng([self.seed, *self.name.encode()])
