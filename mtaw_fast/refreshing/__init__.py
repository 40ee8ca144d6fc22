"""Refresh the served bundle from the newest days of a log: `mtaw-fast refresh`."""

from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.run import RefreshResult, refresh

__all__ = ["RefreshConfig", "RefreshResult", "refresh"]
