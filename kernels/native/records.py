"""The records of an event log, as `mtaw_fast.online.log.segment` reads and writes them.

    count, changed, unclear = redact_lines(block, [(session, offset), ..], last)

overwrites, in a bytearray of whole lines, the clicks of each session (its id as UTF-8) that end before an offset, and
lines with a wrong checksum that end before `last`, with spaces. changed: ranges (begin, end) of the block to write;
unclear: lines of which only their JSON says whether they must go.
"""

from __future__ import annotations

from mtaw_fast.kernels.native import _native

__all__ = ["redact_lines"]

redact_lines = _native.redact_lines
