"""The session memory: what past sessions say of the next click."""

from mtaw_fast.memory.ranker_net import RankerNet
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.memory.tables import MemoryTables

__all__ = ["MemorySettings", "MemoryTables", "RankerNet"]
