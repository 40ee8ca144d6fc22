"""Where a session falls when sessions are split by shares, as the arms of a test do."""

from __future__ import annotations

import hashlib

_DIGEST = 8  # bytes of a hash
_PERSON = b"mtaw_fast.share"


def point_of(session: str) -> float:
    """Return a number 0 <= x < 1 for a session's id: evenly distributed, and the same in every process everywhere."""
    text = session.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=_DIGEST, person=_PERSON).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)  # as many bits as a float holds, so that 1 is not reached
