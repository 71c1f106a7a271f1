"""No stage, strategy or configuration that comes with the project looks ahead; the strategy that cheats is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline import LookaheadReport, check_lookahead
from pipeline.cli.program import penstock as program
from tests.scenarios.whole_runs import SMALL, changed

CONFIGS = Path(__file__).parents[2] / "configs"
OF_MESSAGES = ("live", "record", "replay")
"""Those that follow a venue, which nobody can run twice, or read its messages, which are several kinds of record."""
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in OF_MESSAGES)
FEW_PORTFOLIOS = {"fast": [2, 5], "slow": [13, 30]}

Penstock = Callable[..., Result]


@pytest.fixture
def penstock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Penstock:
    """Calls the program in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> Result:
        return CliRunner().invoke(program, [str(word) for word in words], catch_exceptions=False)

    return call


def clean(report: LookaheadReport, *compared: str) -> None:
    assert report.ok, str(report)
    assert not report.notes, str(report)
    assert all(report[name].rows > 0 for name in compared), str(report)


def market(named: str, **words: Any) -> dict[str, Any]:
    """Bars of a minute and one strategy, filled at the next open unless told otherwise."""
    strategy = {"type": named, **words.pop("strategy", {})}
    return {
        "topology": "backtest",
        "containers": {
            "data": {"type": "synthetic", "rows": 1500, "trend": 0.02, "volatility": 0.002, **words.pop("data", {})},
            "portfolio_*": {"strategy": strategy, **words},
        },
    }


@pytest.mark.parametrize("name", NAMES)
async def test_no_shipped_configuration_looks_ahead(name: str) -> None:
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    if name == "backtest":
        config["containers"]["data"]["type"] = "synthetic"
    if "parameter_space" in config:
        config["parameter_space"] = FEW_PORTFOLIOS
    report = await check_lookahead(config, rows=10_000 if name == "bars" else 3000, cuts=4)
    clean(report, *(("minutes", "hours") if name == "bars" else ("features", "portfolio")))


@pytest.mark.parametrize("schema", ["trade", "quote", "bar"])
@pytest.mark.parametrize("at", ["next_open", "close"])
async def test_no_built_in_stage_looks_ahead_on_trades_quotes_and_finer_bars(schema: str, at: str) -> None:
    interval = "20s" if schema == "bar" else "7s"
    config = changed(
        SMALL, data__schema=schema, data__interval=interval, features__bars="1m", portfolio__fills__at=at,
        features__indicators=["bollinger_7", "volatility_5", "rsi_4", "ema_7", "sma_4_volume"],
    )  # fmt: skip
    if schema == "quote":
        config["containers"]["features"]["indicators"].remove("sma_4_volume")
    clean(await check_lookahead(config, cuts=4), "features", "portfolio")


@pytest.mark.parametrize("strategy", ["sma_cross", "ema_cross"])
@pytest.mark.parametrize("every", [None, "15m"])
async def test_no_built_in_strategy_looks_ahead(strategy: str, every: str | None) -> None:
    config = market(strategy, strategy={"fast": 2, "slow": 5})
    config["containers"]["features"] = {"bars": every}
    report = await check_lookahead(config, cuts=4)
    clean(report, "features", "portfolio")


@pytest.mark.parametrize("strategy", ["breakout", "momentum", "rsi", "zscore_reversion", "bollinger_reversion"])
async def test_no_rule_of_fills_sizing_or_exits_looks_ahead(strategy: str) -> None:
    rules: dict[str, dict[str, Any]] = {
        "breakout": {"fills": {"order": "stop", "offset_bps": 5, "expires_bars": 3}},
        "momentum": {"sizing": {"by": "volatility", "n": 5}},
        "rsi": {"fills": {"order": "limit", "offset_bps": 5}, "exits": {"stop_loss": 0.01, "take_profit": 0.01}},
        "zscore_reversion": {"sizing": {"by": "weight", "share": 0.5}, "exits": {"trailing_stop": 0.01}},
        "bollinger_reversion": {"fills": {"at": "close"}, "sizing": {"by": "equity", "share": 0.5}},
    }
    clean(await check_lookahead(market(strategy, **rules[strategy]), rows=1000, cuts=4), "features", "portfolio")


async def test_bars_of_several_instruments_do_not_look_ahead() -> None:
    config = {
        "containers": {
            "data": {
                "type": "synthetic",
                "schema": "trade",
                "rows": 1500,
                "instruments": ["A.X", "B.X"],
                "interval": "9s",
            },
            "minutes": {"type": "bars", "inputs": ["data"], "every": "1m", "empty": "fill"},
            "hours": {"type": "bars", "inputs": ["minutes"], "every": "10m"},
            "features": {"type": "features", "inputs": ["hours"], "indicators": ["sma_3", "ema_2"]},
        }
    }
    clean(await check_lookahead(config, cuts=4), "minutes", "hours", "features")


