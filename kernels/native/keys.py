"""Sets of 64-bit keys with few bytes each: the keys that came last, and the handles of each key.

    seen = RecentKeys(1_000_000)      about 16 bytes a key
    seen.add(key)                     whether it is new; of more than 1,000,000 keys, the oldest goes
    key in seen, len(seen)
    seen.latest(count)                uint64[..], oldest first

    sessions = SessionHandles()       about 20 bytes a session
    sessions.add(key)                 a new handle: 0, 1, 2, ..
    sessions.take(key)                its handles, ascending; the key then has none
    sessions.keys, len(sessions)      uint64[n], the key of each handle, those that were taken included

Not thread-safe. Keys are ints in 0 .. 2^64 - 1 (TypeError otherwise).
"""

from __future__ import annotations

from mtaw_fast.kernels.native import _native

__all__ = ["RecentKeys", "SessionHandles"]

RecentKeys = _native.RecentKeys
SessionHandles = _native.SessionHandles
