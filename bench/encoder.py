"""`python -m bench.encoder`: the command of `bench.throughput.encoder`."""

import sys

from bench.throughput.encoder import main

if __name__ == "__main__":
    sys.exit(main())
