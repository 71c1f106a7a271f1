"""Checks phases against each other: their order, their windows, and that nobody is chosen by what comes later."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pipeline.durations import parse_duration, parse_instant
from pipeline.errors import ConfigError, Problem

from .leaf import suggestion
from .located import Located, Place
from .phase import PhaseConfig, WalkForward, WindowConfig
from .resolve import Config

END = "end"
"""Where the last part of a split by dates ends: where the data does."""


def check_phases(config: Config) -> Iterator[Problem]:
    """Every problem of `phases`, `split` and `walk_forward` that can be told without looking at the data."""
    if config.walk_forward is not None:
        yield from _walk(config, config.walk_forward)
        return
    if not config.phases:
        yield _at(config, "phases").problem("expected at least one phase", found="[]")
    yield from _split(config)
    windows = {phase.name: phase.window or WindowConfig() for phase in config.phases}
    seen: dict[str, PhaseConfig] = {}
    for number, phase in enumerate(config.phases):
        path = f"phases.{number}"
        if phase.name in seen:
            yield _at(config, path).problem("expected phases with different names", found=f"'{phase.name}' twice")
        for need in phase.needs:
            yield from _is_earlier(config, path, need, seen)
        yield from check_window(config, f"{path}.window", windows[phase.name])
        if phase.window is None or phase.window.since is None:
            yield from _needless_warmup(config, number, phase)
        if phase.select is not None:
            wrong = [*_is_earlier(config, f"{path}.select.from", phase.select.source, seen)]
            yield from wrong
            yield from _objective(config, f"{path}.select", phase.select.source, phase.select.by)
            if not wrong and phase.name not in config.split:
                source = phase.select.source
                yield from check_order(config, path, (source, windows[source]), (phase.name, windows[phase.name]))
        seen.setdefault(phase.name, phase)


def check_window(config: Config, path: str, window: WindowConfig) -> Iterator[Problem]:
    """A window has room for a row."""
    if (
        window.since is not None
        and window.until is not None
        and parse_instant(window.since) >= parse_instant(window.until)
    ):
        found = f"{window.since} to {window.until}, which is empty"
        yield _at(config, path).problem("expected a window whose `from` is before its `until`", found=found)


def check_order(
    config: Config, path: str, source: tuple[str, WindowConfig], phase: tuple[str, WindowConfig]
) -> Iterator[Problem]:
    """What selects begins no earlier than what it selects from ends; two phases without any window are the same data.

    Else the members it runs were chosen by the very data they are tried on.
    """
    (name, before), (_, after) = source, phase
    if before == after == WindowConfig():
        return
    hint = "a selection must not see the data it is tried on"
    if before.until is None:
        yield _at(config, path).problem(
            f"expected '{name}', which it selects from, to end: it has no `until`", suggestion=hint
        )
    elif after.since is None or parse_instant(after.since) < parse_instant(before.until):
        begins = "begins with the data" if after.since is None else f"begins at {after.since}"
        yield _at(config, f"{path}.window").problem(
            f"expected a window from {before.until} on, where '{name}' ends, which it selects from",
            found=f"one that {begins}", suggestion=hint,
        )  # fmt: skip


def _is_earlier(config: Config, path: str, name: str, seen: Mapping[str, PhaseConfig]) -> Iterator[Problem]:
    if name not in seen:
        hint = suggestion(name, list(seen)) or "list a phase after those it needs"
        if any(phase.name == name for phase in config.phases):
            hint = "list a phase after those it needs"
        yield _at(config, path).problem(f"no earlier phase is called '{name}'", suggestion=hint)


def _needless_warmup(config: Config, number: int, phase: PhaseConfig) -> Iterator[Problem]:
    phases = config.source.get("phases")
    written = phases.value[number].get("warmup") if phases is not None and isinstance(phases.value, list) else None
    if written is not None and phase.name not in config.split:
        hint = "give the phase `window: {from: ...}`, or remove it"
        yield written.problem("a warm-up is what lies before a window that has a `from`", suggestion=hint)


def _objective(config: Config, path: str, phase: str, by: str | None) -> Iterator[Problem]:
    """Something ranks, and by this objective."""
    stages = []
    applied = config.for_phase(phase)
    for name in applied.declared:
        try:
            stages.append((name, applied.stage_of(name)))
        except ConfigError:
            return  # its own problems are told elsewhere
    rankers = [(name, stage) for name, stage in stages if stage.ranking_key is not None]
    if len(rankers) != 1:
        names = ", ".join(name for name, _ in rankers) or "none does"
        hint = "declare one, such as `type: execution`" if not rankers else "keep one of them"
        yield _at(config, path).problem("expected one container that ranks", found=names, suggestion=hint)
        return
    try:
        rankers[0][1].ranks_by(by)
    except ValueError as error:
        yield _at(config, f"{path}.by").problem(str(error))


def _split(config: Config) -> Iterator[Problem]:
    split = config.split
    if not split:
        return
    known = [phase.name for phase in config.phases]
    for name in split:
        if name not in known:
            hint = suggestion(name, known) or f"there are {', '.join(known)}"
            yield _at(config, f"split.{name}").problem(f"no phase is called '{name}'", suggestion=hint)
    for number, phase in enumerate(config.phases):
        if phase.name in split and phase.window is not None:
            yield _at(config, f"phases.{number}.window").problem(
                "expected a window or a part in the split", found="both", suggestion="remove one of the two"
            )
        if phase.select is not None and phase.name in split:
            order = list(split)
            source = phase.select.source
            if source in known and (source not in split or order.index(source) >= order.index(phase.name)):
                yield _at(config, f"phases.{number}.select").problem(
                    f"expected '{source}' to come before '{phase.name}' in the split",
                    suggestion="a selection must not see the data it is tried on",
                )
    numbers = [share for share in split.values() if isinstance(share, float)]
    if len(numbers) not in (0, len(split)):
        yield _at(config, "split").problem("expected shares of the data or dates", found="both")
    elif numbers:
        if min(numbers) <= 0 or not math.isclose(sum(numbers), 1.0, abs_tol=1e-9):
            found = " + ".join(f"{number:g}" for number in numbers) + f" = {sum(numbers):g}"
            yield _at(config, "split").problem("expected shares above 0 that make 1 in all", found=found)
    else:
        yield from _split_dates(config, {name: str(end) for name, end in split.items()})


def _split_dates(config: Config, ends: Mapping[str, str]) -> Iterator[Problem]:
    before = None
    for name, end in ends.items():
        here = _at(config, f"split.{name}")
        if end == END:
            if name != list(ends)[-1]:
                yield here.problem("only the last part ends where the data does", found=f"'{END}'")
            continue
        try:
            moment = parse_instant(end)
        except ValueError:
            expected = f"expected a share such as 0.6, the time at which it ends, or '{END}' for the last"
            yield here.problem(expected, found=f"'{end}'")
            continue
        if before is not None and moment <= before[1]:
            yield here.problem(f"expected a time after that of '{before[0]}'", found=end)
        before = (name, moment)


def _walk(config: Config, walk: WalkForward) -> Iterator[Problem]:
    here = _at(config, "walk_forward")
    for other, given in (("phases", bool(config.phases)), ("split", bool(config.split))):
        if given:
            hint = f"it makes its own phases; remove `{other}` or `walk_forward`"
            yield here.problem(f"expected `walk_forward` or `{other}`", found="both", suggestion=hint)
    test, step = parse_duration(walk.test), parse_duration(walk.step or walk.test)
    if step < test:
        yield _at(config, "walk_forward.step").problem(
            f"expected a step of at least `test`, {walk.test}", found=f"{walk.step}",
            suggestion="test windows that overlap would count the same days twice",
        )  # fmt: skip
    yield from check_window(config, "walk_forward", WindowConfig(since=walk.since, until=walk.until))
    if walk.since is not None and walk.until is not None and parse_instant(walk.since) < parse_instant(walk.until):
        yield from check_length(config, walk, parse_instant(walk.until) - parse_instant(walk.since))
    yield from _objective(config, "walk_forward.select", "", walk.select.by)


def check_length(config: Config, walk: WalkForward, length_ns: int) -> Iterator[Problem]:
    """There is room for one train window and at least half of a test window."""
    wanted = parse_duration(walk.train) + parse_duration(walk.embargo) + parse_duration(walk.test) // 2
    if wanted > length_ns:
        days = length_ns / 86_400_000_000_000
        yield _at(config, "walk_forward.train").problem(
            f"expected room for train {walk.train}, embargo {walk.embargo} and at least half of test {walk.test}",
            found=f"{days:.6g} days in all", suggestion="shorten `train` or take more data",
        )  # fmt: skip


def _at(config: Config, path: str) -> Located:
    return Located(None, Place(path, *config.locate(path)))
