"""`mtaw-fast bundles`: the bundle versions of a folder, and which of them is served."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.versions import CURRENT, BundleVersion, current_in, promote, roll_back, versions_in
from mtaw_fast.cli.common import add_command, print_json
from mtaw_fast.refreshing.service import versions_served


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "bundles", run,
        "mtaw-fast bundles shop/ --promote 2026-11-28.bundle    # and: mtaw-fast serve shop/current",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of bundles")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--promote", metavar="NAME", help=f"let FOLDER/{CURRENT} point to this bundle, in one step")
    action.add_argument("--roll-back", action="store_true", help="promote the previous bundle again")
    parser.add_argument(
        "--service", metavar="URL", help="ask this service which version it serves, such as http://localhost:8000"
    )
    parser.add_argument("--json", action="store_true", help="print the bundles as JSON")


def run(arguments: argparse.Namespace) -> None:
    """List the bundles of a folder; promote one to be served, or roll back."""
    folder = arguments.folder
    # Before anything changes; a service would need a moment to follow the name in any case.
    served = [] if arguments.service is None else versions_served(arguments.service)
    if arguments.promote is not None:
        previous = promote(folder, arguments.promote)
        message = f"{folder / CURRENT} is {arguments.promote} now{f', before {previous}' if previous else ''}"
    elif arguments.roll_back:
        previous, now = roll_back(folder)
        message = f"{folder / CURRENT} is {now} again, no longer {previous}"
    else:
        message = None
    versions = versions_in(folder)
    if arguments.json:
        rows = [dataclasses.asdict(bundle) | {"served": bundle.version in served} for bundle in versions]
        print_json({"current": current_in(folder), "bundles": rows})
        return
    if message is not None:
        print(message)
    for line in _table(versions, served, arguments.service):
        print(line)
    for version in served:
        if version not in {bundle.version for bundle in versions}:
            print(f"{arguments.service} serves {version}, which is not in {folder}")


def _table(bundles: list[BundleVersion], served: list[str], service: str | None) -> list[str]:
    width = max(len("bundle"), *(len(bundle.name) for bundle in bundles))
    lines = [
        f"  {'bundle':{width}}  {'version':16}  {'created':20}  {'items':>9}  {'P@20':>6}  {'MRR@20':>6}  data set"
    ]
    for bundle in bundles:
        p, mrr = (
            f"{bundle.metrics[name]:6.2f}" if name in bundle.metrics else f"{'-':>6}" for name in ("P@20", "MRR@20")
        )
        mark = "*" if bundle.current else " "
        served_by = f"  served by {service}" if bundle.version in served else ""
        created = bundle.created.replace("+00:00", "Z")
        promoted = f"  promoted {bundle.promoted}" if bundle.promoted else ""
        lines.append(
            f"{mark} {bundle.name:{width}}  {bundle.version}  {created:20}  {bundle.items:9,}  {p}  {mrr}  "
            f"{bundle.dataset}{promoted}{served_by}"
        )
    if not any(bundle.current for bundle in bundles):
        lines.append(f"none is promoted: there is no name '{CURRENT}'")
    return lines
