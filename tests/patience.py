"""How long a test waits for what is sure to come, before it fails instead of hanging."""

from __future__ import annotations

SECONDS = 300
"""Far longer than anything takes, however busy the machine is; whoever waits in vain fails after it."""
