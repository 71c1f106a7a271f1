"""Reading a container's output from outside of the run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from .edges.edge import Edge, EdgePolicy
from .engines.local import LocalEngine
from .errors import EdgeClosed
from .frames import Batch, End


class Host(Protocol):
    """What a subscription asks of the run it belongs to."""

    @property
    def is_over(self) -> bool: ...

    @property
    def error(self) -> BaseException | None: ...

    def begin(self) -> None: ...

    def admit(self, subscription: Subscription) -> None: ...

    def forget(self, subscription: Subscription, edge: Edge | None) -> None: ...


class Subscription:
    """Batches of one container, over all phases; leaving its block detaches it.

    A batch's credit goes back when the next one is asked for: the reader has finished with it.
    """

    def __init__(self, run: Host, name: str, policy: EdgePolicy) -> None:
        self.run, self.name, self.policy = run, name, policy
        self._edges: deque[Edge] = deque()
        self._held: tuple[Edge, Batch] | None = None
        self._more = asyncio.Event()
        self._detached = False

    async def __aenter__(self) -> AsyncIterator[Batch]:
        self.run.admit(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.detach()

    def __aiter__(self) -> AsyncIterator[Batch]:
        self.run.begin()
        return self

    async def __anext__(self) -> Batch:
        self.run.begin()
        self._finish_held()
        while True:
            while not self._edges:
                if self._detached or self.run.is_over:
                    if self.run.error is not None:
                        raise self.run.error
                    raise StopAsyncIteration
                self._more.clear()
                await self._more.wait()
            edge = self._edges[0]
            try:
                frame = await edge.receive()
            except EdgeClosed:
                frame = End()
            if isinstance(frame, Batch):
                self._held = (edge, frame)
                return frame
            if isinstance(frame, End) and self._edges:
                self._edges.popleft()

    def attach(self, engine: LocalEngine) -> None:
        if not self._detached and self.name in engine.containers:  # a phase may lack a container others have
            self._edges.append(engine.attach(self.name, self.policy))
            self._more.set()

    def detach(self) -> None:
        self._detached = True
        self._finish_held()
        while self._edges:
            self.run.forget(self, self._edges.popleft())
        self.run.forget(self, None)
        self._more.set()

    def run_has_ended(self) -> None:
        self._more.set()

    def _finish_held(self) -> None:
        if self._held is not None:
            edge, batch = self._held
            self._held = None
            edge.finish(batch)
