"""Settings: presets, overrides, documented defaults, errors that name the setting; the phases of a training."""

from __future__ import annotations

import re

import pytest

from mtaw_fast.cli import main
from mtaw_fast.config import PRESETS, Config, preset
from mtaw_fast.config.phases import EXPLAINED, phases_of
from mtaw_fast.errors import UsageError


def test_overrides_are_typed_and_the_last_one_wins() -> None:
    config = preset("paper").override(["gamma=6", "epochs=3", "negative_term=true", "schedule=constant", "epochs=4"])
    assert config == Config.of(gamma=6.0, epochs=4, negative_term=True, schedule="constant")
    assert type(config.loss.gamma) is float


def test_an_override_may_name_the_group() -> None:
    with_group = Config().override(["memory.window=20", "loss.gamma=6", " memory.enabled = true"])
    assert with_group == Config().override(["window=20", "gamma=6", "enabled=true"])
    assert (with_group.memory.window, with_group.memory.enabled) == (20, True)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("gama=2", "no setting 'gama'; did you mean 'gamma'?"),
        ("zzz=2", "no setting 'zzz'.*--help"),
        ("memory.gamma=2", r"no setting 'memory\.gamma'; memory has enabled, window"),
        ("memori.window=2", "no group of settings 'memori'; the groups are model, loss, optimizer, memory, ranker"),
        ("gamma", "key=value"),
        ("epochs=2.5", "epochs must be int"),
        ("lr=fast", "lr must be float"),
        ("lr=nan", "lr=nan is out of range"),
        ("negative_term=maybe", "negative_term must be bool"),
        ("scale=41", "scale=41.0 is out of range"),
        ("dropout=1", "dropout=1.0 is out of range"),
        ("max_session_length=513", "max_session_length=513 is out of range"),
        ("schedule=linear", "not one of cosine, constant"),
    ],
)
def test_a_bad_override_is_named(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Config().override([assignment])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cooccurrence_candidates": 70_000}, "cooccurrence_candidates=70000 is out of range"),
        ({"embedding_dim": 1 << 15}, "embedding_dim=32768 is out of range"),
        ({"window": 2**31}, "window=2147483648 is out of range"),
        ({"epochs": 10**30}, "epochs=10+ is out of range"),
        ({"lr": float("inf")}, "lr=inf is out of range"),
        ({"lr": 10**400}, "lr=10+.* is out of range"),
        ({"gamma": float("nan")}, "gamma=nan is out of range"),
        ({"clip_norm": float("inf")}, "clip_norm=inf"),
        ({"recent_weight": 0.001}, "recent_weight=0.001 is out of range"),
        ({"half_lives": "1m,5m"}, "half_lives='1m,5m' is out of range"),
        ({"type_weights": "view=-2"}, "setting type_weights: the weight of 'view'"),
        ({"embedding_dim": 100.0}, "embedding_dim must be int, not 100.0"),
        ({"enabled": 1}, "enabled must be bool, not 1"),
        ({"schedule": ["cosine"]}, "schedule must be str"),
        ({"negative_term": True, "loss_backend": "chunked"}, "negative_term=true: loss_backend=chunked does not have"),
        ({"negative_term": True, "softmax": "sampled"}, "softmax=sampled does not support negative_term=true"),
        ({"softmax": "sampled", "loss_backend": "native"}, "loss_backend=native computes the whole catalog"),
        ({"excluded_features": "repeat_rate, no_such"}, "excluded_features: there is no feature 'no_such'"),
    ],
)
def test_what_no_training_can_use_is_refused_before_it_starts(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Config.of(**values)
    assert "\n" not in str(caught.value)


def test_dict_round_trip() -> None:
    config = Config.of(gamma=6, embedding_dim=64, enabled=True)
    assert Config.from_dict(config.as_dict()) == config


@pytest.mark.parametrize(
    "values",
    [
        {"model": {"embedding_dim": "100"}}, {"model": {"embedding_dim": True}}, {"nothing": 1}, {"gamma": 2.0},
        {"loss": {"gamma": float("inf")}}, {"model": {"gamma": 2.0}}, {"loss": {"gamma": "2"}}, {"loss": 2},
        {"nothing": {}}, {"optimizer": {"lr": 10**400}}, {"loss": []}, {"loss": None},
    ],
)  # fmt: skip
def test_a_bad_dict_is_refused(values: dict) -> None:
    with pytest.raises(UsageError):
        Config.from_dict(values)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=", ".join(PRESETS)):
        preset("papper")


def test_the_literal_preset_is_the_papers_recipe_and_nothing_else() -> None:
    settings = preset("paper-literal").settings()
    expected = {
        "embedding_dim": 100, "max_positions": 50, "batch_prefixes": 100, "epochs": 50, "gamma": 2.0, "init": "uniform",
        "lr": 1e-3, "schedule": "constant", "warmup_epochs": 0.0, "weight_decay": 0.0, "clip_norm": 0.0,
        "recent_weight": 0.0, "enabled": False, "negative_term": False, "targets": "all", "patience": 5,
        "batches": "random-sessions",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected


NAMES = [(group, name) for group, settings in Config().as_dict().items() for name in settings]


def test_a_name_is_unique_over_all_groups() -> None:
    assert len(Config().settings()) == len(NAMES)


@pytest.mark.parametrize(("group", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_setting_is_documented_with_its_default(group: str, name: str) -> None:
    value = Config().settings()[name]
    shown = {float: f"{value:g}" if isinstance(value, float) else "", str: repr(value) if value else "none"}
    lines = re.findall(rf"^    {name} : .*, default (.*)$", getattr(Config(), group).__doc__, re.MULTILINE)
    assert lines == [shown.get(type(value), str(value))]


def test_the_phases_of_the_presets() -> None:
    full, paper = preset("full"), preset("paper")
    assert phases_of(full, True) == tuple(EXPLAINED)
    assert phases_of(full, False) == ("slice", "ranker", "search", "validate")
    assert phases_of(paper, True) == ("search", "refit")
    assert phases_of(paper, False) == ("search",)
    alone = full.replace(dense_candidates=0)
    assert phases_of(alone, True) == ("ranker", "search", "validate", "ranker-refit", "refit")


def test_help_explains_every_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    reported = " ".join(capsys.readouterr().out.split())
    for name, text in EXPLAINED.items():
        assert f"{name} {text}" in reported
