"""`python -m bench.export`: the command of `bench.prepare.export`."""

import sys

from bench.prepare.export import main

if __name__ == "__main__":
    sys.exit(main())
