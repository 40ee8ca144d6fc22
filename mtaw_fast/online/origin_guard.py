"""What one origin may teach: open clicks are judged once, when they arrive, and the verdict is written with them.

An origin is where open clicks come from: the address of a client. One visitor, a bot with a thousand session ids and
an office behind one address look alike. So an origin may bring an item a few times a day, and items that others visit
in proportion to their visits: what an origin alone brings stays small, what it shares with the shop is learned.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import struct
from collections.abc import Callable, Sequence

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import DAY_MS, LearningLimits

BY_ORIGIN, BY_NEW_ITEMS = ORIGIN_RULES = ("origin", "origin_new")
FEW_CLICKS = 50  # open clicks from which on a busiest origin says something

_KEY_BYTES = 32
_BEGIN, _CLICKS, _VISITS, _BUSIEST, _CELLS = range(5)  # cells of the header, after the key
_HEADER = _KEY_BYTES + 8 * _CELLS
_ITEM_CELLS, _SESSION_CELLS, _ORIGIN_CELLS = 1 << 22, 1 << 22, 1 << 16
_MAX_VISITS = 1 << 19  # of a window: with more, different visits would count in the same cells too often
_ORIGIN_ROWS = 3  # clicks, visits and new items of an origin, two rows each
_MAX_BYTE = 255
_PASSES = 3  # parts of `session_gap`; after two of them a session's click on an item counts again
_IPV6_BITS = 56  # of an address that a provider gives to one home
_TIMES_USUAL = 4  # a visitor's items may be so much more popular at one origin
_HOUR_MS = 3_600_000
_SHARE = 10  # 1 / the share of a shop's visits that one origin may have
_NEW_SHARE = 100  # 1 / the share of an origin's visits that may be to new items

SIZE = _HEADER + 2 * _ITEM_CELLS + _SESSION_CELLS + 8 * _ORIGIN_ROWS * _ORIGIN_CELLS

Usual = Callable[[Sequence[int | str]], tuple[Sequence[float], float]]


class OriginGuard:
    """Counts what each origin brought today, in memory that the processes of a host may share.

    In a window, which lasts a day or `_MAX_VISITS` visits, an origin with V visits so far brings an item to

        max(origin_items, 4 * share of the item * min(V, D / 10))

    visits (`origin`), where the share is of all visits, and D those of a usual day (`CrowdGuard`) in the time since the
    window began and an hour; and new items up to max(origin_new, min(V, D) / 100) (`origin_new`). What is refused
    counts nowhere. A session's clicks on an item are one visit. Counts are hashed: two visits in the same cells, 1 in
    70 at most, refuse an origin too early.

    Origins are only in this memory, as keyed hashes. Processes that count at once may lose a count.

    memory: `SIZE` bytes, which `prepare` made ready; None: memory of its own.
    """

    def __init__(self, limits: LearningLimits, memory: memoryview | None = None) -> None:
        self._limits = limits
        if memory is None:
            memory = memoryview(bytearray(SIZE))
            self.prepare(memory)
        self._key = bytes(memory[:_KEY_BYTES])
        ends = _HEADER, _HEADER + 2 * _ITEM_CELLS, _HEADER + 2 * _ITEM_CELLS + _SESSION_CELLS, SIZE
        self._header = memory[_KEY_BYTES:_HEADER].cast("q")
        self._items, self._sessions = memory[ends[0] : ends[1]], memory[ends[1] : ends[2]]
        self._origins = memory[ends[2] : ends[3]].cast("I")
        self._pass_ms = max(limits.session_gap // _PASSES, 1)

    @staticmethod
    def prepare(memory: memoryview) -> None:
        """Write the random key of the hashes into zeroed memory. Call it once, before others map the memory."""
        memory[:_KEY_BYTES] = secrets.token_bytes(_KEY_BYTES)

    def origin_of(self, address: str) -> bytes:
        """Return the 8-byte hash of an address, under a key that is only in this memory. IPv6 counts by its first 56
        bits; a text that is no address counts as it is."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            data = address.encode("utf-8", "surrogatepass")
        else:
            mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
            data = (mapped or parsed).packed
            data = data[: _IPV6_BITS // 8] if len(data) > 4 else data
        return hashlib.blake2b(data, digest_size=8, key=self._key).digest()

    def judged(self, origin: bytes, clicks: Sequence[Click], usual: Usual, now: int) -> list[Click]:
        """Return the clicks, those that a rule refuses with its name as `refused`. Count the others.

        origin: as of `origin_of`. usual: returns the share of each item in all visits, -1 for an unknown item, and the
        visits of a day. now: Unix milliseconds.
        """
        header = self._header
        if not 0 <= now - header[_BEGIN] < DAY_MS or header[_VISITS] >= _MAX_VISITS:
            self._open_window(now)
        header[_CLICKS] += len(clicks)
        cells = [cell % _ORIGIN_CELLS for cell in struct.unpack("<II", origin)]
        header[_BUSIEST] = max(header[_BUSIEST], self._count(0, cells, len(clicks)))
        shares, day = usual([click.item for click in clicks])
        day *= min((now - header[_BEGIN] + _HOUR_MS) / DAY_MS, 1.0)  # a burst has not the whole day's allowance
        return [
            click if rule is None else click._replace(refused=rule)
            for click, rule in (
                (click, self._rule(origin, cells, click, share, day, now))
                for click, share in zip(clicks, shares, strict=True)
            )
        ]

    def busiest(self) -> tuple[int, int]:
        """Return the open clicks of this window that came from the origin that sent most, and of all origins."""
        return self._header[_BUSIEST], self._header[_CLICKS]

    def _rule(
        self, origin: bytes, cells: Sequence[int], click: Click, share: float, day: float, now: int
    ) -> str | None:
        """Return the rule that refuses a click; if none does, count it."""
        item = str(click.item).encode("utf-8", "surrogatepass")
        session = click.session.encode("utf-8", "surrogatepass")
        turn = now // self._pass_ms % _MAX_BYTE + 1  # 0: no session was here
        visit = self._hashed(b"%d:%b%b" % (len(session), session, item), _SESSION_CELLS)
        if all(self._sessions[cell] and (turn - self._sessions[cell]) % _MAX_BYTE < _PASSES - 1 for cell in visit):
            return None
        visits = self._counted(1, cells)
        if share < 0 and self._counted(2, cells) + 1 > max(self._limits.origin_new, min(visits, day) / _NEW_SHARE):
            return BY_NEW_ITEMS
        pair = self._hashed(origin + item, _ITEM_CELLS)
        pair[1] += _ITEM_CELLS
        count = min(self._items[cell] for cell in pair)
        most = max(self._limits.origin_items, _TIMES_USUAL * max(share, 0.0) * min(visits, day / _SHARE))
        if count + 1 > min(most, _MAX_BYTE):
            return BY_ORIGIN
        for cell in pair:
            self._items[cell] = min(self._items[cell] + 1, _MAX_BYTE)
        for cell in visit:
            self._sessions[cell] = turn
        self._count(1, cells, 1)
        if share < 0:
            self._count(2, cells, 1)
        self._header[_VISITS] += 1
        return None

    def _hashed(self, data: bytes, cells: int) -> list[int]:
        digest = hashlib.blake2b(data, digest_size=8, key=self._key).digest()
        return [cell % cells for cell in struct.unpack("<II", digest)]

    def _counted(self, row: int, cells: Sequence[int]) -> int:
        """Return a count of an origin: the lower one of its two cells."""
        begin = 2 * row * _ORIGIN_CELLS
        return min(self._origins[begin + cells[0]], self._origins[begin + _ORIGIN_CELLS + cells[1]])

    def _count(self, row: int, cells: Sequence[int], by: int) -> int:
        begin = 2 * row * _ORIGIN_CELLS
        self._origins[begin + cells[0]] += by
        self._origins[begin + _ORIGIN_CELLS + cells[1]] += by
        return self._counted(row, cells)

    def _open_window(self, now: int) -> None:
        self._items[:] = bytes(len(self._items))
        self._origins.cast("B")[:] = bytes(4 * len(self._origins))
        self._header[_BEGIN] = now
        self._header[_CLICKS] = self._header[_VISITS] = self._header[_BUSIEST] = 0
