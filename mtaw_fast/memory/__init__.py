"""The session memory: what past sessions say of the next click."""

from mtaw_fast.memory.ranker import Ranker
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.memory.tables import MemoryTables

__all__ = ["MemorySettings", "MemoryTables", "Ranker"]
