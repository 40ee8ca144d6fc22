"""The tables that the pages have between `<!-- NAME -->` and `<!-- end -->`, each from its records.

python -m bench.suite.tables [NAME ..]       print them
python -m bench.suite.tables --write DIR     write each into the Markdown files of DIR, such as docs
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.harness import register
from bench.harness.report import command
from bench.peers.table import Tables as PeerTables
from bench.suite import result_tables, service_tables, speed_tables
from bench.suite.measured import Measured
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.storage.files import write_bytes

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?P<begin><!-- (?P<name>(?!end -->)[^\n]+?) -->)\n(?:(?!<!-- ).)*(?P<end><!-- end -->)", re.DOTALL)
Blocks = Mapping[str, Callable[[], str]]


def blocks(root: Path = ROOT) -> Blocks:
    """Return what makes each table, by name. root: the checkout whose records count."""
    results = root / "docs/results"
    measured = Measured.read(root / "bench/results")
    peers = PeerTables.read(results, results)
    reads = register.tables(register.lines(results))
    return {
        **{
            f"bench {name}": partial(make, measured)
            for name, make in {**speed_tables.BLOCKS, **service_tables.BLOCKS}.items()
        },
        **{name: partial(make, results) for name, make in result_tables.BLOCKS.items()},
        **{
            f"by hand: {name}": partial(result_tables.by_hand, results, name)
            for name in result_tables.by_hand_names(results)
        },
        **{f"peers {dataset} quality": partial(peers.quality, dataset) for dataset in ("tmall", "retailrocket")},
        **{f"peers {dataset} cost": partial(peers.cost, dataset) for dataset in ("tmall", "retailrocket")},
        "test reads, by hand": lambda: reads["hand"],
        "test reads, from records": lambda: reads["records"],
    }


def filled(page: str, made: Blocks) -> str:
    """Return the page with every table made again. Raises DataError on a name that nothing makes."""

    def table(match: re.Match[str]) -> str:
        make = made.get(match["name"])
        if make is None:
            raise DataError(f"no command makes the table {match['begin']}; the tables are {', '.join(made)}")
        return f"{match['begin']}\n\n{make()}\n\n{match['end']}"

    return BLOCK.sub(table, page)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print tables, or write them into pages; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.suite.tables", description="Print the pages' tables, or write them into the pages."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="tables to print (default: all)")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write every table into the Markdown files of DIR")
    options = parser.parse_args(argv)
    if options.write is not None and options.names:
        raise UsageError("--write writes every table: leave the names out")
    tables = blocks()
    if options.write is None:
        unknown = [name for name in options.names if name not in tables]
        if unknown:
            raise UsageError(f"there is no table {unknown[0]!r}; the tables are {', '.join(tables)}")
        for name in options.names or tables:
            print(f"<!-- {name} -->\n\n{tables[name]()}\n")
        return 0
    for path in sorted(options.write.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        updated = filled(text, tables)
        if updated != text:
            write_bytes(path, updated.encode())
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
