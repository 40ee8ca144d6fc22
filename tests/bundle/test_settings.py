"""The core's table of settings, by which it refuses those of a newer release, is made from the package's config."""

from __future__ import annotations

from dataclasses import fields

from mtaw_fast.config import Config
from mtaw_fast.config.groups import _CHOICES
from tests.support.cache import ROOT

TABLE = ROOT / "kernels" / "native" / "bundle" / "setting_rules.hpp"
KINDS = {bool: "flag", int: "whole", float: "number", str: "text"}


def lines() -> list[str]:
    """Return the table's lines: group, name, kind, default, range and choices of each setting."""
    rules = []
    for group in fields(Config):
        for field in fields(getattr(Config(), group.name)):
            kind = KINDS[type(field.default)]
            default = 0 if isinstance(field.default, str) else float(Config().as_dict()[group.name][field.name])
            low, high = field.metadata.get("range", (0, 0))
            choices = "|".join(_CHOICES.get(str(field.type), ()))
            rules.append(
                f'    {{"{group.name}", "{field.name}", SettingKind::{kind}, {default:.17g}, {low:.17g}, {high:.17g}, '
                f'"{choices}"}},'
            )
    return rules


def test_the_core_has_the_settings_of_the_package() -> None:
    _, begin, rest = TABLE.read_text().partition("kSettingRules[] = {\n")
    table, end, _ = rest.partition("\n};")
    assert begin
    assert end
    assert table == "\n".join(lines()), f"the table of {TABLE} must be:\n" + "\n".join(lines())
