"""What a container bears of its logic: schema, defaults and documentation of `errors:` at once."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ..data.policy import Positive, Settings

Count = Annotated[int, msgspec.Meta(ge=0, le=1000)]


class ErrorPolicy(Settings, frozen=True):
    """What happens when a container's logic raises: retry, dead letters, restart, and at last `on_failure`.

    As it is by default, the first failure fails the phase. Output is held until a call has returned, so a call that
    failed has sent nothing.
    """

    retries: Count = 0
    """Times a call that failed is made again. A logic that can give its state (`snapshot`) is restored before each.
    Only for that and for logic that is `stateless`: of another nobody knows what a failed call has left in it."""
    backoff_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.1
    """The first wait before a retry or a restart; doubled each time, shortened by up to half at random (seeded)."""
    max_backoff_seconds: Positive = 30
    """The longest of these waits."""
    timeout_seconds: Positive | None = None
    """How long a call may take. An async one is cancelled, which counts as a failure. One in a thread cannot be
    stopped: the container fails, and the thread is left behind until the process ends. One on the loop is not timed."""
    dead_letters: bool = False
    """Whether rows that fail again and again are put aside in `<phase>/dead_letters/` and the others go on; for the
    same logic as `retries`."""
    max_dead_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01
    """Share of the last `dead_window_rows` rows that may be dead letters; beyond it the container fails."""
    dead_window_rows: Annotated[int, msgspec.Meta(gt=0, le=10_000_000)] = 1000
    """Rows over which that share is counted; before as many have come, it is a share of this number all the same."""
    restarts: Count = 0
    """Times the phase is run again because of this container: from the last checkpoint, or from its beginning."""
    on_failure: Literal["fail_phase", "record"] = "fail_phase"
    """When nothing else is left: fail the phase; or note it, end what this container sends, and let the others go on
    (the phase is then `partial`)."""

    @property
    def mends(self) -> bool:
        """Whether calls that fail are answered for at all."""
        return bool(self.retries or self.dead_letters or self.timeout_seconds)
