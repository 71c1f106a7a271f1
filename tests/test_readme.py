"""Every snippet of the README runs as printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import Pipeline, Registry, load_config
from tests.conftest import ROOT

TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the configurations, as a reader who has cloned the project stands in one."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_python_block_runs_in_the_order_of_the_page(workplace: Path) -> None:
    demo = "import asyncio; from pipeline import Pipeline; "
    demo += "asyncio.run(Pipeline.from_yaml('configs/demo.yaml', limit=5000).run())"
    python(demo, workplace)
    outputs = [python(block, workplace) for block in blocks("python")]
    assert len(outputs) == 9
    assert "portfolio_" in outputs[0]
    assert "flowchart LR" in outputs[1]
    assert "portfolio_" in outputs[2]
    assert outputs[3].strip() == "1"
    assert outputs[-2].count("portfolio_") >= 12
    assert "max(equity)" in outputs[-1] and outputs[-1].count("portfolio_0003") >= 3


def test_the_declared_csv_is_a_valid_configuration() -> None:
    config = load_config(blocks("yaml")[0], registry=Registry.installed())
    assert config.stage_of("data").time_format == "ms"


async def test_the_sweep_runs(tmp_path: Path) -> None:
    sweep = next(block for block in blocks("yaml") if "sma_sweep" in block)
    summary = await Pipeline.from_yaml(sweep, output=tmp_path).run()
    assert summary.aggregate_metrics["execution"]["portfolios"]["run"] == 9


async def test_the_capture_is_read_as_several_kinds_of_record(tmp_path: Path, recordings: Path) -> None:
    text = next(block for block in blocks("yaml") if "captures/" in block)
    text = text.replace("captures/", f"{recordings}/hftbacktest/spot/").replace("speed: 50", "speed: max")
    summary = await Pipeline.from_yaml(text, output=tmp_path).run()
    assert summary.aggregate_metrics["market"]["quality"] == {}
    assert {name: summary.container_results[name].sent_rows for name in ("bars", "wide")} == {"bars": 36, "wide": 6}


@pytest.mark.parametrize("strategy", ["Dip", "Dips"])
async def test_the_strategies_and_the_stage_of_the_page_run_from_yaml(tmp_path: Path, strategy: str) -> None:
    (tmp_path / "mine.py").write_text("\n\n".join(block for block in blocks("python") if "\nclass " in block))
    (tmp_path / "mine.yaml").write_text(
        "topology: backtest\n"
        "containers:\n"
        "  data: {type: synthetic, schema: trade, rows: 20000, interval: 1s}\n"
        "  large: {type: './mine.py:Large', inputs: [data], at_least: 0.1}\n"
        "  features: {inputs: [large], bars: 1m}\n"
        f"  portfolio_*: {{strategy: {{type: './mine.py:{strategy}', n: 5}}}}\n"
    )
    summary = await Pipeline.from_yaml(tmp_path / "mine.yaml", output=tmp_path / "out").run()
    assert summary.ledger.containers["large"].received == 20_000
    assert summary.container_results["portfolio"].keys["fills"].rows > 0
