"""The YAML blocks of the founding document are a contract: each loads exactly as it was printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from config_fakes import registry

from pipeline.config import Config, load_config
from pipeline.data.policy import DataFlow, FileSettings, Persistence, StreamingSettings
from tests.seed_blocks import CONSTRAINED, HIGH_FREQUENCY, OPTIMIZATION, OVERVIEW

DOCUMENT = Path(__file__).parents[4] / "shared" / "seed" / "per-container-data-flow.md"

BLOCKS = [OVERVIEW, OPTIMIZATION, HIGH_FREQUENCY, CONSTRAINED]


def load(text: str) -> Config:
    return load_config(text, registry=registry())


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the document is kept outside of the repository")
def test_the_copies_here_are_those_of_the_document() -> None:
    assert re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) == BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_a_backtest(block: str) -> None:
    config = load(block)
    assert config.topology == "backtest"
    assert config.declared == ("data", "features", "portfolio_*", "execution")
    assert config.to_mapping()


def test_the_overview_gives_every_container_its_policy() -> None:
    config = load(OVERVIEW)
    assert config.data_flow_of("data") == DataFlow(
        mode="streaming", memory_limit_mb=100, streaming_settings=StreamingSettings(buffer_size=1000)
    )
    assert config.data_flow_of("features") == DataFlow(mode="hybrid", memory_limit_mb=500)
    assert config.data_flow_of("portfolio_0000") == config.data_flow_of("portfolio_*")
    assert config.data_flow_of("portfolio_*") == DataFlow(
        mode="memory", memory_limit_mb=50, persistence=Persistence(on_completion=True)
    )
    assert config.data_flow_of("execution") == DataFlow(
        mode="file", memory_limit_mb=100, file_settings=FileSettings(format="parquet", compression="snappy")
    )


def test_many_small_portfolios_spill_at_five_megabytes() -> None:
    policy = load(OPTIMIZATION).data_flow_of("portfolio_*")
    assert (policy.mode, policy.memory_limit_bytes, policy.persistence.on_completion) == ("hybrid", 5 << 20, True)


def test_high_frequency_data_flushes_small_buffers() -> None:
    config = load(HIGH_FREQUENCY)
    assert config.data_flow_of("data").streaming_settings.buffer_size == 100
    assert config.data_flow_of("features").memory_limit_mb == 2000


def test_the_global_default_beats_what_the_topology_guessed() -> None:
    config = load(CONSTRAINED)
    assert [config.data_flow_of(name).mode for name in config.declared] == ["hybrid", "hybrid", "hybrid", "file"]
    assert {config.data_flow_of(name).memory_limit_mb for name in config.declared} == {50}
