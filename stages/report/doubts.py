"""What speaks against the figures: each doubt a sentence with the figure it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stages.execution.comparison import decay

from .examined import Examined
from .space import Landscape, at_the_edge
from .windows import Windows

CONFIDENCE = 0.95
"""Below it a deflated Sharpe ratio leaves luck as an explanation."""
FEW_TRADES = 30
FEW_PERIODS = 60
"""Returns below which a ratio of them says little."""
MUCH_LOST = 0.25
"""Share of the objective whose loss out of sample is worth a word."""
RUIN = 0.99
"""A drawdown from which nobody returns."""


class Doubt(NamedTuple):
    """A few words, and the sentence behind them."""

    head: str
    sentence: str


def doubts(
    focus: Examined,
    search: Examined,
    chosen: Mapping[str, Any] | None,
    found: Landscape | None,
    windows: Windows | None,
) -> Iterator[Doubt]:
    """What a careful reader would ask of the chosen portfolio, the gravest first."""
    yield from _of_the_run(focus)
    if chosen is None:
        yield Doubt("Nobody to choose", f"no portfolio of {focus.name} has a defined {focus.objective}.")
        return
    yield from _of_luck(search)
    yield from _of_the_sample(focus, search, windows)
    yield from _of_the_rival(focus, chosen, windows)
    yield from _of_the_best(focus, chosen)
    for name in at_the_edge(found) if found is not None else ():
        yield Doubt(
            "At the edge", f"the best {name} in {search.name} is the first or last tried; a better one may lie beyond."
        )


def _of_the_run(focus: Examined) -> Iterator[Doubt]:
    if focus.left.summary.status != "complete":
        yield Doubt("Interrupted", "the data was not read to its end; all figures are of what was read.")
    counts = focus.figures["portfolios"]
    if counts["failed"]:
        words = f"{counts['failed']:,} of {counts['planned']:,} portfolios failed and have no figures."
        yield Doubt("Failures", words)
    without = focus.figures["distribution"][focus.objective]["null"]
    if without:
        words = f"{without:,} of {counts['run']:,} portfolios have no {focus.objective}, often for want of a trade."
        yield Doubt("Undefined", words)


def _of_luck(search: Examined) -> Iterator[Doubt]:
    told = search.figures["selection"]
    deflated, trials = told["deflated_sharpe"], told["trials"]
    if trials > 1 and deflated is None:
        yield Doubt("Luck unknown", f"the deflated Sharpe ratio of the best of {trials:,} trials is undefined.")
    elif deflated is not None and deflated < CONFIDENCE:
        words = (
            f"the deflated Sharpe ratio of the best of {search.name} is {deflated:.2f}, below {CONFIDENCE}: of "
            f"{trials:,} worthless trials the best would be expected to show {told['sharpe_of_luck']:.2f} a year."
        )
        yield Doubt("It may be luck", words)


def _of_the_sample(focus: Examined, search: Examined, windows: Windows | None) -> Iterator[Doubt]:
    if focus is search:
        yield Doubt("In sample only", "it was chosen on the very data these figures are of; expect less elsewhere.")
        return
    if windows is not None and windows.joined:
        means = (windows.joined[name] for name in ("in_sample_mean", "out_of_sample_mean"))
        lost = decay(*means, lower=focus.lower)
    else:
        told = (focus.figures.get("earlier") or {}).get(focus.parent)
        lost = told["best"]["decay"] if told and told["best"] else None
    if lost is not None and lost > MUCH_LOST:
        yield Doubt("It decays", f"out of sample {lost:.0%} of the {focus.objective} is lost.")


def _of_the_rival(focus: Examined, chosen: Mapping[str, Any], windows: Windows | None) -> Iterator[Doubt]:
    if windows is not None:
        if windows.baseline is not None and windows.baseline.total_return >= windows.chosen.total_return:
            yield Doubt("No better than holding", "over all windows the baseline's return is at least as good.")
        return
    rival, mine = focus.baseline, chosen[focus.objective]
    if rival is not None and rival[focus.objective] is not None and mine is not None:
        ahead = rival[focus.objective] - mine
        if (ahead <= 0) if focus.lower else (ahead >= 0):
            yield Doubt("No better than holding", f"the baseline's {focus.objective} is at least as good.")


def _of_the_best(focus: Examined, chosen: Mapping[str, Any]) -> Iterator[Doubt]:
    here = f"in {focus.name}"
    if chosen["n_trades"] is not None and chosen["n_trades"] < FEW_TRADES:
        yield Doubt("Few trades", f"{chosen['n_trades']:,} round trips {here}; fewer than {FEW_TRADES} say little.")
    if chosen["n_periods"] is not None and chosen["n_periods"] < FEW_PERIODS:
        yield Doubt("Few returns", f"{chosen['n_periods']:,} {here}; ratios of fewer than {FEW_PERIODS} are noise.")
    if (chosen["max_leverage"] or 0.0) > 1.0:
        words = (
            f"up to {chosen['max_leverage']:.2f} times its equity was at stake; borrowing and margin cost nothing here."
        )
        yield Doubt("Leverage", words)
    if (chosen["max_drawdown"] or 0.0) > RUIN:
        yield Doubt("Ruin", "it lost all it had.")
