"""Settings: presets, overrides, and refusals that name the setting."""

from __future__ import annotations

import re

import pytest

from mtaw_fast.config import PRESETS, Config, preset
from mtaw_fast.errors import UsageError


def test_overrides_are_typed_and_the_last_one_wins() -> None:
    config = preset("paper").override(["gamma=6", "epochs=3", "negative_term=true", "schedule=constant", "epochs=4"])
    assert (config.loss.gamma, config.optimizer.epochs, config.loss.negative_term, config.optimizer.schedule) == (
        6.0,
        4,
        True,
        "constant",
    )


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("gama=2", "no setting 'gama'.*gamma"),
        ("gamma", "key=value"),
        ("epochs=2.5", "epochs must be int"),
        ("lr=fast", "lr must be float"),
        ("lr=nan", "lr must be float"),
        ("negative_term=maybe", "negatives must be bool"),
        ("scale=41", "scale=41.0 is out of range"),
        ("dropout=1", "dropout=1.0 is out of range"),
        ("max_session_length=513", "max_session_length=513 is out of range"),
        ("schedule=linear", "none of cosine, constant"),
    ],
)
def test_a_bad_override_is_named(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Config().override([assignment])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"near_candidates": 70_000}, "cooccurrence_candidates=70000 is out of range"),
        ({"d": 1 << 15}, "embedding_dim=32768 is out of range"),
        ({"window": 2**31}, "window=2147483648 is out of range"),
        ({"epochs": 10**30}, "epochs=10+ is out of range"),
        ({"lr": float("inf")}, "lr=inf is out of range"),
        ({"gamma": float("nan")}, "gamma=nan is out of range"),
        ({"clip_norm": float("inf")}, "clip_norm=inf"),
        ({"d": 100.0}, "d must be int, not 100.0"),
        ({"memory": 1}, "memory must be bool, not 1"),
        ({"schedule": ["cosine"]}, "schedule must be str"),
        ({"negatives": True, "loss_backend": "chunked"}, "negative_term=true: loss_backend=chunked has no such term"),
        ({"leave_out": "repeat_rate, no_such"}, "leave_out: there is no feature 'no_such'"),
    ],
)
def test_what_no_training_can_use_is_refused_before_it_starts(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Config.of(**values)
    assert "\n" not in str(caught.value)


def test_dict_round_trip() -> None:
    config = Config.of(gamma=6, embedding_dim=64)
    assert Config.from_dict(config.as_dict()) == config


@pytest.mark.parametrize("values", [{"d": "100"}, {"d": True}, {"nothing": 1}, {"gamma": float("inf")}])
def test_a_bad_dict_is_refused(values: dict) -> None:
    with pytest.raises(UsageError):
        Config.from_dict(values)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=", ".join(PRESETS)):
        preset("papper")


def test_the_literal_preset_is_the_papers_recipe_and_nothing_else() -> None:
    config = preset("paper-literal")
    assert (
        config.model.embedding_dim,
        config.model.max_positions,
        config.optimizer.batch_prefixes,
        config.optimizer.epochs,
        config.loss.gamma,
    ) == (100, 50, 100, 50, 2.0)
    assert (config.model.init, config.optimizer.lr, config.optimizer.schedule, config.optimizer.warmup_epochs) == (
        "uniform",
        1e-3,
        "constant",
        0.0,
    )
    assert not any(
        (
            config.optimizer.weight_decay,
            config.optimizer.clip_norm,
            config.model.recent_weight,
            config.memory.enabled,
            config.loss.negative_term,
        )
    )
    assert config.loss.targets == "all"


@pytest.mark.parametrize("name", Config.__dataclass_fields__)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    value = getattr(Config(), name)
    shown = {float: f"{value:g}" if isinstance(value, float) else "", str: repr(value) if value else "none"}
    lines = re.findall(rf"^    {name} : .*, default (.*)$", Config.__doc__ or "", re.MULTILINE)
    assert lines == [shown.get(type(value), str(value))]
