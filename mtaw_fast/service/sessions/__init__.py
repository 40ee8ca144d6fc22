"""Stores of the sessions that the service keeps: in the memory of one worker, or in Redis for all workers."""

from __future__ import annotations

from mtaw_fast.service.sessions.in_memory import MemorySessions, SessionStore
from mtaw_fast.service.settings import Settings


def open_sessions(settings: Settings, timeout: float) -> SessionStore | None:
    """Return the store that `--sessions` names, None without one. timeout: see `RedisSessions`."""
    if settings.sessions is None:
        return None
    ttl, clicks = settings.session_ttl, settings.limits.clicks
    if settings.sessions == "memory":
        return MemorySessions(ttl, settings.max_sessions, settings.max_sessions_bytes, clicks)
    from mtaw_fast.service.sessions.in_redis import RedisSessions

    return RedisSessions(settings.sessions, ttl, clicks, timeout, settings.sessions_password)
