"""`python -m bench.memory_build`: the command of `bench.prepare.memory_build`."""

import sys

from bench.prepare.memory_build import main

if __name__ == "__main__":
    sys.exit(main())
