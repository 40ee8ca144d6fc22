"""The items of each session, in few bytes a click: they are needed only if the session is forgotten."""

from __future__ import annotations

from array import array

import numpy as np

_NONE = -1


class SessionItems:
    """Lists of items by handle, linked from the last one back: 8 bytes an item and 4 a session."""

    def __init__(self) -> None:
        self._items = array("i")
        self._before = array("i")  # by click: the index of the session's click before it
        self._last = array("i")  # by handle: the index of the session's last click

    def add(self, handle: int, item: int) -> None:
        """Append an item to a session."""
        last = self._last
        if handle >= len(last):
            last.extend([_NONE] * (handle + 1 - len(last)))
        self._before.append(last[handle])
        last[handle] = len(self._items)
        self._items.append(item)

    def of(self, handle: int) -> list[int]:
        """Return the items of a session, the last one first."""
        items, click = [], self._last[handle] if handle < len(self._last) else _NONE
        while click != _NONE:
            items.append(self._items[click])
            click = self._before[click]
        return items

    def take(self, handle: int) -> np.ndarray:
        """Return int32[..], the items of a session, the last one first; it has none from now on."""
        items = self.of(handle)
        if items:
            self._last[handle] = _NONE
        return np.array(items, dtype=np.int32)
