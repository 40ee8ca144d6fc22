"""The session memory: statistics of past sessions that predict the next click."""

from mtaw_fast.memory.ranker_net import RankerNet
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.memory.tables import MemoryTables

__all__ = ["MemorySettings", "MemoryTables", "RankerNet"]
