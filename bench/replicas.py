"""`python -m bench.replicas`: the command of `bench.serving.replicas`."""

import sys

from bench.serving.replicas import main

if __name__ == "__main__":
    sys.exit(main())
