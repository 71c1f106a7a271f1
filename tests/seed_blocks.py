"""The YAML of the founding document, exactly as it was printed: a contract."""

from __future__ import annotations

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
