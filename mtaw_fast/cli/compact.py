"""`mtaw-fast compact`: write what a service learned into its compacted bundle, and redact its log."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.format import model_hash
from mtaw_fast.bundle.reader import read_manifest
from mtaw_fast.cli.common import add_command
from mtaw_fast.cli.learning_options import add_learning_options, add_side_by_side, learning_settings
from mtaw_fast.errors import UsageError
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.compaction.serving_lock import served_in
from mtaw_fast.online.settings import COMPACTED


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "compact", run, "mtaw-fast compact shop.bundle --learn shop.learned")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", nargs="?", help="folder made by 'train'")
    add_side_by_side(parser, "instead of BUNDLE, each bundle of the service; WEIGHT is not used here")
    add_learning_options(parser)
    parser.add_argument("--confirm-clock", action="store_true", help="the hosts' clocks are right, though times jumped")


def run(arguments: argparse.Namespace) -> None:
    """Write what was learned into the compacted bundle, and redact the log. Services that use the folder switch to the
    bundle. Give the same options as for 'serve', with every bundle."""
    settings = learning_settings(arguments)
    if settings is None:
        raise UsageError("compact: give the service's --learn")
    if settings.stream is None and not settings.folder.is_dir():
        raise UsageError(f"--learn {settings.folder} does not exist; name the folder of a service")
    bundles = [folder for folder, _ in arguments.side_by_side]
    arms = settings.of_arms(bundles) if bundles else [settings.of_one(arguments.bundle)]
    pairs = list(zip(bundles or [arguments.bundle], arms, strict=True))
    for bundle, arm in pairs:
        served = served_in(arm.folder)
        if served is not None and model_hash(read_manifest(served)) != model_hash(read_manifest(bundle)):
            raise UsageError(f"{arm.folder} is served with {served}, whose learning this overwrites; give that one")
    for bundle, arm in pairs:
        compact_folder(bundle, arm, wait=True, confirm_clock=arguments.confirm_clock)
        print(f"wrote {arm.folder / COMPACTED}")
