"""`python -m bench.retrieval`."""

import sys

from bench.retrieval.command import main

if __name__ == "__main__":
    sys.exit(main())
