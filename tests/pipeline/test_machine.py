"""How much a process may have: of the machine, of its cgroup in either version, and the default pool of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.machine import MB, Resident, available, default_pool, process_limit

PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
UNLIMITED = "9223372036854771712\n"
"""As version 1 says it."""


def machine(root: Path, **files: str) -> Path:
    """A root with these files; `__` stands for a slash, and `CG` for where cgroups are mounted."""
    for name, text in {"proc__meminfo": "MemTotal: 1 kB\nMemAvailable:  512000 kB\n", **files}.items():
        path = root / name.replace("CG", "sys__fs__cgroup").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a1_without_cgroups_it_is_the_machine(tmp_path: Path) -> None:
    root = machine(tmp_path)
    assert process_limit(root) == (PHYSICAL, f"the {PHYSICAL // MB:,} MB of this machine")
    assert available(root) == (500 * MB, "the 500 MB available")


def test_a1_the_limit_of_a_cgroup_of_version_2_counts_wherever_above_the_process_it_is_set(tmp_path: Path) -> None:
    root = machine(tmp_path, **{
        "proc__self__cgroup": "0::/user/job\n",
        "CG__user__job__memory.max": "max\n",
        "CG__user__memory.max": f"{100 * MB}\n",
        "CG__user__memory.current": f"{90 * MB}\n",
        "CG__user__memory.stat": f"anon 1\ninactive_file {20 * MB}\n",
        "CG__memory.max": f"{300 * MB}\n",
    })  # fmt: skip
    assert process_limit(root) == (100 * MB, "the 100 MB its cgroup allows")
    assert available(root) == (30 * MB, "the 30 MB its cgroup has left"), "cached files nobody uses count as free"


def test_a1_the_limit_of_a_cgroup_of_version_1_counts_even_where_the_path_is_the_hosts(tmp_path: Path) -> None:
    root = machine(tmp_path, **{
        "proc__self__cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
        "CG__memory__memory.limit_in_bytes": f"{200 * MB}\n",
        "CG__memory__memory.usage_in_bytes": f"{50 * MB}\n",
    })  # fmt: skip
    assert process_limit(root) == (200 * MB, "the 200 MB its cgroup allows")
    assert available(root).bytes == 150 * MB


@pytest.mark.parametrize("limit", ["max\n", UNLIMITED, "", "nonsense\n"])
def test_a1_a_cgroup_that_limits_nothing_counts_for_nothing(limit: str, tmp_path: Path) -> None:
    root = machine(tmp_path, **{"proc__self__cgroup": "4:memory:/\n0::/\n", "CG__memory__memory.limit_in_bytes": limit,
                                "CG__memory.max": limit})  # fmt: skip
    assert process_limit(root).bytes == PHYSICAL
    assert available(root).bytes == 500 * MB


def test_a1_the_default_pool_is_a_share_of_it_and_says_of_what(tmp_path: Path) -> None:
    root = machine(tmp_path, **{"proc__self__cgroup": "0::/\n", "CG__memory.max": f"{1000 * MB}\n"})
    assert default_pool(owns_process=True, root=root) == (700 * MB, "0.70 of the 1,000 MB its cgroup allows")
    assert default_pool(owns_process=False, root=root) == (125 * MB, "0.25 of the 500 MB available")


def test_a4_resident_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    resident = Resident()
    before = resident()
    held = bytearray(64 * MB)
    assert 60 * MB < resident() - before < 80 * MB
    del held
    resident.close()
    resident.close()
