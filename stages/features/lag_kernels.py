"""The compiled delay of features."""

from __future__ import annotations

from typing import Any

from numba import float64, int64, njit

from .kernels import readable


@njit(
    [
        int64(
            readable(float64, 2), readable(int64, 1), readable(int64, 2),
            float64[:, ::1], int64[:, ::1], float64[:, ::1],
        )
    ],
    nogil=True,
    cache=True,
)  # fmt: skip
def follow_lags(lines: Any, owners: Any, plan: Any, values: Any, counts: Any, out: Any) -> int:
    """Each line delayed, value by value and instrument by instrument; how many are NaN.

    `plan` (features x 3): which of `lines` (features x bars), by how many values, where its values begin in `values`
    (instruments x length). `counts` (instruments x features) values seen.
    """
    unformed = 0
    for f in range(len(plan)):
        line, lag, at = lines[plan[f, 0]], plan[f, 1], plan[f, 2]
        for row in range(len(owners)):
            x = line[row]
            if x != x:
                unformed += 1
                continue
            owner = owners[row]
            seen = counts[owner, f]
            place = at if lag == 1 else at + seen % lag
            if seen < lag:
                unformed += 1
            else:
                out[f, row] = values[owner, place]
            values[owner, place] = x
            counts[owner, f] = seen + 1
    return unformed
