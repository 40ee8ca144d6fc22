"""A bundle on disk, and recommenders that learn on top of it. What a test opens is closed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.online.item_state import ItemState
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from tests.support.online.recommenders import save


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    opened: dict[type, list[Any]] = {Recommender: [], ItemState: [], FileLog: []}

    def noted(kind: type) -> Callable[..., None]:
        real = kind.__init__

        def init(self: Any, *arguments: Any, **named: Any) -> None:
            real(self, *arguments, **named)
            opened[kind].append(self)

        return init

    with pytest.MonkeyPatch.context() as patch:
        for kind in opened:
            patch.setattr(kind, "__init__", noted(kind))
        yield
    for kind, ones in opened.items():
        for one in ones:
            one.stop() if kind is ItemState else one.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "bundle")


@pytest.fixture
def learning(folder: Path, tmp_path: Path) -> Callable[..., Recommender]:
    """Makes recommenders that learn in one folder."""

    def make(**settings: Any) -> Recommender:
        return Recommender.load(folder, learn=LearningSettings(tmp_path / "learned", compact=False, **settings))

    return make
