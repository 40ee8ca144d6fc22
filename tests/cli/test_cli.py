"""The command line as a user meets it: every command on a small log, and every misuse as one line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from mtaw_fast.cli import _parser, main, prepare
from mtaw_fast.cli.info import day_bars
from mtaw_fast.cli.learning_options import learning_settings
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import FORMATS, ClickOptions
from mtaw_fast.errors import UsageError
from mtaw_fast.storage.files import folder_lock
from tests.support.random_bundle import save_random

TINY = [
    "--set",
    "embedding_dim=16",
    "--set",
    "lr=0.03",
    "--set",
    "batch_prefixes=64",
    "--set",
    "validation_fraction=0.1",
]


def write_log(path: Path, sessions: int = 250, seed: int = 0) -> None:
    """Walks around a ring of 40 items with text ids, ten minutes a session."""
    rng = np.random.default_rng(seed)
    lines = ["session_id,item_id,timestamp"]
    for session in range(sessions):
        start, length = rng.integers(0, 40), rng.integers(2, 8)
        lines += [
            f"s{session},sku-{(start + t) % 40}é,{1_700_000_000 + 3600 * session + 60 * t}" for t in range(length)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, a data set and a bundle, made by the commands."""
    folder = tmp_path_factory.mktemp("work")
    write_log(folder / "clicks.csv")
    assert main(["prepare", "clicks", f"{folder}/clicks.csv", f"{folder}/dataset", "--test-days", "2"]) == 0
    assert main(["train", f"{folder}/dataset", f"{folder}/bundle", "--epochs", "3", *TINY, "--json"]) == 0
    return folder


