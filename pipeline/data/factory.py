"""The one call that makes data managers."""

from __future__ import annotations

import msgspec

from ..clock import Clock, SystemClock
from ..errors import StorageFailed
from ..storage.workspace import Workspace
from .account import Account
from .base import DataManager
from .checked import checked
from .file import FileManager
from .hybrid import HybridManager
from .journaled import JournaledManager
from .memory import MemoryManager
from .policy import MB, DataFlow
from .recording import WAITING_BYTES, Recording
from .streaming import FlushCallback, StreamingManager


def build_manager(
    name: str,
    policy: DataFlow,
    workspace: Workspace,
    *,
    flush: FlushCallback | None = None,
    clock: Clock | None = None,
) -> DataManager:
    """The data manager a policy asks for; it costs nothing until something is stored. The caller closes it.

    `flush` is where a `streaming` manager hands its items; without it they go to files of the container's own. Where
    the policy declares a `durability`, or the workspace is `checkpointed`, changes go to the workspace's journal; there
    has to be one. Raises `ConfigError` for settings that are none.
    """
    clock = clock or SystemClock()
    checked(policy, f"{name}.data_flow")
    if not is_journaled(name, policy, workspace):
        return plain_manager(name, policy, workspace, flush=flush, clock=clock)
    account = None
    if policy.mode != "memory":  # where what waits for the journal is not always held by the manager as well
        share = max(1, min(WAITING_BYTES, policy.memory_limit_bytes // 8))
        account = Account(share, clock, name, workspace.pool)
        policy = msgspec.structs.replace(policy, memory_limit_mb=(policy.memory_limit_bytes - share) / MB)
    passing = policy.mode == "streaming" and flush is not None
    recording = recording_of(name, policy, workspace, account=account, passing=passing)
    inner = plain_manager(name, policy, workspace, flush=flush, clock=clock)
    return JournaledManager(inner, recording, workspace)


def recording_of(
    name: str, policy: DataFlow, workspace: Workspace, *, account: Account | None = None, passing: bool = False
) -> Recording:
    """The container's part of the workspace's journal."""
    assert workspace.journal is not None
    return Recording(
        workspace.scope + name,
        workspace.journal,
        policy.durability,
        account=account,
        passing=passing,
        checkpointed=workspace.checkpointed,
    )


def is_journaled(name: str, policy: DataFlow, workspace: Workspace) -> bool:
    """Whether changes of the container go to the journal; raises `StorageFailed` where they must and there is none."""
    if policy.durability == "ephemeral" and not workspace.checkpointed:
        return False
    if workspace.journal is None:
        raise StorageFailed(
            f"{name}: durability: {policy.durability} needs a journal, and the workspace in {workspace.folder} has "
            "none; open the folder with open_stores, or run with an output folder"
        )
    return True


def plain_manager(
    name: str, policy: DataFlow, workspace: Workspace, *, flush: FlushCallback | None, clock: Clock
) -> DataManager:
    """The manager alone, without a journal."""
    match policy.mode:
        case "memory":
            return MemoryManager(name, policy, clock=clock, pool=workspace.pool)
        case "streaming":
            return StreamingManager(name, policy, workspace, flush=flush, clock=clock)
        case "file":
            return FileManager(name, policy, workspace, clock=clock)
        case "hybrid":
            return HybridManager(name, policy, workspace, clock=clock)
