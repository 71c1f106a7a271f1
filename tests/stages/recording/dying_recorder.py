"""A program that records messages in children which die, one after the other, until the last one has all of them.

Called with a JSON object: `messages` (a file), `kills`, `runs` (each `folder`, `acks`, `seed`, `settings`). Children
are forked once all is imported, kill themselves before or behind a step that changes the folder, in whatever thread,
and write what was acknowledged to a file. Prints how the children of each run ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from typing import Any

import numpy as np
import pyarrow as pa

from stages.interpreting import Interpreter, Interpreting
from stages.messages import Messages
from stages.recording import Recording
from stages.recording.recorder import open_recorder
from stages.venues import venue_named

STEPS = ("replace", "fsync", "fdatasync", "unlink", "pwritev", "mkdir", "ftruncate")
"""Calls that change the folder, as `storage/disk.py` makes them."""
USDM = venue_named("binance_usdm")


def main() -> None:
    told: dict[str, Any] = json.loads(sys.argv[1])
    with pa.OSFile(told["messages"]) as file:
        messages = Messages.from_batch(pa.ipc.open_file(file).read_all().to_batches()[0])
    Interpreter(USDM, Interpreting()).interpret(messages)  # compiled once, not in every child
    print(json.dumps([_run(run, messages, told["kills"]) for run in told["runs"]]))


def _run(run: dict[str, Any], messages: Messages, kills: int) -> list[int]:
    """Each child has some more messages to record than the one before, so that all have something to do."""
    chance = random.Random(run["seed"])
    ends = []
    for number in range(1, kills + 1):
        part = messages.slice(0, len(messages) * number // (kills + 1))
        ends.append(_child(run, part, chance.randrange(1, 9), chance.randrange(1, 60), chance.random() < 0.5))
    ends.append(_child(run, messages, 100, None, False))
    return ends


def _child(run: dict[str, Any], messages: Messages, cut: int, step: int | None, after: bool) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            if step is not None:
                _die_at(step, after)
            asyncio.run(_record(run, messages, cut))
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _die_at(step: int, after: bool) -> None:
    """Before, or behind, the so-and-so-manyth call that changes anything on the disk, in whatever thread it is."""
    left = [step]

    def watched(call: Any) -> Any:
        def dying(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*args, **kwargs)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return dying

    for name in STEPS:
        setattr(os, name, watched(getattr(os, name)))


async def _record(run: dict[str, Any], messages: Messages, cut: int) -> None:
    """From where the folder's log ends: what was acknowledged is not sent again."""
    acks = os.open(run["acks"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with open_recorder(run["folder"], Recording(**run["settings"])) as recorder:
        recorder._partitions._buffer_bytes, recorder._partitions._group_rows = 100_000, 200
        at = recorder._next_seq
        while at < len(messages):
            end = min(at + cut, len(messages))
            await recorder.take(messages.slice(at, end), USDM)
            os.write(acks, np.array([end], np.int64).tobytes())
            at = end
    os.close(acks)


if __name__ == "__main__":
    main()
