"""`python -m bench.throughput`."""

import sys

from bench.throughput.command import main

if __name__ == "__main__":
    sys.exit(main())
