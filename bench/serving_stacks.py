"""`python -m bench.serving_stacks`: the command of `bench.serving.stacks`."""

import sys

from bench.serving.stacks import main

if __name__ == "__main__":
    sys.exit(main())
