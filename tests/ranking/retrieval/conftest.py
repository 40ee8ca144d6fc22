"""What the tests of the indexes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.ranking.gpu_card import Card


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    from tests.support.ranking.gpu_card import Card

    card = Card()
    card.put_in(monkeypatch)
    return card
