"""`python -m mtaw_fast` is the `mtaw-fast` command."""

import sys

from mtaw_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
