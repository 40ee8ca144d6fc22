"""`python -m bench.prepare`."""

import sys

from bench.prepare.command import main

if __name__ == "__main__":
    sys.exit(main())