@pytest.mark.parametrize("at", ["next_open", "close"])
@pytest.mark.parametrize("ahead", [1, 5])
async def test_the_strategy_that_cheats_is_caught(at: str, ahead: int) -> None:
    report = await check_lookahead(market("peeking", strategy={"ahead": ahead}, fills={"at": at}), cuts=4)
    (found,) = report.findings
    assert (found.name, found.verdict) == ("portfolio", "looks ahead"), str(report)
    assert found.moved is not None
    assert found.moved.key in ("fills", "equity")
    assert f"strategy Peeking(quantity=1.0, ahead={ahead})" in str(report)
    assert report["features"].verdict == "ok"


async def test_one_cheat_among_honest_portfolios_is_named(tmp_path: Path) -> None:
    (tmp_path / "mixed.py").write_text(MIXED)
    path = tmp_path / "mixed.yaml"
    config = market("./mixed.py:Mixed", strategy={"kind": "honest"}) | {
        "parameter_space": {"kind": ["honest", "above_mean", "argmax", "stateful"]}
    }
    path.write_text(yaml.safe_dump(config))
    report = await check_lookahead(path, cuts=4)
    found = report["portfolio"]
    assert (found.verdict, found.members, found.of_members) == ("looks ahead", 2, 4), str(report)
    assert found.moved is not None and found.moved.member in ("portfolio_0001", "portfolio_0002")
    assert "kind='above_mean'" in found.moved.recipe or "kind='argmax'" in found.moved.recipe


MIXED = '''\
import numpy as np
from stages import Strategy


class Mixed(Strategy, frozen=True):
    kind: str = ""

    def build(self):
        return Decider(self.kind)


class Decider:
    """Two that use the whole batch, and two that do not."""

    def __init__(self, kind):
        self.kind, self.before = kind, None

    def on_bars(self, bars):
        close = bars.close
        if self.kind == "above_mean":
            return (close > close.mean()).astype(float)
        if self.kind == "argmax":
            return (np.arange(len(close)) < close.argmax()).astype(float)
        before = close[0] if self.before is None else self.before
        if self.kind == "stateful":
            self.before = close[-1]
            return (close > np.concatenate([[before], close[:-1]])).astype(float)
        return (close > bars.open).astype(float)
'''


async def test_a_strategy_that_forgets_at_each_batch_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "forgets.py").write_text(
        "import numpy as np\nfrom stages import Strategy\n\n\n"
        "class Forgets(Strategy, frozen=True):\n"
        "    def on_bars(self, bars):\n"
        "        return (np.diff(bars.close, prepend=bars.close[0]) > 0).astype(float)\n"
    )
    path = tmp_path / "forgets.yaml"
    path.write_text(yaml.safe_dump(market("./forgets.py:Forgets")))
    report = await check_lookahead(path, cuts=4)
    assert [found.verdict for found in report.findings] == ["depends on batches"], str(report)


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_ends_with_0_1_or_2(penstock: Penstock, tmp_path: Path) -> None:
    honest, cheating = tmp_path / "honest.yaml", tmp_path / "cheating.yaml"
    honest.write_text(yaml.safe_dump(market("sma_cross", strategy={"fast": 2, "slow": 5})))
    cheating.write_text(yaml.safe_dump(market("peeking")))
    told = penstock("check", honest, "--lookahead", "--rows", "1000", "--cuts", "2")
    assert told.exit_code == 0, told.stdout
    assert "look-ahead: ok; 1,000 rows, cut at 2 moments" in told.stdout
    told = penstock("check", cheating, "--lookahead", "--rows", "1000", "--cuts", "2")
    assert told.exit_code == 1
    for words in ("portfolio looks ahead, portfolio_0000 (strategy Peeking(", "first moved: fills", "look for: a call"):
        assert words in told.stdout
    told = penstock("check", CONFIGS / "backtest.yaml", "--lookahead")
    assert told.exit_code == 2 and "--data PATH" in told.stderr
    assert penstock("check", honest, "--rows", "10").exit_code == 2
    assert not list(tmp_path.glob("results*")), "nothing is left behind"


def test_the_command_takes_a_recording(penstock: Penstock, lean: Path) -> None:
    path = lean / "crypto" / "coinbase" / "minute" / "btcusd"
    words = ["--lookahead", "--rows", "4000", "--cuts", "3", "--set", "containers.data.price=last"]
    told = penstock("check", CONFIGS / "backtest.yaml", "--data", path, *words)
    assert told.exit_code == 0, told.stdout
    assert "portfolio  ok" in told.stdout
