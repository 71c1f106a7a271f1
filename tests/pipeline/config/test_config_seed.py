"""The YAML blocks of the founding document are a contract: each loads exactly as it was printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from config_fakes import registry

from pipeline.config import Config, load_config
from pipeline.data.policy import DataFlow, FileSettings, Persistence, StreamingSettings

DOCUMENT = Path(__file__).parents[4] / "shared" / "seed" / "per-container-data-flow.md"

OVERVIEW = """\
# Global default
data_flow:
  default_mode: memory
  default_memory_limit_mb: 100

# Per-container overrides
containers:
  data:
    data_flow:
      mode: streaming  # Stream market data
      streaming_settings:
        buffer_size: 1000
        
  features:
    data_flow:
      mode: hybrid  # Cache recent features
      memory_limit_mb: 500
      file_settings:
        format: parquet
        
  portfolio_*:  # Wildcard for all portfolio containers
    data_flow:
      mode: memory  # Keep in memory during execution
      memory_limit_mb: 50  # Each portfolio is small
      persistence:
        on_completion: true  # Save when done
        
  execution:
    data_flow:
      mode: file  # Aggregate results are large
      file_settings:
        format: parquet
        compression: snappy
"""  # noqa: W293
OPTIMIZATION = """\
# Each portfolio gets minimal memory
containers:
  portfolio_*:
    data_flow:
      mode: hybrid
      memory_limit_mb: 5  # 5MB each = 5GB total
      persistence:
        on_completion: true
"""
HIGH_FREQUENCY = """\
containers:
  data:
    data_flow:
      mode: streaming
      streaming_settings:
        buffer_size: 100  # Small buffer, fast flush
        
  features:
    data_flow:
      mode: memory  # Keep computed features in RAM
      memory_limit_mb: 2000
"""  # noqa: W293
CONSTRAINED = """\
# Everything uses minimal memory
data_flow:
  default_mode: hybrid
  default_memory_limit_mb: 50

containers:
  execution:
    data_flow:
      mode: file  # Force file for aggregation
"""
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