def failure(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail with `status`; returns its error, which must be one line."""
    capsys.readouterr()
    assert main(arguments) == status
    error = capsys.readouterr().err
    assert error.startswith("mtaw-fast: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_the_whole_path(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", f"{work}/bundle", f"{work}/dataset", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["P@20"] > 60  # chance: half of the 40 items
    assert set(result["baselines"]) >= {
        "popularity",
        "own items, recent first",
        "own items, frequent first",
        "co-occurrence + repeats",
    }
    assert result["repeat"]["samples"] + result["non_repeat"]["samples"] == result["samples"]
    low, high = result["intervals"]["P@20"]
    assert low <= result["P@20"] <= high

    assert main(["recommend", f"{work}/bundle", "sku-3é", "sku-4é", "-k", "5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["items"]) == 5
    assert not answer["fallback"]
    assert answer["scores"] == sorted(answer["scores"], reverse=True)

    asked = ["recommend", f"{work}/bundle", "sku-3é", "sku-4é", "-k", "40", "--reasons"]
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    reasons = dict(zip(answer["items"], answer["reasons"], strict=True))
    assert reasons["sku-3é"] == {"kind": "session", "items": []}
    assert reasons["sku-5é"]["kind"] == "together"
    assert reasons["sku-5é"]["items"][0] == "sku-4é"
    assert main(asked) == 0
    lines = capsys.readouterr().out
    assert "sku-3é  (in the session)\n" in lines
    assert "sku-5é  (clicked together with sku-4é, sku-3é)\n" in lines


@pytest.mark.parametrize("encoder", ["native", "numpy", "torch"])
@pytest.mark.parametrize("index", ["numpy", "faiss-flat"])
def test_every_encoder_and_index_evaluates_alike(
    work: Path, capsys: pytest.CaptureFixture[str], encoder: str, index: str
) -> None:
    capsys.readouterr()
    arguments = ["evaluate", f"{work}/bundle", f"{work}/dataset", "--json", "--no-baselines"]
    assert main(arguments) == 0
    expected = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--encoder", encoder, "--index", index]) == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["encoder"], got["index"]) == (encoder, index)
    assert got["P@20"] == expected["P@20"]
    assert got["MRR@20"] == pytest.approx(expected["MRR@20"], abs=1e-9)


def test_the_table_names_every_row(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"{work}/bundle", f"{work}/dataset", "--split", "validation"]) == 0
    captured = capsys.readouterr()
    assert "refit on the validation sessions" in captured.err
    rows = [line for line in captured.out.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "model", "popularity", "own items, recent first", "own items, frequent first", "co-occurrence + repeats",
    ]  # fmt: skip


def test_info(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["info", f"{work}/dataset", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    dataset = Dataset.load(work / "dataset")
    assert facts["train samples"] == dataset.train.n_clicks - len(dataset.train)
    assert facts["test samples"] == len(dataset.test)
    assert facts["items"] == 40
    train_times, test_times = dataset.train.times, dataset.test.target_times
    assert train_times is not None
    assert test_times is not None
    first, last = np.array([train_times.min(), test_times.max()], dtype="datetime64[ms]").astype("datetime64[s]")
    assert facts["times"] == {"from": f"{first}Z", "to": f"{last}Z", "of": "train and test"}
    assert facts["types"] is None
    assert facts["reader"]["format"] == "clicks"
    assert main(["info", f"{work}/bundle", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    # E, P and the five linear layers' and LayerNorm's weights, and what the recent clicks count
    assert facts["parameters"] == 40 * 16 + 512 * 16 + 4 * (16 * 16 + 16) + 2 * 16 + 2
    assert facts["session memory"]["sessions"] == len(dataset.train)
    assert facts["session memory"]["clicks"] == dataset.train.n_clicks
    assert main(["info", f"{work}/bundle"]) == 0
    assert "parameters" in capsys.readouterr().out


def test_info_on_types_and_on_a_set_without_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A column --type without --types: all rows count, and every one keeps its type."""
    rows = [f"s{k // 4},i{k % 3},{1_700_000_000 + 9000 * k},{'buy' if k % 4 == 3 else 'view'}\n" for k in range(80)]
    (tmp_path / "log.csv").write_text("session_id,item_id,timestamp,kind\n" + "".join(rows))
    command = ["prepare", "clicks", f"{tmp_path}/log.csv", f"{tmp_path}/set", "--test-days", "1", "--type", "kind"]
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["types"] == {"buy": facts["train sessions"], "view": 3 * facts["train sessions"]}
    assert facts["times"]["from"] == "2023-11-14T22:13:20Z"
    arrays = {"items": np.array([1, 2], np.int32), "offsets": np.array([0, 2])}
    np.savez(tmp_path / "train.npz", **arrays, n_items=np.int32(2), min_prefix=np.int32(1))
    np.savez(tmp_path / "test.npz", **arrays, labels=np.array([2], np.int32), session=np.array([0], np.int32))
    assert main(["prepare", "npz", f"{tmp_path}", f"{tmp_path}/plain"]) == 0
    capsys.readouterr()
    assert main(["info", f"{tmp_path}/plain"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["times"], lines["types"]) == ("none", "none")


def test_recommend_speaks_of_unknown_items_and_fallback(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", f"{work}/bundle", "nothing", "-k", "3"]) == 0
    out = capsys.readouterr().out
    assert "not in the catalog: nothing" in out
    assert "items that are rising" in out
    assert len(out.splitlines()) == 5


def test_the_bundle_serves_alike_in_another_process(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", f"{work}/bundle", "sku-7é", "--json", "--at", "2026-11-26T12:00"]
    capsys.readouterr()
    assert main(command) == 0
    here = capsys.readouterr().out
    there = subprocess.run([sys.executable, "-m", "mtaw_fast", *command], capture_output=True, text=True, check=True)
    assert there.stdout == here


@pytest.mark.parametrize("target", ["/proc/none/bundle", "/proc/bundle", "/sys/kernel/bundle"])
def test_train_refuses_a_folder_that_cannot_be_written_before_it_trains(
    work: Path, capsys: pytest.CaptureFixture[str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtaw_fast.training.train", lambda *_, **__: pytest.fail("it trained"))
    assert "cannot write into /" in failure(["train", f"{work}/dataset", target], 1, capsys)


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], (None, 1)), (["--threads", "auto"], (None, 1)), (["--threads", "3", "--encoder-threads", "2"], (3, 2)),
     (["--encoder-threads", "auto"], (None, 5))],
    ids=["nothing said", "auto", "numbers", "encoder auto"],
)  # fmt: skip
def test_train_hands_on_how_many_threads_it_may_take(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: tuple[int | None, int]
) -> None:
    def fake_train(*_: object, threads: int | None, encoder_threads: int, **__: object) -> None:
        raise UsageError(f"asked for {threads}, {encoder_threads}")

    monkeypatch.setattr("mtaw_fast.training.train", fake_train)
    monkeypatch.setattr("mtaw_fast.cli.train.usable_cpus", lambda: 5)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    failed: list[str] = []
    monkeypatch.setattr("mtaw_fast.cli._fail", lambda message, *_: failed.append(message) or 2)
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *options]) == 2
    assert failed == [f"asked for {expected[0]}, {expected[1]}"]
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_plan_is_printed_and_nothing_is_trained(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table_memory = pytest.importorskip("mtaw_fast.training.memory_tables")
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("plan: full softmax (always for a log of this size)")
    assert "2 epochs over" in out or "1 epoch over" in out
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["softmax"], plan["seconds"]) == ("full", None)
    assert [phase["name"] for phase in plan["phases"]][-1] == "refit"
    seen: list[int | None] = []
    real = table_memory.TableMemory
    monkeypatch.setattr(table_memory, "TableMemory", lambda limit, folder: seen.append(limit) or real(limit, folder))
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan", "--table-memory", "2.5"]) == 0
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan"]) == 0
    assert seen == [2_500_000_000, None]
    capsys.readouterr()
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan", "--resume"]) == 2
    assert "works for a new run only" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_training_waits_passively_unless_told_otherwise() -> None:
    """OpenMP reads the setting when PyTorch is loaded, so that must come after."""
    code = (
        "import os, sys\nfrom mtaw_fast.cli import main, train\nassert 'torch' not in sys.modules\n"
        "train.require = lambda *_: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules) or sys.exit(0)\n"
        "main(['train', 'a', 'b'])"
    )
    for given, expected in ((None, "PASSIVE False\n"), ("ACTIVE", "ACTIVE False\n")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout == expected


def test_train_refuses_an_existing_bundle(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--overwrite" in failure(["train", f"{work}/dataset", f"{work}/bundle"], 2, capsys)


def test_two_trainings_cannot_share_a_bundle(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock(tmp_path / "b.training", UsageError):
        error = failure(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY], 2, capsys)
    assert "being written by another process" in error
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_the_data_set_unmade(work: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from mtaw_fast.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = ["prepare", "clicks", f"{work}/clicks.csv", f"{tmp_path}/d"]
    done = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("mtaw-fast: cannot write")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_prepare_refuses_an_existing_data_set(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = failure(["prepare", "clicks", f"{work}/clicks.csv", f"{work}/dataset"], 2, capsys)
    assert "already holds a data set" in error


def test_a_flipped_byte_in_a_bundle_is_refused(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["cp", "-r", f"{work}/bundle", f"{tmp_path}/bundle"], check=True)
    weights = next((tmp_path / "bundle").glob("weights-*"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert weights.name in failure(["recommend", f"{tmp_path}/bundle", "sku-1é"], 1, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["train", "only-one"], "BUNDLE"),
        (["train", "{work}/dataset", "{tmp}/b", "--set", "gama=2"], "no setting 'gama'"),
        (["train", "{work}/dataset", "{tmp}/b", "--preset", "none"], "no preset 'none'"),
        (["train", "{work}/dataset", "{tmp}/b", "--device", "tpu9"], "device 'tpu9'"),
        (["train", "{work}/dataset", "{tmp}/b", "--epochs", "many"], "invalid int"),
        (["train", "{work}/dataset", "{tmp}/b", "--budget-minutes", "soon"], "'soon' is not a time"),
        (["train", "{work}/dataset", "{tmp}/b", "--threads", "0"], "'0' is not a number of threads"),
        (["train", "{work}/dataset", "{tmp}/b", "--encoder-threads", "all"], "'all' is not a number of threads"),
        (["prepare", "xml", "{work}/clicks.csv", "{tmp}/d"], "no format 'xml'"),
        (["prepare", "npz", "{work}", "{tmp}/d", "--gap", "3"], "--gap works only with the format clicks"),
        (["recommend", "{work}/bundle", "a", "-k", "0"], "k"),
        (["recommend", "{work}/bundle", "a", "--index", "hnsw"], "hnsw"),
        (["evaluate", "{work}/bundle", "{work}/dataset", "--split", "future"], "future"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_misuse_is_one_line_and_status_2(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    filled = [part.format(work=work, tmp=tmp_path) for part in arguments]
    assert message in failure(filled, 2, capsys)
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "{tmp}"], "manifest.json does not exist"),
        (["evaluate", "{work}/dataset", "{work}/dataset"], "bundle"),
        (["train", "{tmp}", "{tmp}/b"], "prepare"),
        (["prepare", "clicks", "{tmp}/none.csv", "{tmp}/d"], "none.csv"),
        (["recommend", "{tmp}/none", "a"], "none"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_status_1(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    filled = [part.format(work=work, tmp=tmp_path) for part in arguments]
    assert message in failure(filled, 1, capsys)


@pytest.mark.parametrize("text", ["²", "--5", "5.0", "", "9" * 5000])
def test_a_typed_id_that_is_no_integer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    save_random(tmp_path / "bundle", text=False)
    error = failure(["recommend", f"{tmp_path}/bundle", "--", "5", text], 2, capsys)
    assert "this bundle's item ids are integers" in error
    assert repr(text)[:60] in error


@pytest.mark.parametrize("text", ["²²²²²²²²²²", "99999999999999999999", "9" * 5000])
def test_a_moment_of_odd_digits_is_one_line(work: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    error = failure(["recommend", f"{work}/bundle", "sku-1é", "--at", text], 2, capsys)
    assert f"--at {text!r} is not a time; write 2017-10-15" in error


@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize("option", ["--name", "--item", "--types", "SOURCE", "DATASET"])
def test_a_text_that_is_no_utf8_is_one_line(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, parted: bool
) -> None:
    """Such as a path of an older system hands over; a manifest holds none. Other signs that do not print may stand."""
    given = {"SOURCE": f"{work}/clicks.csv", "DATASET": f"{tmp_path}/set", "--name": "n\u200bé\x07"}
    given[option] = "caf\udce9" if option != "DATASET" else f"{tmp_path}/caf\udce9"

    def command() -> list[str]:
        options = [part for name, text in given.items() if name.startswith("--") for part in (name, text)]
        return ["prepare", "clicks", given["SOURCE"], given["DATASET"], *options, *(["--partitions", "2"] * parted)]

    error = failure(command(), 2, capsys)
    assert f"{option} {given[option]!r} is not UTF-8 text; give another name" in error
    assert not list(tmp_path.iterdir())
    if option == "--name":
        given[option] = "n\u200bé\x07"
        assert main(command()) == 0
        assert json.loads((tmp_path / "set/manifest.json").read_text())["name"] == "n\u200bé\x07"


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {name: parser for action in actions for name, parser in action.choices.items()}


def options() -> list[tuple[str, argparse.ArgumentParser, argparse.Action]]:
    return [(name, parser, action) for name, parser in commands().items() for action in parser._actions]


def test_every_command_has_help_with_an_example() -> None:
    assert len(commands()) == 12
    for name, parser in commands().items():
        assert f"example:\n  mtaw-fast {name} " in parser.format_help()
    for name, _, action in options():
        assert action.help, f"{name}: {action.dest} has no help"


def test_the_help_lists_the_settings_by_group_and_what_a_preset_changes() -> None:
    text = commands()["train"].format_help()
    assert "\n  model: embedding_dim=" in text
    literal = text.split("changed settings in the preset 'paper-literal':\n")[1]
    assert "dropout=0.2" in literal
    assert "embedding_dim" not in literal


@pytest.mark.parametrize(
    ("given", "min_clicks"), [([], 1), (["--min-clicks", "3"], 3), (["--learn-limit", "min_clicks=4"], 4),
    (["--min-clicks", "3", "--learn-limit", "min_clicks=4"], 4)],
)  # fmt: skip
def test_a_learn_limit_wins_over_min_clicks(given: list[str], min_clicks: int) -> None:
    arguments = _parser().parse_args(["serve", "shop.bundle", "--learn", "log", "--learn-limit", "late=7", *given])
    settings = learning_settings(arguments)
    assert settings is not None
    assert (settings.limits.min_clicks, settings.limits.late) == (min_clicks, 7)


def test_help_shows_every_default_and_every_choice() -> None:
    seen = set()
    for name, command, action in options():
        text = " ".join(command.format_help().split())
        if not action.option_strings or name not in ("prepare", "train", "tune", "evaluate", "info"):
            continue
        seen.add(name)
        own = command._get_formatter()._expand_help(action)
        assert "object at 0x" not in own, f"{name} {action.option_strings[0]} shows a default that is none"
        if action.default not in (None, False, [], argparse.SUPPRESS) and name != "prepare":
            assert "default:" in own, f"{name} {action.option_strings[0]} hides its default, {action.default}"
        for choice in action.choices or ():
            assert str(choice) in text
    assert len(seen) == 5


def test_the_defaults_that_prepare_tells_are_those_of_the_options() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(ClickOptions)}
    for name, _, action in options():
        if name == "prepare" and action.dest in defaults and isinstance(defaults[action.dest], (int, float, str)):
            value = defaults[action.dest]
            assert f"(default: {value if isinstance(value, str) else f'{value:g}'})" in str(action.help), action.dest
        if name == "prepare" and action.choices:
            assert tuple(action.choices) == get_args(get_type_hints(ClickOptions)[action.dest])
    assert set(prepare._FORMATS) == set(FORMATS)


def test_prepare_tells_the_truth_about_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every event twice, a bot, a bad row, rows in 2099: counted, drawn, warned of, and kept."""
    write_log(tmp_path / "clicks.csv")
    head, *rows = (tmp_path / "clicks.csv").read_text().splitlines()
    rows = [row for row in rows for _ in range(2)]
    rows += [f"bot,sku-{k % 40}é,{1_700_000_000 + k}" for k in range(1500)]
    rows += ["late,sku-1é,4070908800", "late,sku-2é,4070908860", "broken,,soon"]
    (tmp_path / "odd.csv").write_text("\n".join([head, *rows]) + "\n")
    asked = ["prepare", "clicks", f"{tmp_path}/odd.csv", f"{tmp_path}/set", "--test-days", "2"]
    assert "--bad-rows skip" in failure(asked, 1, capsys)
    assert main([*asked, "--bad-rows", "skip"]) == 0
    out = capsys.readouterr().out
    assert f"rows         {len(rows):,}, 1 bad; {len(rows) - 1:,} clicks\n" in out
    assert "1 too long; the longest has 1,500 clicks" in out
    assert "% on items that training never saw" in out
    bars = [line for line in out.splitlines() if "█" in line]
    assert [line.split()[0] for line in bars][:2] == ["2023-11-14", "2023-11-15"]
    assert ".. 27,4" in out
    assert "  2099-01-01 ▏ 2\n" in out
    warned = [line for line in out.splitlines() if line.startswith("warning: ")]
    for part in (
        "in the future",
        "after all others",
        "of more than 500 clicks",
        "logged twice",
        "too few: a useful model",
    ):
        assert any(part in line for line in warned), part
    assert main(["info", f"{tmp_path}/set"]) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in [*bars, *warned])
    assert main(["info", f"{tmp_path}/set", "--json"]) == 0
    log = json.loads(capsys.readouterr().out)["log"]
    assert json.loads((tmp_path / "set/manifest.json").read_text())["preparation"]["log"] == log
    assert (log["rows"], log["bad_rows"], log["long_sessions"]) == (len(rows), 1, 1)
    assert [f"warning: {text}" for text in log["warnings"]] == warned
    assert main([*asked, "--bad-rows", "skip", "--dedupe", "1", "--overwrite", "--json", "--max-session", "none"]) == 0
    log = json.loads(capsys.readouterr().out)["log"]
    assert log["dropped_repeats"] == (len(rows) - 1503) // 2
    assert not any("logged twice" in text for text in log["warnings"])
    assert any("a bot?" in text for text in log["warnings"])


@pytest.mark.parametrize(("days", "gap"), [(1, 0), (28, 0), (29, 0), (400, 0), (60, 5000)])
def test_the_chart_of_days_holds_every_click(days: int, gap: int) -> None:
    names = np.datetime_as_string(
        np.array([np.datetime64("2024-01-01") + k + (gap if k > days // 2 else 0) for k in range(days)])
    )
    counts = {str(name): 1 + (7 * k) % 13 for k, name in enumerate(names)}
    lines = day_bars(counts)
    rows = [line.split() for line in lines if not line.startswith("  ..")]
    assert len(rows) <= 30
    assert len(lines) - len(rows) == (1 if gap else 0)
    if days <= 28:
        assert [(row[0], int(row[-1])) for row in rows] == list(counts.items())
    assert max(len(row[1]) for row in rows) == 40
    step = -(-days // 28)
    means = [float(row[-1].replace(",", "")) for row in rows]
    assert abs(sum(means) * step - sum(counts.values())) <= step * len(rows) + 13 * step


def test_importing_the_package_is_light() -> None:
    """No torch, no onnxruntime, no faiss: a service pays for what it uses."""
    code = "import sys, mtaw_fast; from mtaw_fast import Recommender; print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0].strip("'[ ") for name in done.stdout.split(",")}
    assert not loaded & {"torch", "onnxruntime", "faiss", "polars", "matplotlib", "rich"}


def test_a_closed_pipe_is_no_failure(work: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "mtaw_fast", "recommend", f"{work}/bundle", "sku-1é"],
        stdout=write_end, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "train_samples", "test_samples", "items", "average"),
    [("tmall", 351_268, 25_898, 40_727, 6.69), ("retailrocket", 433_648, 15_132, 36_968, 5.43)],
)
def test_info_on_the_public_sets(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    train_samples: int,
    test_samples: int,
    items: int,
    average: float,
) -> None:
    if "MTAW_DATA" not in os.environ:
        pytest.skip("MTAW_DATA (a folder with tmall/ and retailrocket/) is not set")
    assert main(["prepare", "npz", f"{os.environ['MTAW_DATA']}/{name}", f"{tmp_path}/{name}"]) == 0
    capsys.readouterr()
    assert main(["info", f"{tmp_path}/{name}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["train samples"] == train_samples
    assert facts["test samples"] == test_samples
    assert facts["items"] == items
    assert facts["average session length"] == pytest.approx(average, abs=0.01)


def test_a_training_spares_a_data_set_in_its_run_folder(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["cp", "-r", f"{work}/dataset", f"{tmp_path}/b.training"], check=True)
    before = {path.name for path in (tmp_path / "b.training").iterdir()}
    assert "which no training wrote" in failure(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY], 2, capsys)
    assert {path.name for path in (tmp_path / "b.training").iterdir()} == before
