"""The groups of settings: unique names, and documented defaults."""

from __future__ import annotations

import dataclasses
import re

import pytest

from mtaw_fast.config import Config
from mtaw_fast.config.groups import GROUPS

NAMES = [(group, field.name) for group, kind in GROUPS.items() for field in dataclasses.fields(kind)]


def test_a_name_is_unique_over_all_groups() -> None:
    assert len({name for _, name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(("group", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_setting_is_documented_with_its_default(group: str, name: str) -> None:
    value = Config().settings()[name]
    shown = {float: f"{value:g}" if isinstance(value, float) else "", str: repr(value) if value else "none"}
    lines = re.findall(rf"^    {name} : .*, default (.*)$", GROUPS[group].__doc__ or "", re.MULTILINE)
    assert lines == [shown.get(type(value), str(value))]
