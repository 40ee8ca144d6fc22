"""All settings of a model and its training: a dataclass of five groups, presets and `key=value` overrides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mtaw_fast.config.groups import (
    ComputeDtype,
    LossConfig,
    MemoryConfig,
    ModelConfig,
    OptimizerConfig,
    RankerConfig,
    Softmax,
)
from mtaw_fast.errors import UsageError, nearest, shown

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

    model: ModelConfig = field(default=ModelConfig())
    loss: LossConfig = field(default=LossConfig())
    optimizer: OptimizerConfig = field(default=OptimizerConfig())
    memory: MemoryConfig = field(default=MemoryConfig())
    ranker: RankerConfig = field(default=RankerConfig())

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
        changes: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            changes.setdefault(_group_of(name), {})[name] = value
        groups = {group: dataclasses.replace(getattr(self, group), **values) for group, values in changes.items()}
        return dataclasses.replace(self, **groups)

    def settings(self) -> dict[str, Any]:
        """Return all settings by their names without a group, as plain JSON values."""
        return {name: value for group in self.as_dict().values() for name, value in group.items()}

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the settings by group and name, as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Return what `as_dict` described; settings that are missing have their defaults.

        Raises
        ------
        UsageError
            On an unknown name, a value out of range or a wrong type.
        """
        groups = {}
        for group, settings in values.items():
            if group not in _NAMES or not isinstance(settings, Mapping):
                raise UsageError(
                    f"{shown({group: settings})} is no group of settings; the groups are {', '.join(_NAMES)}"
                )
            for name in settings:
                if name not in _NAMES[group]:
                    raise UsageError(f"there is no setting {shown(name)}; {group} has {', '.join(_NAMES[group])}")
            groups[group] = type(getattr(cls(), group))(**settings)
        return cls(**groups)

    def override(self, assignments: Iterable[str]) -> Config:
        """Apply `key=value` or `group.key=value` texts; a later one wins. Raises UsageError naming the wrong one."""
        changes: dict[str, Any] = {}
        for assignment in assignments:
            name, equals, text = map(str.strip, assignment.partition("="))
            if not equals:
                raise UsageError(f"--set {assignment!r}: write it as key=value")
            name = _bare(name)
            kind = type(_NAMES[_group_of(name)][name])
            try:
                changes[name] = _BOOLS[text.lower()] if kind is bool else kind(text)
            except (ValueError, KeyError):
                raise UsageError(f"setting {name} must be {kind.__name__}, not {text!r}") from None
        return self.replace(**changes)


_NAMES = Config().as_dict()  # by group, the names of its settings with their defaults
_GROUP_OF = {name: group for group, names in _NAMES.items() for name in names}
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def _group_of(name: str) -> str:
    if name not in _GROUP_OF:
        hint = nearest(name, _GROUP_OF) or "; 'mtaw-fast train --help' lists them"
        raise UsageError(f"there is no setting {shown(name)}{hint}")
    return _GROUP_OF[name]


def _bare(name: str) -> str:
    """Return the name without its group, if it has one; raises UsageError if the group does not have it."""
    group, dot, bare = name.partition(".")
    if not dot:
        return name
    if group not in _NAMES:
        raise UsageError(f"there is no group of settings {shown(group)}; the groups are {', '.join(_NAMES)}")
    if bare not in _NAMES[group]:
        raise UsageError(f"there is no setting {shown(name)}; {group} has {', '.join(_NAMES[group])}")
    return bare


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
        batches="random-sessions",
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
