"""`penstock dead-letters`: what a run's end says of them, how they are listed, and giving them again, end to end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from pipeline.mending.dead_letters import DeadLetter, DeadLetterFile
from pipeline.storage.executor import IoExecutor

Penstock = Callable[..., Result]

PICKY = """\
import pyarrow.compute as pc
from pipeline import Stage, Transform


class Picky(Stage, frozen=True):
    below: float = 1e9
    at: int = -1

    def build(self, context):
        return Refusing(self.at)


class Refusing(Transform):
    stateless = True

    def __init__(self, at):
        self.at = at

    def on_batch(self, batch):
        seqs = range(batch.first_seq, batch.first_seq + batch.num_rows)
        if any(seq in (7, 90) for seq in seqs) and self.at < 0:
            raise ValueError("a row\\nthat \\x1b[31mno one takes")
        return batch
"""
CONFIG = """\
name: picky
errors: {max_dead_share: 0.5}
containers:
  data: {type: synthetic, rows: 200, schema: trade, seed: 1}
  picky: {type: "./picky.py:Picky", inputs: data, errors: {dead_letters: true}}
  save: {type: parquet, path: kept, inputs: picky}
"""


@pytest.fixture
def ran(penstock: Penstock, tmp_path: Path) -> Result:
    (tmp_path / "picky.py").write_text(PICKY)
    (tmp_path / "picky.yaml").write_text(CONFIG)
    told = penstock("run", "picky.yaml")
    assert told.exit_code == 0, told.stderr
    return told


def test_the_end_of_a_run_counts_them_and_says_how_to_look_at_them(ran: Result, penstock: Penstock) -> None:
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("dead letters")]
    assert "run: 2 of picky; penstock dead-letters results/picky/" in line
    told = penstock(*line.partition("; penstock ")[2].split())
    assert told.exit_code == 0 and "2 rows in" in told.stdout


def test_they_are_listed_with_offset_error_and_row(ran: Result, penstock: Penstock) -> None:
    for folder in ("results/picky", "results/picky/latest", "results/picky/latest/run"):
        told = penstock("dead-letters", folder)
        assert told.exit_code == 0, told.stderr
        assert "data:7" in told.stdout and "data:90" in told.stdout and "ingest_seq=90" in told.stdout
        assert "\x1b" not in told.stdout and "a row that \\x1b[31mno one takes" in told.stdout
    told = penstock("dead-letters", "results/picky", "--limit", "1")
    assert "data:90" not in told.stdout and "and 1 more; --limit 0 shows all" in told.stdout


def test_json_has_all_of_each(ran: Result, penstock: Penstock) -> None:
    told = penstock("dead-letters", "results/picky", "--json", "--phase", "run", "--container", "picky")
    first, second = json.loads(told.stdout)
    assert (first["source"], first["first_seq"], second["first_seq"], first["rows"]) == ("data", 7, 90, 1)
    assert first["attempts"] > 1 and first["error"].startswith("ValueError: a row")
    assert list(first["value"][0]) == pq.read_table(next(Path("results").rglob("kept*/*.parquet"))).schema.names


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["results/picky", "--container", "save"], 0, "no dead letters of save in results/picky"),
        (["results/picky", "--phase", "other"], 1, "phase 'other' has no dead letters; there are some in run"),
        (["nowhere"], 1, "there is no folder nowhere"),
        (["results/picky", "--replay", "picky.yaml", "--container", "save"], 1, "there are no dead letters"),
        (["results/picky", "--replay", "none.yaml"], 2, "there is no such file"),
    ],
)
def test_what_is_not_there_is_said(ran: Result, penstock: Penstock, words: list[str], code: int, says: str) -> None:
    told = penstock("dead-letters", *words)
    assert told.exit_code == code and says in told.stdout + told.stderr


def summary_of(folder: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return made


def test_given_again_they_take_the_way_they_would_have_taken(ran: Result, penstock: Penstock) -> None:
    before = Path("results/picky/latest/run/summary.json").read_bytes()
    told = penstock(
        "dead-letters", "results/picky", "--replay", "picky.yaml", "--set", "containers.picky.at=0"
    )  # what was wrong is put right
    assert told.exit_code == 0, told.stderr
    summary = summary_of("results/picky-replay/latest/run.picky")
    books = summary["ledger"]["containers"]
    assert books["data"]["sent"] == 2 and books["picky"]["processed"] == 2 and books["save"]["committed"] == 2
    given = pq.read_table(next(Path("results/picky-replay/latest/").rglob("kept*/*.parquet")))
    letters = json.loads(penstock("dead-letters", "results/picky", "--json").stdout)
    assert [str(row["price"]) for row in given.to_pylist()] == [letter["value"][0]["price"] for letter in letters]
    assert Path("results/picky/latest/run/summary.json").read_bytes() == before
    # The whole is what it would have been: rows of the run and of the replay are those of the data.
    assert summary_of("results/picky/latest/run")["ledger"]["containers"]["save"]["committed"] == 198


def test_those_that_die_again_are_dead_letters_of_the_replay(ran: Result, penstock: Penstock) -> None:
    Path("picky.py").write_text(PICKY.replace("seq in (7, 90) for seq in seqs", "seq == 1 for seq in seqs"))
    told = penstock("dead-letters", "results/picky", "--replay", "picky.yaml")
    assert told.exit_code == 0, told.stderr
    assert "run.picky: 1 of picky; penstock dead-letters results/picky-replay/" in told.stdout
    assert "mended        1 of 2 rows; 1 died again and are dead letters of the replay" in told.stdout
    (letter,) = json.loads(penstock("dead-letters", "results/picky-replay", "--json").stdout)
    assert letter["phase"] == "run.picky" and letter["first_seq"] == 1


def test_a_replay_in_which_nothing_was_mended_says_so_and_ends_with_1(ran: Result, penstock: Penstock) -> None:
    Path("picky.py").write_text(PICKY.replace("seq in (7, 90) for seq in seqs", "seq >= 0 for seq in seqs"))
    told = penstock("dead-letters", "results/picky", "--replay", "picky.yaml")
    assert told.exit_code == 1, told.stderr
    assert "mended        0 of 2 rows; 2 died again and are dead letters of the replay" in told.stdout
    told = penstock("dead-letters", "results/picky", "--replay", "picky.yaml", "--json")
    assert told.exit_code == 1 and "0 of 2 rows" in told.stderr and json.loads(told.stdout)["phase"] == "run.picky"


def test_flushes_are_listed_with_their_rows_and_not_given_again(ran: Result, penstock: Penstock) -> None:
    phase = Path("results/picky/latest/run").resolve()

    async def write() -> None:
        io = IoExecutor(1)
        letter = DeadLetter(container="picky", value={"a": 1}, error="TimeoutError: no", attempts=4, time_ns=0,
                            batch_id=("picky", 3, 9), key="trades", rows=7)  # fmt: skip
        await DeadLetterFile(phase, "picky.flush", io).add([letter])
        await io.close()

    asyncio.run(write())
    told = penstock("dead-letters", phase, "--container", "picky")
    assert "flush 3-9" in told.stdout and "a=1 (and 6 more)" in told.stdout and "9 rows in" in told.stdout
    (phase / "dead_letters" / "picky.seg").unlink()
    told = penstock("dead-letters", phase, "--replay", "picky.yaml")
    assert told.exit_code == 1 and "none of these dead letters is of rows that can be given again" in told.stderr


def test_a_letter_being_written_is_counted_in_bytes(ran: Result, penstock: Penstock) -> None:
    with Path("results/picky/latest/run/dead_letters/picky.seg").open("ab") as file:
        file.write(b"half")
    told = penstock("dead-letters", "results/picky")
    assert told.exit_code == 0 and "data:90" in told.stdout and "4 bytes behind them cannot be read" in told.stderr


def test_a_failed_run_shows_them_too(ran: Result, penstock: Penstock) -> None:
    told = penstock("run", "picky.yaml", "--output", "other", "--set", "errors.max_dead_share=0.001")
    assert told.exit_code == 1 and "penstock dead-letters other/picky/" in told.stderr
    told = penstock("dead-letters", "other/picky")
    assert told.exit_code == 0 and "data:90" in told.stdout


def test_recorded_failures_stand_at_the_end_of_a_run(ran: Result, penstock: Penstock) -> None:
    told = penstock(
        "run", "picky.yaml", "--set", "containers.picky.errors.dead_letters=false",
        "--set", "containers.picky.errors.on_failure=record",
    )  # fmt: skip
    assert told.exit_code == 0, told.stderr
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("failed")]
    assert "run: container 'picky' failed: ValueError: a row that" in line and "\x1b" not in line


def test_rows_that_were_dropped_stand_at_the_end_of_a_run(ran: Result, penstock: Penstock) -> None:
    """What went to a container that had failed; the ledger has it for every edge."""
    told = penstock(
        "run", "picky.yaml", "--set", "containers.picky.errors.dead_letters=false", "--set",
        "containers.picky.errors.on_failure=record", "--set", "containers.data.batch_rows=10",
    )  # fmt: skip
    (line,) = [line for line in told.stdout.splitlines() if line.startswith("dropped")]
    assert "rows from data to picky" in line and "run: 190 of 200 " in line
