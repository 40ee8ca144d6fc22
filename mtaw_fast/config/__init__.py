"""All settings of a model and its training: a dataclass of five groups, presets and `key=value` overrides."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mtaw_fast.config.former_names import FORMER_NAMES, from_former
from mtaw_fast.config.groups import (
    GROUPS,
    ComputeDtype,
    LossConfig,
    MemoryConfig,
    ModelConfig,
    OptimizerConfig,
    RankerConfig,
    Softmax,
)
from mtaw_fast.errors import UsageError, shown

__all__ = [
    "DEFAULT_PRESET",
    "PRESETS",
    "ComputeDtype",
    "Config",
    "LossConfig",
    "MemoryConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RankerConfig",
    "Softmax",
    "preset",
]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one training. The defaults are the preset `paper`.

    The name of a setting is unique over all groups, so `Config.of(gamma=6.0)` and `--set gamma=6` need no group;
    `--set loss.gamma=6` is the same.

    Parameters
    ----------
    model : ModelConfig
        The encoder.
    loss : LossConfig
        The adaptive-weight loss.
    optimizer : OptimizerConfig
        The optimizer and the training: epochs, patience, validation_fraction and seed.
    memory : MemoryConfig
        The session memory; `memory.enabled` switches it on.
    ranker : RankerConfig
        The ranker over the memory's candidates.

    Examples
    --------
    >>> config = preset("full").replace(epochs=4, window=20)
    >>> config.memory.window
    20
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)

    @classmethod
    def of(cls, **settings: Any) -> Config:
        """Return the defaults with some settings changed, by their names without a group.

        Raises
        ------
        UsageError
            If a setting does not exist, or a value is out of range or of the wrong type.
        """
        return cls().replace(**settings)

    def replace(self, **settings: Any) -> Config:
        """Return this configuration with some settings changed; arguments and errors as for `of`."""
        by_group: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            by_group.setdefault(_group_of(name), {})[name] = value
        groups = {name: dataclasses.replace(getattr(self, name), **changes) for name, changes in by_group.items()}
        return dataclasses.replace(self, **groups)

    def settings(self) -> dict[str, Any]:
        """Return all settings by their names without a group, as plain JSON values."""
        return {name: value for group in self.as_dict().values() for name, value in group.items()}

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the settings by group and name, as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Read what `as_dict` returns, or the flat names of bundles of format 1 and 2.

        Raises
        ------
        UsageError
            On an unknown name or a wrong type.
        """
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if name in GROUPS and isinstance(value, Mapping):
                for key, setting in value.items():
                    flat[_checked_name(f"{name}.{key}")] = setting
            else:
                flat |= from_former({name: value})
        return cls().replace(**{name: _typed(name, value) for name, value in flat.items()})

    def override(self, assignments: Iterable[str]) -> Config:
        """Apply `key=value` or `group.key=value` texts; a later one wins. Raises UsageError naming the wrong one."""
        changes = {}
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            if not equals:
                raise UsageError(f"--set {assignment!r}: write it as key=value")
            name = _checked_name(name.strip())
            changes[name] = _parse(name, text.strip())
        return self.replace(**changes)


_NAMES = {group: tuple(setting.name for setting in dataclasses.fields(kind)) for group, kind in GROUPS.items()}
_GROUP_OF = {name: group for group, names in _NAMES.items() for name in names}
_TYPES = {name: type(getattr(GROUPS[group](), name)) for name, group in _GROUP_OF.items()}


def _group_of(name: str) -> str:
    if name not in _GROUP_OF:
        matches = [FORMER_NAMES[name]] if name in FORMER_NAMES else difflib.get_close_matches(name, _GROUP_OF, 1)
        hint = f"did you mean {matches[0]}?" if matches else "'mtaw-fast train --help' lists them"
        raise UsageError(f"there is no setting {shown(name)}; {hint}")
    return _GROUP_OF[name]


def _checked_name(name: str) -> str:
    """Return the name without its group; raises UsageError if the group does not have it."""
    group, dot, bare = name.partition(".")
    if not dot:
        return name
    if group not in _NAMES:
        raise UsageError(f"there is no group of settings {shown(group)}; the groups are {', '.join(GROUPS)}")
    if bare not in _NAMES[group]:
        raise UsageError(f"there is no setting {shown(name)}; {group} has {', '.join(_NAMES[group])}")
    return bare


def _typed(name: str, value: Any) -> Any:
    _group_of(name)
    kind = _TYPES[name]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"setting {name} must be {kind.__name__}, not {shown(value)}")
    return value


def _parse(name: str, text: str) -> Any:
    _group_of(name)
    kind = _TYPES[name]
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return _typed(name, kind(text))
    except (ValueError, KeyError):
        raise UsageError(f"setting {name} must be {kind.__name__}, not {text!r}") from None


PRESETS: Mapping[str, Config] = {
    "full": Config.of(
        enabled=True, targets="new", epochs=2, spectral_share=1.0, itl_gain=20.0, iel_gain=2.0, recent_weight=2.0
    ),
    "paper": Config(),
    # As in the paper's text; docs/training.md says what it leaves open and how that is read here.
    "paper-literal": Config.of(
        max_positions=50,
        init="uniform",
        lr=1e-3,
        schedule="constant",
        warmup_epochs=0.0,
        batch_prefixes=100,
        batches="prefixes",
        clip_norm=0.0,
        dropout=0.2,
        epochs=50,
        patience=5,
    ),
}
DEFAULT_PRESET = "full"


def preset(name: str) -> Config:
    """Return the named preset; raises UsageError if there is none."""
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
