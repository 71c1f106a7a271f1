"""Finding one series of records in a folder of LEAN data, and the time zone its clocks were in.

Layout: `<asset>/<market>/<resolution>/<symbol>/<yyyymmdd>_<trade|quote>.zip`, and for hours and days
`<asset>/<market>/<resolution>/<symbol>[_<trade|quote>].zip`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline import InputError

from .declaration import Declaration

ASSETS = ("crypto", "cryptofuture", "equity", "forex", "cfd", "index")
QUOTED_ASSETS = ("forex", "cfd")
"""Asset classes without trades: their hours and days are bars of quotes."""
RESOLUTION_NS = {"minute": 60 * 10**9, "second": 10**9, "hour": 3600 * 10**9, "daily": 86_400 * 10**9}
LAYOUT = (
    "<asset>/<market>/<tick|second|minute>/<symbol>/<yyyymmdd>_<trade|quote>.zip or "
    "<asset>/<market>/<hour|daily>/<symbol>.zip, with <asset> one of " + ", ".join(ASSETS)
)

_ZONES = {
    ("equity", "usa"): "America/New_York",
    ("equity", "india"): "Asia/Kolkata",
    ("index", "usa"): "America/New_York",
    ("forex", "fxcm"): "Etc/GMT+5",
}
_DAY_FILE = re.compile(r"(\d{8})_(trade|quote)\.zip")
_WHOLE_FILE = re.compile(r"([a-z0-9.\-]+?)(?:_(trade|quote))?\.zip")


@dataclass(frozen=True, order=True)
class Series:
    """One instrument's records of one kind at one resolution."""

    asset: str
    market: str
    resolution: str
    symbol: str
    kind: str
    """trade or quote."""

    @property
    def instrument(self) -> str:
        return f"{self.symbol}.{self.market}".upper()

    @property
    def folder(self) -> str:
        return f"{self.asset}/{self.market}/{self.resolution}/{self.symbol} ({self.kind})"

    def records(self) -> tuple[str, ...]:
        """The kinds of record that can be read from it."""
        if self.resolution == "tick":
            return (self.kind,)
        return ("bar", "quote") if self.kind == "quote" else ("bar",)


@dataclass(frozen=True)
class Found:
    """A series, its files in order of their days, and where its wall clock was."""

    series: Series
    files: tuple[Path, ...]
    zone: str
    hours_database: Path | None


def is_lean(path: Path) -> bool:
    """Whether a file, or any file below a folder, lies in LEAN's layout."""
    return any(_parse(file) for file in _zips(path))


def find_series(path: Path, declared: Declaration) -> Found:
    """The one series at `path` (a file or folder) that fits the declaration.

    Where trade bars and quote bars lie together, `price: bid|ask|mid` or `schema: quote` picks the quotes,
    otherwise the trades are read. Raises `InputError` listing the choices unless exactly one series remains.
    """
    series: dict[Series, list[Path]] = {}
    for file in _zips(path):
        if found := _parse(file):
            series.setdefault(found, []).append(file)
    if not series:
        raise InputError(f"{path}: expected LEAN data ({LAYOUT}), found no such file")
    fitting = _preferred([one for one in series if _fits(one, declared)], declared)
    if len(fitting) != 1:
        choices = "\n  ".join(f"{one.folder}, instrument {one.instrument}" for one in sorted(fitting or series))
        wanted = "one series" if fitting else "a series that fits what was declared"
        raise InputError(
            f"{path}: expected {wanted}, found {len(fitting or series)}; point at one folder, or declare "
            f"`instrument`, `schema` or `price`. These are here:\n  {choices}"
        )
    chosen = fitting[0]
    zone, database = time_zone(chosen, series[chosen][0])
    return Found(chosen, tuple(sorted(series[chosen], key=lambda file: file.name)), zone, database)


def time_zone(series: Series, file: Path) -> tuple[str, Path | None]:
    """The zone of a series' clocks and the market hours database it was read from, if there is one above its file."""
    for folder in file.resolve().parents:
        database = folder / "market-hours" / "market-hours-database.json"
        if database.is_file():
            return _zone_in(database, series), database
    return _ZONES.get((series.asset, series.market), "UTC"), None


def _zips(path: Path) -> Iterable[Path]:
    path = path.resolve()
    return sorted(path.rglob("*.zip")) if path.is_dir() else [path]


def _parse(file: Path) -> Series | None:
    parts = file.parts
    if len(parts) >= 6 and (day := _DAY_FILE.fullmatch(file.name)):
        asset, market, resolution, symbol = parts[-5:-1]
        if asset in ASSETS and resolution in ("tick", "second", "minute"):
            return Series(asset, market, resolution, symbol, day[2])
    elif len(parts) >= 5 and (whole := _WHOLE_FILE.fullmatch(file.name)):
        asset, market, resolution = parts[-4:-1]
        if asset in ASSETS and resolution in ("hour", "daily"):
            kind = whole[2] or ("quote" if asset in QUOTED_ASSETS else "trade")
            return Series(asset, market, resolution, whole[1], kind)
    return None


def _fits(series: Series, declared: Declaration) -> bool:
    if declared.instrument and declared.instrument.upper() not in (series.instrument, series.symbol.upper()):
        return False
    return any(record in declared.kinds for record in series.records())


def _preferred(fitting: list[Series], declared: Declaration) -> list[Series]:
    bars = {one for one in fitting if one.resolution != "tick"}
    quoted = declared.price in ("bid", "ask", "mid") or declared.schema == "quote"
    wanted = "quote" if quoted else "trade"
    for one in sorted(bars):
        twin = Series(one.asset, one.market, one.resolution, one.symbol, wanted)
        explicit = declared.price is not None and one.kind != wanted
        if one.kind != wanted and (twin in bars or explicit):
            fitting = [other for other in fitting if other != one]
    return fitting


def _zone_in(database: Path, series: Series) -> str:
    try:
        entries = {
            key.lower(): entry for key, entry in json.loads(database.read_text(encoding="utf-8-sig"))["entries"].items()
        }
        for symbol in (series.symbol, "[*]"):
            entry = entries.get(f"{series.asset}-{series.market}-{symbol}")
            if entry:
                return _zone_name(entry["dataTimeZone"])
    except (ValueError, KeyError, AttributeError, ZoneInfoNotFoundError) as error:
        raise InputError(f"{database}: expected LEAN's market hours, found otherwise ({error!r})") from error
    return _ZONES.get((series.asset, series.market), "UTC")


def _zone_name(name: str) -> str:
    fixed = re.fullmatch(r"UTC([+-])(\d\d)", name)
    if fixed:
        name = f"Etc/GMT{'-' if fixed[1] == '+' else '+'}{int(fixed[2])}"
    return ZoneInfo(name).key
